//! One block of rows, from exponentials to everything it yields: f_i, the row mass r_i, a part of q and of the Gram.
//!
//! The exponentials, which `source` brings, lie in a strip (rows, m) that stays in the second-level cache.

use std::sync::{Mutex, PoisonError};

use crate::aligned::Aligned;
use crate::error::Error;
use crate::frame::Frame;
use crate::gram::PackedPlan;
use crate::kept::row_codes;
use crate::problem::Wanted;
use crate::sizes::stride;
use crate::source::Source;
use crate::thinning::stands_for;

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
    pub plan: PackedPlan,
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

/// One thread's buffers.
struct Workspace<Space> {
    source: Space,
    strip: Aligned,
    mass: Vec<f32>,
    gram_weight: Vec<f32>,
    gram_surplus: Vec<f32>,
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
            self.add_up(&space, part);
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
            mass: Vec::new(),
            gram_weight: Vec::new(),
            gram_surplus: Vec::new(),
        }
    }

    /// Row by row: exponentials, minima, masses.
    fn see(&self, rows: usize, space: &mut Workspace<S::Space>, part: &mut Part, codes: &mut [u8]) {
        let Workspace {
            source,
            strip,
            mass,
            gram_weight,
            gram_surplus,
        } = space;
        let Frame {
            place,
            keep,
            eps,
            worthy,
            ..
        } = *self.frame;
        let (n, mut codes) = (place.n as f64, codes.chunks_mut(row_codes(keep.len())));
        (part.value, part.hard_value, part.entropy) = (0.0, 0.0, 0.0);
        for list in [&mut part.f, &mut part.hard, mass, gram_weight, gram_surplus] {
            list.clear();
        }
        part.nearest.clear();
        for (r, e) in strip.as_mut().chunks_mut(self.ld).take(rows).enumerate() {
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
            part.value += row.phi;
            part.hard_value += row.hard;
            part.entropy += row.r * seen.bits * std::f64::consts::LN_2;
            // Times n, so that masses of 1/n sit in the middle of float32's range.
            let sum = f64::from(seen.sum);
            mass.push((row.r * n / sum) as f32);
            if self.gram {
                let number = place.first + part.first_row + r;
                let stands_for = stands_for(number, row.r * n, worthy);
                gram_weight.push((row.w * stands_for * n / sum.powi(2)) as f32);
                gram_surplus.push(((row.r - row.w) * stands_for * n / sum) as f32);
            }
        }
    }

    /// The sums over the block's rows, of exponentials times masses.
    fn add_up(&self, space: &Workspace<S::Space>, part: &mut Part) {
        let (strip, width) = (space.strip.as_ref(), self.frame.width);
        let mut sums = vec![(&mut part.q, &space.mass)];
        if self.gram {
            sums.push((&mut part.surplus, &space.gram_surplus));
        }
        for (sum, weights) in sums {
            sum.clear();
            sum.resize(width, 0.0);
            self.frame.kernel.add_rows(sum, strip, self.ld, weights);
        }
        if self.gram {
            part.plan
                .pack(strip, self.ld, width, &space.gram_weight, self.frame.outer);
        }
    }
}
