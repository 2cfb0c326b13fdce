//! The core of gapsel: entropic optimal transport between a huge pool and a small target.
//!
//! Letters, everywhere: n pool rows, m target rows, d dimensions, k chosen rows; x (n, d) the pool and y (m, d) the
//! target, a and b their weights; f (n,) and g (m,) the potentials; eps the entropic regularisation, eta the
//! temperature of the row rule; p (n, m) the plan's rows, which sum to 1; q (m,) the column marginal.
//!
//! The way through the files: `pool` reads rows, `target` packs y, `sweep` drives blocks of rows through the `kernel`,
//! `rule` gives rows their masses, `totals` adds up what blocks yield, `gram` and `topk` gather what else was asked for.

pub mod aligned;
pub mod error;
pub mod gram;
pub mod kernel;
pub mod pool;
#[cfg(feature = "python")]
mod py;
pub mod rule;
pub mod sweep;
pub mod target;
pub mod threads;
pub mod topk;
pub mod totals;
