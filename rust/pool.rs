//! The pool: n rows in shards, read where they lie and widened to float32 one row at a time.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::error::Error;
use crate::kernel::advise;

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
        let first = range.start;
        for (values, start, rows) in self.parts(range) {
            for (r, row) in rows.enumerate() {
                let span = row * self.d..(row + 1) * self.d;
                match values {
                    Values::F16(values) => values[span].convert_to_f32_slice(scratch),
                    Values::BF16(values) => widen(&values[span], scratch),
                    Values::F32(values) => scratch.copy_from_slice(&values[span]),
                }
                use_row(start - first + r, scratch)?;
            }
        }
        Ok(())
    }

    /// Ask for rows to be read from disk soon. A refusal costs only time, so it is not passed on.
    fn will_need(&self, range: Range<usize>) {
        for (values, _, rows) in self.parts(range) {
            let span = rows.start * self.d..rows.end * self.d;
            let _ = match values {
                Values::F16(values) => advise::will_need(&values[span]),
                Values::BF16(values) => advise::will_need(&values[span]),
                Values::F32(values) => advise::will_need(&values[span]),
            };
        }
    }

    /// A range of rows, cut by shards: a shard's values, the part's first row in the pool, and its rows in the shard.
    fn parts(
        &self,
        range: Range<usize>,
    ) -> impl Iterator<Item = (Values<'a>, usize, Range<usize>)> {
        // The last shard that starts at or before the row: shards without rows are stepped over.
        let index = self.starts.partition_point(|&start| start <= range.start) - 1;
        let shards = self.shards[index..].iter().zip(&self.starts[index..]);
        shards
            .take_while(move |(_, start)| **start < range.end)
            .map(move |(shard, &start)| {
                let first = range.start.max(start);
                let last = range.end.min(start + shard.rows);
                (shard.values, first, first - start..last.max(first) - start)
            })
    }
}

/// Keeps the disk busy while rows are multiplied: what a sweep will read next is asked for before it gets there.
///
/// The system's own read-ahead, in steps of 128 kB, waits for the disk once a step.
#[derive(Debug)]
pub struct ReadAhead<'a> {
    pool: &'a Pool<'a>,
    window: usize,
    asked: usize,
}

impl<'a> ReadAhead<'a> {
    /// Bytes to be ahead, counted in float32.
    const BYTES: usize = 128 << 20;

    /// Nothing is asked for yet.
    #[must_use]
    pub fn new(pool: &'a Pool<'a>) -> Self {
        let window = (Self::BYTES / (4 * pool.d.max(1))).max(1);
        Self {
            pool,
            window,
            asked: 0,
        }
    }

    /// See to it that the window after `row` is asked for, half a window at a time.
    pub fn reach(&mut self, row: usize) {
        let end = (row + self.window).min(self.pool.n);
        if end > self.asked && (end == self.pool.n || end - self.asked >= self.window / 2) {
            self.pool.will_need(self.asked..end);
            self.asked = end;
        }
    }
}

/// half's own conversion tests every number for NaN, and so does not become vectors.
fn widen(values: &[bf16], out: &mut [f32]) {
    for (out, value) in out.iter_mut().zip(values) {
        *out = f32::from_bits(u32::from(value.to_bits()) << 16);
    }
}
