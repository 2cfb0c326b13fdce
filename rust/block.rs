//! One block of rows, from exponentials to everything it yields: f_i, the row mass r_i, a part of q and of the Gram.
//!
//! The exponentials, which `source` brings, lie in a strip (rows, m) that stays in the second-level cache.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::aligned::Aligned;
use crate::error::Error;
use crate::frame::Frame;
use crate::kept::row_codes;
use crate::left::{Bend, Left};
use crate::problem::Wanted;
use crate::sizes::stride;
use crate::source::Source;

/// What one block of rows yields. Rows are counted from the first that is read; sums over columns are times n.
#[derive(Debug, Default)]
pub struct Part {
    /// Its first row.
    pub first_row: usize,
    /// Column marginal, by column of the packed target.
    pub q: Vec<f32>,
    /// sum_i v_i (r_i - w_i) p_i, likewise.
    pub surplus: Vec<f32>,
    /// Soft minima of its rows.
    pub f: Vec<f32>,
    /// Hard minima.
    pub hard: Vec<f32>,
    /// Columns of the hard minima.
    pub nearest: Vec<i32>,
    /// sum_i phi_i(f_i)
    pub value: f64,
    /// sum_i min(lo_i h_i, hi_i h_i + (hi_i - lo_i) price_i)
    pub hard_value: f64,
    /// sum_i r_i (-sum_j p_ij log p_ij)
    pub entropy: f64,
    /// What its Gram is made of.
    pub left: Left,
}

impl Part {
    /// The row after its last.
    #[must_use]
    pub fn end(&self) -> usize {
        self.first_row + self.f.len()
    }

    /// Write the block's share of the outputs.
    pub fn write(&self, wanted: &mut Wanted) {
        let rows = self.first_row..self.end();
        if let Some(out) = &mut wanted.f {
            out[rows.clone()].copy_from_slice(&self.f);
        }
        if let Some(out) = &mut wanted.hard {
            out[rows.clone()].copy_from_slice(&self.hard);
        }
        if let Some(out) = &mut wanted.nearest {
            out[rows].copy_from_slice(&self.nearest);
        }
    }
}

/// Rows that are added up at once, as many as an addition takes.
const FEW: usize = 4;

/// One thread's buffers.
struct Workspace<Space> {
    source: Space,
    strip: Aligned,
    values: Vec<f64>,
    hard_values: Vec<f64>,
    mass: Vec<f32>,
    bends: Vec<Bend>,
    surplus: Vec<f32>,
}

/// Everything that blocks share.
pub struct Work<'a, S: Source> {
    source: &'a S,
    frame: &'a Frame<'a>,
    ld: usize,
    gram: bool,
    nearest: bool,
    idle: Mutex<Vec<Workspace<S::Space>>>,
}

impl<'a, S: Source> Work<'a, S> {
    /// Blocks of these rows.
    pub fn new(source: &'a S, frame: &'a Frame<'a>, wanted: &Wanted) -> Self {
        Self {
            source,
            frame,
            ld: stride(frame.width),
            gram: wanted.gram,
            nearest: wanted.nearest.is_some(),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Sweep a block of rows, and keep their plan in `codes`, unless that is empty.
    ///
    /// # Errors
    /// If a row cannot be used.
    pub fn run(&self, block: usize, part: &mut Part, codes: &mut [u8]) -> Result<(), Error> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut space = idle.unwrap_or_else(|| self.workspace());
        part.first_row = block * self.frame.block_rows;
        let rows = self.frame.block_rows.min(self.frame.rows - part.first_row);
        let Workspace { source, strip, .. } = &mut space;
        let strip = (strip.as_mut(), self.ld);
        let result = self.source.read(part.first_row, rows, source, strip);
        if result.is_ok() {
            self.see(rows, &mut space, part, codes);
        }
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(space);
        result
    }

    fn workspace(&self) -> Workspace<S::Space> {
        Workspace {
            source: self.source.space(),
            strip: Aligned::zeros(self.frame.block_rows * self.ld),
            values: Vec::new(),
            hard_values: Vec::new(),
            mass: Vec::new(),
            bends: Vec::new(),
            surplus: Vec::new(),
        }
    }

    /// A few rows at a time, which then lie in the first cache: exponentials, minima, masses, and column sums.
    fn see(&self, rows: usize, space: &mut Workspace<S::Space>, part: &mut Part, codes: &mut [u8]) {
        part.entropy = 0.0;
        for list in [&mut part.f, &mut part.hard, &mut space.mass] {
            list.clear();
        }
        space.bends.clear();
        part.nearest.clear();
        part.left.clear();
        space.values.clear();
        space.hard_values.clear();
        for sum in [&mut part.q, &mut part.surplus] {
            sum.clear();
            sum.resize(self.frame.width, 0.0);
        }
        let mut codes = codes.chunks_mut(FEW * row_codes(self.frame.keep.len()));
        for first in (0..rows).step_by(FEW) {
            let few = first..rows.min(first + FEW);
            self.see_few(few.clone(), space, part, codes.next().unwrap_or_default());
            self.add_up(few, space, part);
        }
        // Not row by row: as pairs, which they then are, they are read once a row of the strip is written, and no sooner.
        part.value = space.values.iter().sum();
        part.hard_value = space.hard_values.iter().sum();
    }

    /// Row by row: exponentials, minima, masses.
    fn see_few(
        &self,
        rows: Range<usize>,
        space: &mut Workspace<S::Space>,
        part: &mut Part,
        codes: &mut [u8],
    ) {
        let Workspace {
            source,
            strip,
            values,
            hard_values,
            mass,
            bends,
            ..
        } = space;
        let Frame {
            place, keep, eps, ..
        } = *self.frame;
        let (n, mut codes) = (place.n as f64, codes.chunks_mut(row_codes(keep.len())));
        let strip = &mut strip.as_mut()[self.begin(rows.start)..];
        for (r, e) in rows.zip(strip.chunks_mut(self.ld)) {
            let seen = self.source.exponentials(part.first_row, r, source, e);
            if let Some(codes) = codes.next() {
                self.frame.kernel.keep(e, codes);
            }
            let row = self
                .frame
                .rule
                .apply(part.first_row + r, seen.f, seen.hard, eps);
            part.f.push(seen.f as f32);
            part.hard.push(seen.hard as f32);
            if self.nearest {
                part.nearest.push(keep[seen.nearest] as i32);
            }
            values.push(row.phi);
            hard_values.push(row.hard);
            part.entropy += row.r * seen.bits * std::f64::consts::LN_2;
            // Times n, so that masses of 1/n sit in the middle of float32's range.
            let sum = f64::from(seen.sum);
            mass.push((row.r * n / sum) as f32);
            if self.gram {
                bends.push(Bend {
                    row: place.first + part.first_row + r,
                    mass: row.r * n,
                    weight: row.w * n / sum.powi(2),
                    surplus: (row.r - row.w) * n / sum,
                    sum: seen.sum,
                });
            }
        }
    }

    /// Where the strip has a few rows, the first of which is `row`. What no product has filled shares one place, which then
    /// does not leave the first cache.
    fn begin(&self, row: usize) -> usize {
        if S::FILLS { row * self.ld } else { 0 }
    }

    /// Add exponentials times masses of a few rows to the column sums, and take those that are left in the Gram.
    fn add_up(&self, rows: Range<usize>, space: &mut Workspace<S::Space>, part: &mut Part) {
        let strip = &space.strip.as_ref()[self.begin(rows.start)..];
        let Frame { kernel, worthy, .. } = *self.frame;
        let (columns, surplus) = (self.frame.keep.len(), &mut space.surplus);
        kernel.add_rows(&mut part.q, strip, self.ld, &space.mass[rows.clone()]);
        if self.gram {
            surplus.clear();
            for (row, bend) in strip.chunks(self.ld).zip(&space.bends[rows]) {
                let stands_for = part.left.take((row, columns), bend, worthy, kernel);
                surplus.push((bend.surplus * stands_for) as f32);
            }
            if surplus.iter().any(|surplus| *surplus != 0.0) {
                kernel.add_rows(&mut part.surplus, strip, self.ld, surplus);
            }
        }
    }
}
