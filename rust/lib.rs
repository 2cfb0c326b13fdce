//! The core of gapsel: entropic optimal transport between a huge pool and a small target.
//!
//! Letters, everywhere: n pool rows, m target rows, d dimensions, k chosen rows; x (n, d) the pool and y (m, d) the
//! target, a and b their weights; f (n,) and g (m,) the potentials; eps the entropic regularisation, eta the
//! temperature of the row rule; p (n, m) the plan's rows, which sum to 1; q (m,) the column marginal.
//!
//! The way through the files: a `problem` is read from a `pool`, whose rows come one by one, and a `target`, which packs
//! y. `sweep` goes through it block by block, as `sizes` cuts it and `frame` tells all: a `source` of exponentials,
//! `vectors` that go through the `kernel` or a `kept` plan, fills each `block`; `rule` gives rows their masses, `totals`
//! adds up what blocks yield, `gram`, for which `thinning` and `left` pick rows, and `topk` gather what else was asked for.

pub mod aligned;
pub mod block;
pub mod error;
pub mod frame;
pub mod gram;
pub mod kept;
pub mod kernel;
pub mod left;
pub mod pool;
pub mod problem;
#[cfg(feature = "python")]
mod py;
pub mod rule;
pub mod sizes;
pub mod source;
pub mod sweep;
pub mod target;
pub mod thinning;
pub mod threads;
pub mod topk;
pub mod totals;
pub mod vectors;
