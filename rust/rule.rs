//! The row rule: what mass a pool row carries, given its potential.
//!
//! ```text
//! r_i      = lo_i + (hi_i - lo_i) / (1 + exp(f_i / eta))
//! phi_i(f) = lo_i f - eta (hi_i - lo_i) log(1 + exp(-f / eta))            (phi' = r)
//! w_i      = r_i + eps dr_i / df_i                                        (the Gram's weight)
//! ```

use crate::error::Error;

/// Beyond this a mass times a row count may leave float32.
const LARGEST_MASS: f64 = 1e20;

/// One number for all rows, or one for each.
#[derive(Clone, Copy, Debug)]
pub enum Masses<'a> {
    /// All rows alike.
    Same(f64),
    /// (n,)
    Each(&'a [f64]),
}

impl Masses<'_> {
    fn at(&self, row: usize) -> f64 {
        match self {
            Self::Same(value) => *value,
            Self::Each(values) => values[row],
        }
    }

    fn check(&self, name: &'static str, n: usize, first: usize) -> Result<(), Error> {
        let values = match self {
            Self::Same(value) => std::slice::from_ref(value),
            Self::Each(values) if values.len() == n => values,
            Self::Each(values) => {
                return Err(Error::Length {
                    name,
                    found: values.len(),
                    expected: n,
                });
            }
        };
        match values
            .iter()
            .position(|value| !(0.0..=LARGEST_MASS).contains(value))
        {
            Some(row) => Err(Error::Entry {
                name,
                row: first + row,
                value: values[row],
                expected: "a mass lies in 0..1e20",
            }),
            None => Ok(()),
        }
    }
}

/// The box of each row and the temperature eta within it.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// Lower bound.
    pub lo: Masses<'a>,
    /// Upper bound.
    pub hi: Masses<'a>,
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
    /// Its part min(lo h, hi h) of the hard bound.
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
        self.lo.check("lo", n, first)?;
        self.hi.check("hi", n, first)?;
        let rows = if matches!((self.lo, self.hi), (Masses::Same(_), Masses::Same(_))) {
            1
        } else {
            n
        };
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
        let room = hi - lo;
        // The tail e never overflows, whatever the size of f.
        let (x, e) = (f / self.eta, (-(f / self.eta).abs()).exp());
        let (full, empty) = if x > 0.0 { (e, 1.0) } else { (1.0, e) };
        let share = full / (1.0 + e);
        let r = lo + room * share;
        RowMass {
            r,
            w: r - room * share * empty / (1.0 + e) / self.eta * eps,
            phi: lo * f - self.eta * room * ((-x).max(0.0) + e.ln_1p()),
            hard: (lo * h).min(hi * h),
        }
    }
}
