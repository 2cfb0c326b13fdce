//! One block of rows, from vectors to everything it yields.
//!
//! The block's dot products with all of y go into a strip (rows, m) that stays in the second-level cache; there they
//! become logits, exponentials, f_i, the row mass r_i and a part of q. Never are there n x m numbers.

use std::sync::{Mutex, PoisonError};

use crate::aligned::Aligned;
use crate::error::Error;
use crate::gram::PackedPlan;
use crate::kernel::{DEPTH, Kernel, PackedRow, STRIDE};
use crate::problem::{Problem, Wanted};
use crate::sizes::{block_rows, stride};
use crate::target::Target;
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
struct Workspace {
    scratch: Vec<f32>,
    packed: Vec<PackedRow>,
    squared: Vec<f32>,
    strip: Aligned,
    mass: Vec<f32>,
    gram_weight: Vec<f32>,
    gram_surplus: Vec<f32>,
}

/// Everything that blocks share.
pub struct Work<'a> {
    problem: &'a Problem<'a>,
    target: &'a Target,
    kernel: &'a dyn Kernel,
    outer: &'a dyn Kernel,
    /// Rows of a block.
    pub block_rows: usize,
    ld: usize,
    gram: bool,
    nearest: bool,
    idle: Mutex<Vec<Workspace>>,
}

impl<'a> Work<'a> {
    /// Blocks of this problem, by a kernel for the vectors and one for the Gram.
    pub fn new(
        problem: &'a Problem<'a>,
        target: &'a Target,
        (kernel, outer): (&'a dyn Kernel, &'a dyn Kernel),
        wanted: &Wanted,
    ) -> Self {
        Self {
            problem,
            target,
            kernel,
            outer,
            block_rows: block_rows(target.keep.len(), kernel),
            ld: stride(target.width),
            gram: wanted.gram,
            nearest: wanted.nearest.is_some(),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Sweep a block of rows.
    ///
    /// # Errors
    /// If a row cannot be used.
    pub fn run(&self, block: usize, part: &mut Part) -> Result<(), Error> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut space = idle.unwrap_or_else(|| self.workspace());
        part.first_row = block * self.block_rows;
        let rows = self.block_rows.min(self.problem.pool.n - part.first_row);
        let result = self.pack(part.first_row, rows, &mut space);
        if result.is_ok() {
            self.multiply(rows, &mut space);
            self.finish(rows, &mut space, part);
        }
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(space);
        result
    }

    fn workspace(&self) -> Workspace {
        Workspace {
            scratch: vec![0.0; self.problem.pool.d],
            packed: vec![[0.0; STRIDE]; self.target.depth_blocks() * self.block_rows],
            squared: Vec::new(),
            strip: Aligned::zeros(self.block_rows * self.ld),
            mass: Vec::new(),
            gram_weight: Vec::new(),
            gram_surplus: Vec::new(),
        }
    }

    /// Prepare the block's rows and lay them out by blocks of words.
    fn pack(&self, first_row: usize, rows: usize, space: &mut Workspace) -> Result<(), Error> {
        let Workspace {
            scratch,
            packed,
            squared,
            ..
        } = space;
        squared.clear();
        let place = self.problem.place.first;
        let depth = DEPTH * self.kernel.words().numbers();
        self.problem
            .pool
            .for_each_row(first_row..first_row + rows, scratch, |r, x| {
                let row = place + first_row + r;
                let norm = self.target.preparation.apply(x, "pool", row)?;
                self.target.check_range(norm, row)?;
                squared.push(norm);
                for (index, x) in x.chunks(depth).enumerate() {
                    self.kernel
                        .pack(x, &mut packed[index * self.block_rows + r]);
                }
                Ok(())
            })
    }

    /// Fill the strip with dot products. Rows beyond the last fill up a tile; what they hold is never read.
    fn multiply(&self, rows: usize, space: &mut Workspace) {
        let rows = rows.next_multiple_of(self.kernel.tile().0);
        for (index, packed) in space.packed.chunks_exact(self.block_rows).enumerate() {
            for (column, y) in self.target.panels(index) {
                let strip = &mut space.strip.as_mut()[column..];
                self.kernel
                    .product(&packed[..rows], y, strip, self.ld, index > 0);
            }
        }
    }

    /// From dot products to everything the block yields.
    fn finish(&self, rows: usize, space: &mut Workspace, part: &mut Part) {
        let Workspace {
            squared,
            strip,
            mass,
            gram_weight,
            gram_surplus,
            ..
        } = space;
        let (place, columns) = (self.problem.place, self.target.keep.len());
        let n = place.n as f64;
        (part.value, part.hard_value, part.entropy) = (0.0, 0.0, 0.0);
        for list in [&mut part.f, &mut part.hard, mass, gram_weight, gram_surplus] {
            list.clear();
        }
        part.nearest.clear();
        for (r, z) in strip.as_mut().chunks_mut(self.ld).take(rows).enumerate() {
            let z = &mut z[..self.target.width];
            let peak = self
                .kernel
                .logits(z, &self.target.columns, squared[r], self.nearest);
            let (sum, moment) = self.kernel.exponentials(z, peak.soft);
            let (f, h) = self.target.minima(squared[r], peak.soft, peak.hard, sum);
            let row = self
                .problem
                .rule
                .apply(part.first_row + r, f, h, self.problem.eps);
            part.f.push(f as f32);
            part.hard.push(h as f32);
            part.nearest.push(self.target.keep[peak.nearest] as i32);
            part.value += row.phi;
            part.hard_value += row.hard;
            // -sum_j p_j log p_j with log2 p_j = (z_j - top) - log2 sum
            let bits = f64::from(sum).log2() - f64::from(moment) / f64::from(sum);
            part.entropy += row.r * bits * std::f64::consts::LN_2;
            // Times n, so that masses of 1/n sit in the middle of float32's range.
            mass.push((row.r * n / f64::from(sum)) as f32);
            let number = place.first + part.first_row + r;
            let stands_for = stands_for(number, row.r, columns, place.n, self.problem.pool.d);
            gram_weight.push((row.w * stands_for * n / f64::from(sum).powi(2)) as f32);
            gram_surplus.push(((row.r - row.w) * stands_for * n / f64::from(sum)) as f32);
        }
        part.q.clear();
        part.q.resize(self.target.width, 0.0);
        self.kernel
            .add_rows(&mut part.q, strip.as_ref(), self.ld, mass);
        if self.gram {
            part.surplus.clear();
            part.surplus.resize(self.target.width, 0.0);
            self.kernel
                .add_rows(&mut part.surplus, strip.as_ref(), self.ld, gram_surplus);
            part.plan.pack(
                strip.as_ref(),
                self.ld,
                self.target.width,
                gram_weight,
                self.outer,
            );
        }
    }
}
