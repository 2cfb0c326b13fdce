//! The row rule: what mass a pool row carries, given its potential.
//!
//! ```text
//! r_i      = lo_i + (hi_i - lo_i) / (1 + exp((f_i + price_i) / eta))
//! phi_i(f) = lo_i f - eta (hi_i - lo_i) log(1 + exp(-(f + price_i) / eta))    (phi' = r)
//! w_i      = r_i + eps dr_i / df_i                                            (the Gram's weight)
//! ```
//!
//! A price is what a grain of mass above lo costs: a term <r - lo, price> of what is minimised.

use std::ops::RangeInclusive;

use crate::error::Error;

/// Beyond this a mass times a row count may leave float32.
const LARGEST_MASS: f64 = 1e20;

/// Beyond this a price times a mass may leave float32.
const LARGEST_PRICE: f64 = 1e18;

/// One number for all rows, or one for each.
#[derive(Clone, Copy, Debug)]
pub enum PerRow<'a> {
    /// All rows alike.
    Same(f64),
    /// (n,)
    Each(&'a [f64]),
    /// (n,)
    EachSingle(&'a [f32]),
}

impl PerRow<'_> {
    fn at(&self, row: usize) -> f64 {
        match self {
            Self::Same(value) => *value,
            Self::Each(values) => values[row],
            Self::EachSingle(values) => f64::from(values[row]),
        }
    }

    fn len(&self) -> Option<usize> {
        match self {
            Self::Same(_) => None,
            Self::Each(values) => Some(values.len()),
            Self::EachSingle(values) => Some(values.len()),
        }
    }

    fn check(
        &self,
        name: &'static str,
        (n, first): (usize, usize),
        (allowed, expected): (RangeInclusive<f64>, &'static str),
    ) -> Result<(), Error> {
        if let Some(found) = self.len().filter(|&found| found != n) {
            return Err(Error::Length {
                name,
                found,
                expected: n,
            });
        }
        match (0..self.len().unwrap_or(1)).find(|&row| !allowed.contains(&self.at(row))) {
            Some(row) => Err(Error::Entry {
                name,
                row: first + row,
                value: self.at(row),
                expected,
            }),
            None => Ok(()),
        }
    }
}

/// The box of each row, the price of its mass, and the temperature eta within it.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// Lower bound.
    pub lo: PerRow<'a>,
    /// Upper bound.
    pub hi: PerRow<'a>,
    /// Price of mass above the lower bound, in units of the cost.
    pub price: PerRow<'a>,
    /// Temperature.
    pub eta: f64,
}

/// What the rule makes of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowMass {
    /// Its mass r.
    pub r: f64,
    /// Its weight w in the Gram.
    pub w: f64,
    /// Its part phi of the dual value.
    pub phi: f64,
    /// Its part min(lo h, hi h + (hi - lo) price) of the hard bound.
    pub hard: f64,
}

impl Rule<'_> {
    /// Check the rule for n rows, the first of which has the number `first`.
    ///
    /// # Errors
    /// If a length, a sign or an order is wrong.
    pub fn check(&self, n: usize, first: usize) -> Result<(), Error> {
        if !(self.eta > 0.0 && self.eta.is_finite()) {
            return Err(Error::Positive {
                name: "eta",
                value: self.eta,
            });
        }
        let masses = (0.0..=LARGEST_MASS, "a mass lies in 0..1e20");
        self.lo.check("lo", (n, first), masses.clone())?;
        self.hi.check("hi", (n, first), masses)?;
        let prices = (
            -LARGEST_PRICE..=LARGEST_PRICE,
            "a price lies in -1e18..1e18",
        );
        self.price.check("price", (n, first), prices)?;
        let rows = self.lo.len().or(self.hi.len()).unwrap_or(1);
        match (0..rows).find(|&row| self.lo.at(row) > self.hi.at(row)) {
            Some(row) => Err(Error::Entry {
                name: "lo",
                row: first + row,
                value: self.lo.at(row),
                expected: "lo must not exceed hi",
            }),
            None => Ok(()),
        }
    }

    /// Apply the rule to one row with soft minimum `f` and hard minimum `h`.
    #[must_use]
    pub fn apply(&self, row: usize, f: f64, h: f64, eps: f64) -> RowMass {
        let (lo, hi) = (self.lo.at(row), self.hi.at(row));
        let (room, price) = (hi - lo, self.price.at(row));
        if room <= 0.0 {
            return RowMass {
                r: lo,
                w: lo,
                phi: lo * f,
                hard: lo * h,
            };
        }
        let x = (f + price) / self.eta;
        // The tail e never overflows, whatever the size of f.
        let e = (-x.abs()).exp();
        let (full, empty) = if x > 0.0 { (e, 1.0) } else { (1.0, e) };
        let share = full / (1.0 + e);
        let r = lo + room * share;
        RowMass {
            r,
            w: r - room * share * empty / (1.0 + e) / self.eta * eps,
            phi: lo * f - self.eta * room * ((-x).max(0.0) + e.ln_1p()),
            hard: (lo * h).min(hi * h + room * price),
        }
    }
}
