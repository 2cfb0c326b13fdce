//! How a pool is cut: into blocks of rows, and spans.
//!
//! All follows from the problem alone, so that nobody who sweeps a part of it changes a sum.

use crate::kernel::{Isa, Kernel, Precision};

/// Rows of a block, about; and how many numbers its strip may have where m is large.
///
/// A strip beyond the second-level cache costs less than reading y more often: at m = 20,000 a quarter of this bound is
/// 14 % slower. 168 rows are no faster than 112, but where the tile is large the product is fast, and y comes from afar:
/// with AMX 192 rows are 10 % faster than 96, and 384 no more.
const BLOCK_ROWS: usize = 112;
const BLOCK_TILES: usize = 6;
const STRIP: usize = 1 << 21;

/// A pool is cut into at most so many spans of at least so many rows: less is not worth a journey to another machine.
/// Where each span has a Gram of its own, which is large and is added up, so many of them are one.
const SPANS: usize = 256;
const SPAN_ROWS: usize = 4096;
const GRAM_SPANS: usize = 4;

/// How many rows a span of the pool is: the first span begins at row 0, and the last one ends where the pool does.
///
/// `columns` is the number of targets that weigh something, `n` the rows of the whole pool.
#[must_use]
pub fn span_rows(columns: usize, n: usize, gram: bool, isa: Isa, precision: Precision) -> usize {
    let block_rows = block_rows(columns, isa.kernel(precision));
    let rows = n.div_ceil(SPANS).max(SPAN_ROWS);
    let spans = if gram { GRAM_SPANS } else { 1 };
    (spans * rows).next_multiple_of(block_rows)
}

/// Rows of a block, whole tiles of the kernel.
pub fn block_rows(columns: usize, kernel: &dyn Kernel) -> usize {
    let (height, panel) = kernel.tile();
    let most = BLOCK_ROWS.max(BLOCK_TILES * height);
    let rows = most.min(STRIP / stride(columns.next_multiple_of(panel)));
    (rows / height).max(1) * height
}

/// One cache line more than the width keeps the rows of a tile out of each other's cache sets.
#[must_use]
pub fn stride(width: usize) -> usize {
    width + 16
}
