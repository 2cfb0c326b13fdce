//! Where the exponentials of a block's rows come from: `vectors`, or a plan that was `kept`.

use crate::error::Error;

/// What is seen of one row.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Soft minimum.
    pub f: f64,
    /// Hard minimum.
    pub hard: f64,
    /// Its column, of those of the packed target.
    pub nearest: usize,
    /// Sum of the row's exponentials.
    pub sum: f32,
    /// -sum_j p_j log2 p_j
    pub bits: f64,
}

/// Rows of a pool, a block at a time.
pub trait Source: Sync {
    /// One thread's buffers.
    type Space: Send;

    /// Whether `read` fills the strip.
    const FILLS: bool;

    /// Make one thread's buffers.
    fn space(&self) -> Self::Space;

    /// Read the block of rows that begins at `first_row`, into the buffers or into `strip`, `ld` numbers a row.
    ///
    /// # Errors
    /// If a row cannot be used.
    fn read(
        &self,
        first_row: usize,
        rows: usize,
        space: &mut Self::Space,
        strip: (&mut [f32], usize),
    ) -> Result<(), Error>;

    /// Fill row `r` of the block, its part of the strip, with exponentials. Columns that do not exist hold 0.
    fn exponentials(
        &self,
        first_row: usize,
        r: usize,
        space: &Self::Space,
        row: &mut [f32],
    ) -> Seen;
}
