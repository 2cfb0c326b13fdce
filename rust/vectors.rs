//! Rows as vectors: packed, multiplied with all of y into a strip that stays in the second-level cache, and there turned
//! into logits and exponentials. Never are there n x m numbers.

use crate::aligned::Aligned;
use crate::error::Error;
use crate::kernel::{Kernel, STRIDE, Side};
use crate::problem::Problem;
use crate::source::{Seen, Source};
use crate::target::Target;

/// The pool's vectors against a packed target.
pub struct Vectors<'a> {
    /// What is read.
    pub problem: &'a Problem<'a>,
    /// The target.
    pub target: &'a Target,
    /// What multiplies them.
    pub kernel: &'a dyn Kernel,
    /// Rows of a block.
    pub block_rows: usize,
    /// Whether the columns of the hard minima are wanted.
    pub nearest: bool,
}

/// One thread's buffers.
pub struct Space {
    scratch: Vec<f32>,
    packed: Aligned,
    squared: Vec<f32>,
}

impl Vectors<'_> {
    /// Prepare the block's rows and lay them out by blocks of words.
    fn pack(&self, first_row: usize, rows: usize, space: &mut Space) -> Result<(), Error> {
        let Space {
            scratch,
            packed,
            squared,
        } = space;
        squared.clear();
        let (packed, _) = packed.as_mut().as_chunks_mut::<STRIDE>();
        let place = self.problem.place.first;
        let block = self.kernel.words().block();
        self.problem
            .pool
            .for_each_row(first_row..first_row + rows, scratch, |r, x| {
                let row = place + first_row + r;
                let norm = self.target.preparation.apply(x, "pool", row)?;
                self.target.check_range(norm, row)?;
                squared.push(norm);
                for (index, x) in x.chunks(block).enumerate() {
                    self.kernel
                        .pack(Side::Row, x, &mut packed[index * self.block_rows + r]);
                }
                Ok(())
            })
    }
}

impl Source for Vectors<'_> {
    type Space = Space;

    const FILLS: bool = true;

    fn space(&self) -> Space {
        Space {
            scratch: vec![0.0; self.problem.pool.d],
            packed: Aligned::zeros(self.target.depth_blocks() * self.block_rows * STRIDE),
            squared: Vec::new(),
        }
    }

    /// Fill the strip with dot products. Rows beyond the last fill up a tile; what they hold is never read.
    fn read(
        &self,
        first_row: usize,
        rows: usize,
        space: &mut Space,
        (strip, ld): (&mut [f32], usize),
    ) -> Result<(), Error> {
        self.pack(first_row, rows, space)?;
        let rows = rows.next_multiple_of(self.kernel.tile().0);
        let (packed, _) = space.packed.as_ref().as_chunks::<STRIDE>();
        let parts = packed
            .chunks_exact(self.block_rows)
            .zip(self.target.panels());
        for (index, (packed, (y, depth))) in parts.enumerate() {
            let x = &packed[..rows];
            self.kernel.product(x, y, depth, strip, ld, index > 0);
        }
        Ok(())
    }

    fn exponentials(&self, _first_row: usize, r: usize, space: &Space, row: &mut [f32]) -> Seen {
        let (z, squared) = (&mut row[..self.target.width], space.squared[r]);
        let peak = self
            .kernel
            .logits(z, &self.target.columns, squared, self.nearest);
        let (sum, moment) = self.kernel.exponentials(z, peak.soft);
        let (f, hard) = self.target.minima(squared, peak.soft, peak.hard, sum);
        Seen {
            f,
            hard,
            nearest: peak.nearest,
            sum,
            // -sum_j p_j log p_j with log2 p_j = (z_j - top) - log2 sum
            bits: f64::from(sum).log2() - f64::from(moment) / f64::from(sum),
        }
    }
}
