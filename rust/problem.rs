//! What a sweep reads, and what is wanted of it.

use crate::error::Error;
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
    /// Products of vectors may be in bfloat16; those of the Gram, which only bends steps, always may.
    pub rough: bool,
    /// Soft minima.
    pub f: Option<&'a mut [f32]>,
    /// Hard minima.
    pub hard: Option<&'a mut [f32]>,
    /// Columns of the hard minima.
    pub nearest: Option<&'a mut [i32]>,
}

impl Problem<'_> {
    /// Refuse what does not fit, but for the target and the place.
    pub(crate) fn check(&self, wanted: &Wanted) -> Result<(), Error> {
        let n = self.pool.n;
        if !(self.eps > 0.0 && self.eps.is_finite()) {
            return Err(Error::Positive {
                name: "eps",
                value: self.eps,
            });
        }
        if wanted.k > self.place.n {
            return Err(Error::TooMany {
                k: wanted.k,
                n: self.place.n,
            });
        }
        let outputs = [
            ("f", wanted.f.as_ref().map(|out| out.len())),
            ("hard", wanted.hard.as_ref().map(|out| out.len())),
            ("nearest", wanted.nearest.as_ref().map(|out| out.len())),
        ];
        for (name, found) in outputs {
            if let Some(found) = found.filter(|&found| found != n) {
                return Err(Error::Length {
                    name,
                    found,
                    expected: n,
                });
            }
        }
        self.rule.check(n, self.place.first)
    }
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
