//! Rows as a plan that a sweep at some g kept: its exponentials, in eight bits each, and its f.
//!
//! ```text
//! p_ij(g') ~ e_ij(g) exp((g'_j - g_j) / eps),    f_i(g') = f_i(g) - eps log(sum_j p_ij(g') / sum_j e_ij(g))
//! ```
//!
//! What rounding does to a row at g itself falls out of f; so near g this is the plan of costs that are nearly right, and
//! a look at it costs what it takes to read n m bytes.

use std::f64::consts::LOG2_E;

use crate::error::Error;
use crate::kernel::{Kernel, codes};
use crate::source::{Seen, Source};

/// Factors span at most so many powers of two, so that no row is left without mass, and its weight in the Gram, which
/// has the square of its sum, within float32.
const WIDEST: f64 = 50.0;

/// How many rows ahead codes are called from memory. The processor's own prefetching ends at each page, every fourth row.
const AHEAD: usize = 4;

/// A plan as the caller holds it.
#[derive(Clone, Copy, Debug)]
pub struct KeptView<'a> {
    /// (n, [`row_codes`])
    pub codes: &'a [u8],
    /// Soft minima at g (n,).
    pub f: &'a [f32],
    /// (m,)
    pub g: &'a [f64],
}

/// Codes of a row: the columns that weigh something, filled up with 0.
#[must_use]
pub fn row_codes(columns: usize) -> usize {
    columns.next_multiple_of(codes::LANES)
}

/// A kept plan on its way to another g.
pub struct Kept<'a> {
    view: KeptView<'a>,
    kernel: &'a dyn Kernel,
    factors: Vec<f32>,
    shift: f64,
    log2_unit: f64,
}

impl<'a> Kept<'a> {
    /// A plan at potentials `g` (m,), of the columns `keep`.
    ///
    /// # Errors
    /// If a length does not fit.
    pub fn new(
        view: KeptView<'a>,
        (g, keep): (&[f64], &[usize]),
        eps: f64,
        kernel: &'a dyn Kernel,
    ) -> Result<Self, Error> {
        let width = row_codes(keep.len());
        for (name, found, expected) in [
            ("plan", view.codes.len(), view.f.len() * width),
            ("kept g", view.g.len(), g.len()),
        ] {
            if found != expected {
                return Err(Error::Length {
                    name,
                    found,
                    expected,
                });
            }
        }
        let log2_unit = LOG2_E / eps;
        let moved: Vec<f64> = keep
            .iter()
            .map(|&j| (g[j] - view.g[j]) * log2_unit)
            .collect();
        let shift = moved.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let factor = |moved: f64| codes::UNIT * (moved - shift).max(-WIDEST).exp2() as f32;
        let mut factors: Vec<f32> = moved.into_iter().map(factor).collect();
        factors.resize(width, 0.0);
        Ok(Self {
            view,
            kernel,
            factors,
            shift,
            log2_unit,
        })
    }
}

impl Source for Kept<'_> {
    type Space = ();

    const FILLS: bool = false;

    fn space(&self) {}

    fn read(
        &self,
        _first_row: usize,
        _rows: usize,
        (): &mut (),
        _strip: (&mut [f32], usize),
    ) -> Result<(), Error> {
        Ok(())
    }

    fn exponentials(&self, first_row: usize, r: usize, (): &(), row: &mut [f32]) -> Seen {
        let width = self.factors.len();
        let (kept, rest) = self.view.codes[(first_row + r) * width..].split_at(width);
        let ahead = rest.get(AHEAD * width..).unwrap_or_default();
        let ahead = &ahead[..width.min(ahead.len())];
        let row = &mut row[..width];
        let (before, sum) = self.kernel.recall(kept, ahead, &self.factors, row);
        let gain = (f64::from(sum) / f64::from(before * codes::UNIT)).log2() + self.shift;
        Seen {
            f: f64::from(self.view.f[first_row + r]) - gain / self.log2_unit,
            hard: f64::NAN,
            nearest: 0,
            sum,
            bits: f64::NAN,
        }
    }
}
