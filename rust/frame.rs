//! What blocks, spans and totals are told of a sweep, wherever its rows come from.

use crate::error::Error;
use crate::kept::row_codes;
use crate::kernel::{Isa, Kernel};
use crate::problem::{Place, Wanted};
use crate::rule::Rule;
use crate::sizes::{block_rows, span_rows};
use crate::thinning::worthy;

/// One sweep, but for its rows.
pub struct Frame<'a> {
    /// What mass rows carry.
    pub rule: Rule<'a>,
    /// Entropic regularisation.
    pub eps: f64,
    /// Which rows these are.
    pub place: Place,
    /// How many are read.
    pub rows: usize,
    /// Columns in all.
    pub m: usize,
    /// Those that weigh something, in order.
    pub keep: &'a [usize],
    /// These, rounded up to whole panels.
    pub width: usize,
    /// By what mass the Gram is thinned; see [`worthy`].
    pub worthy: f64,
    /// Rows of a block.
    pub block_rows: usize,
    /// Rows of a span; all of them, of a kept plan.
    pub span: usize,
    /// The kernel of rows.
    pub kernel: &'static dyn Kernel,
    /// The kernel of the Gram.
    pub outer: &'static dyn Kernel,
}

/// The columns of a sweep: all of them, those that weigh something, and these rounded up to whole panels.
#[derive(Clone, Copy)]
pub struct Columns<'a> {
    /// m
    pub m: usize,
    /// In order.
    pub keep: &'a [usize],
    /// A multiple of the kernel's panel.
    pub width: usize,
}

impl<'a> Frame<'a> {
    /// A sweep of `rows` rows, of `d` dimensions if they are vectors, under a rule, by what is wanted of it.
    #[must_use]
    pub fn new(
        (rule, eps): (Rule<'a>, f64),
        (place, rows, d): (Place, usize, Option<usize>),
        columns: Columns<'a>,
        isa: Isa,
        wanted: &Wanted,
    ) -> Self {
        let count = columns.keep.len();
        let kernel = isa.kernel(wanted.precision);
        let (block_rows, worthy) = (block_rows(count, kernel), worthy(count, place.n, d));
        // A plan is looked at where it is kept, by nobody else, and a span's end takes time where there is a Gram: a twentieth of
        // such a look (n 100,000, m 1,000).
        let span = match d {
            Some(_) => span_rows(count, place.n, wanted.gram, isa, wanted.precision),
            None => rows.next_multiple_of(block_rows),
        };
        Self {
            rule,
            eps,
            place,
            rows,
            m: columns.m,
            keep: columns.keep,
            width: columns.width,
            worthy,
            block_rows,
            span,
            kernel,
            outer: isa.outer,
        }
    }
}

impl Frame<'_> {
    /// Refuse what does not fit, but for eps.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn check(&self, wanted: &Wanted) -> Result<(), Error> {
        if wanted.k > self.place.n {
            return Err(Error::TooMany {
                k: wanted.k,
                n: self.place.n,
            });
        }
        let codes = self.rows * row_codes(self.keep.len());
        let outputs = [
            ("f", wanted.f.as_ref().map(|out| out.len()), self.rows),
            ("hard", wanted.hard.as_ref().map(|out| out.len()), self.rows),
            (
                "nearest",
                wanted.nearest.as_ref().map(|out| out.len()),
                self.rows,
            ),
            ("plan", wanted.plan.as_ref().map(|out| out.len()), codes),
        ];
        for (name, found, expected) in outputs {
            if let Some(found) = found.filter(|&found| found != expected) {
                return Err(Error::Length {
                    name,
                    found,
                    expected,
                });
            }
        }
        self.rule.check(self.rows, self.place.first)?;
        self.place.check(self.rows, self.span)
    }
}

/// Refuse an eps that is not a positive number.
///
/// # Errors
/// If it is not.
pub fn check_eps(eps: f64) -> Result<(), Error> {
    if eps > 0.0 && eps.is_finite() {
        Ok(())
    } else {
        Err(Error::Positive {
            name: "eps",
            value: eps,
        })
    }
}
