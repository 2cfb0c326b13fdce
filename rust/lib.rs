//! The core of gapsel: entropic optimal transport between a huge pool and a small target.
//!
//! Letters, everywhere: n pool rows, m target rows, d dimensions, k chosen rows; x (n, d) the pool and y (m, d) the
//! target, a and b their weights; f (n,) and g (m,) the potentials; eps the entropic regularisation, eta the
//! temperature of the row rule; p (n, m) the plan's rows, which sum to 1; q (m,) the column marginal.
//!
//! The way through the files: a `problem` is read from a `pool`, whose rows come one by one, and a `target`, which packs
//! y; `sweep` has each `block` of rows go through the `kernel`, as `sizes` cuts them; `rule` gives rows their masses,
//! `totals` adds up what blocks yield, `gram`, for which `thinning` picks rows, and `topk` gather what else was asked for.

pub mod aligned;
pub mod block;
pub mod error;
pub mod gram;
pub mod kernel;
pub mod pool;
pub mod problem;
#[cfg(feature = "python")]
mod py;
pub mod rule;
pub mod sizes;
pub mod sweep;
pub mod target;
pub mod thinning;
pub mod threads;
pub mod topk;
pub mod totals;
