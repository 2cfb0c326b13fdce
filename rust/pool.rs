//! The pool: n rows in shards, read where they lie and widened to float32 one row at a time.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::error::Error;

/// One shard's numbers (rows, d), row by row.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Half precision.
    F16(&'a [f16]),
    /// The upper half of single precision.
    BF16(&'a [bf16]),
    /// Single precision.
    F32(&'a [f32]),
}

/// One shard: its numbers and its shape.
#[derive(Clone, Copy, Debug)]
pub struct Shard<'a> {
    /// The numbers, rows x d of them.
    pub values: Values<'a>,
    /// How many rows.
    pub rows: usize,
    /// How many dimensions.
    pub d: usize,
}

/// All shards together: row i of the pool is the i-th row across them.
#[derive(Debug)]
pub struct Pool<'a> {
    shards: Vec<Shard<'a>>,
    starts: Vec<usize>,
    /// Rows in all.
    pub n: usize,
    /// Dimensions.
    pub d: usize,
}

impl<'a> Pool<'a> {
    /// Line the shards up.
    ///
    /// # Errors
    /// If there is no row, or a shard's width is not `d`.
    pub fn new(shards: Vec<Shard<'a>>, d: usize) -> Result<Self, Error> {
        let mut starts = Vec::with_capacity(shards.len());
        let mut n = 0;
        for (index, shard) in shards.iter().enumerate() {
            if shard.d != d {
                return Err(Error::Width {
                    shard: index,
                    found: shard.d,
                    expected: d,
                });
            }
            starts.push(n);
            n += shard.rows;
        }
        if n == 0 {
            return Err(Error::Empty("pool"));
        }
        Ok(Self {
            shards,
            starts,
            n,
            d,
        })
    }

    /// Hand each row of the range, widened to float32 in `scratch` (d,), to `use_row` with its number in the range.
    ///
    /// # Errors
    /// Whatever `use_row` returns.
    pub fn for_each_row(
        &self,
        range: Range<usize>,
        scratch: &mut [f32],
        mut use_row: impl FnMut(usize, &mut [f32]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // The last shard that starts at or before the row: shards without rows are stepped over.
        let mut index = self.starts.partition_point(|&start| start <= range.start) - 1;
        for row in range.clone() {
            while row >= self.starts[index] + self.shards[index].rows {
                index += 1;
            }
            let local = row - self.starts[index];
            let span = local * self.d..(local + 1) * self.d;
            match self.shards[index].values {
                Values::F16(values) => values[span].convert_to_f32_slice(scratch),
                Values::BF16(values) => widen(&values[span], scratch),
                Values::F32(values) => scratch.copy_from_slice(&values[span]),
            }
            use_row(row - range.start, scratch)?;
        }
        Ok(())
    }
}

/// half's own conversion tests every number for NaN, and so does not become vectors.
fn widen(values: &[bf16], out: &mut [f32]) {
    for (out, value) in out.iter_mut().zip(values) {
        *out = f32::from_bits(u32::from(value.to_bits()) << 16);
    }
}
