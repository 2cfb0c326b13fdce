//! What a sweep reads, and what is wanted of it.

use crate::error::Error;
use crate::kept::KeptView;
use crate::kernel::Precision;
use crate::pool::Pool;
use crate::rule::Rule;
use crate::target::{Cost, TargetView};

/// What a sweep reads.
#[derive(Debug)]
pub struct Problem<'a> {
    /// The pool.
    pub pool: Pool<'a>,
    /// The target and its potentials.
    pub target: TargetView<'a>,
    /// What mass rows carry.
    pub rule: Rule<'a>,
    /// Entropic regularisation.
    pub eps: f64,
    /// Ground cost.
    pub cost: Cost,
    /// Which rows these are.
    pub place: Place,
}

/// What a look at a kept plan reads.
#[derive(Debug)]
pub struct KeptProblem<'a> {
    /// The plan of the whole pool.
    pub kept: KeptView<'a>,
    /// Weights of the target (m,).
    pub b: &'a [f64],
    /// The potentials that it is looked at (m,).
    pub g: &'a [f64],
    /// What mass rows carry.
    pub rule: Rule<'a>,
    /// Entropic regularisation, that at which it was kept.
    pub eps: f64,
}

/// What part of a pool is read: its first row there, and the rows of the whole.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Number of the first row read.
    pub first: usize,
    /// Rows of the whole pool.
    pub n: usize,
}

/// What else is wanted of a sweep; outputs are (n,).
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// The Gram matrix.
    pub gram: bool,
    /// How many of the lowest f.
    pub k: usize,
    /// How far products of vectors may be off; those of the Gram, which only bends steps, may be rough.
    pub precision: Precision,
    /// Soft minima.
    pub f: Option<&'a mut [f32]>,
    /// Hard minima.
    pub hard: Option<&'a mut [f32]>,
    /// Columns of the hard minima.
    pub nearest: Option<&'a mut [i32]>,
    /// The plan in eight bits (n, [`crate::kept::row_codes`]).
    pub plan: Option<&'a mut [u8]>,
}

impl Place {
    /// Refuse rows that are neither the whole pool nor one span of it.
    pub(crate) fn check(self, rows: usize, span: usize) -> Result<(), Error> {
        let whole = self.first == 0 && rows == self.n;
        let rest = self.n.saturating_sub(self.first);
        if whole || (self.first.is_multiple_of(span) && rows == rest.min(span)) {
            return Ok(());
        }
        Err(Error::Span {
            first: self.first,
            rows,
            n: self.n,
            span,
        })
    }
}
