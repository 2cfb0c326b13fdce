//! The sweep: one read of the pool, in blocks of rows, that turns g into everything the solver and the selector need.
//!
//! Block boundaries depend on the row number alone. Blocks run in parallel within a super-block; then their parts are
//! added in float64 in the order of the rows, span by span, and spans in their order. What a span is depends on the
//! problem alone. So neither the number of threads nor the cut into shards changes a bit; nor does it matter who sweeps
//! a span: a sweep of one span gives what the whole adds up.

use rayon::prelude::*;

use crate::block::{Part, Work};
use crate::error::Error;
use crate::kernel::Isa;
use crate::pool::ReadAhead;
use crate::problem::{Problem, Wanted};
use crate::sizes::{group_blocks, span_rows};
use crate::target::Target;
use crate::topk::Entry;
use crate::totals::Totals;

/// What a sweep gives: the pool's, or the share of one span in it.
#[derive(Debug)]
pub struct Sweep {
    /// Column marginal (m,).
    pub q: Vec<f64>,
    /// sum_i phi_i(f_i)
    pub value: f64,
    /// sum_i min(lo_i h_i, hi_i h_i + (hi_i - lo_i) price_i)
    pub hard: f64,
    /// sum_i r_i (-sum_j p_ij log p_ij), in nats.
    pub entropy: f64,
    /// G (m, m) and sum_i v_i (r_i - w_i) p_i (m,), if wanted.
    pub gram: Option<(Vec<f64>, Vec<f64>)>,
    /// The k lowest f in order of (f, row).
    pub top: Vec<Entry>,
}

/// Read the pool, or one span of it, once. Call it within the thread pool that is to do the work.
///
/// # Errors
/// If the problem or an output does not fit; see [`Error`].
pub fn sweep(problem: &Problem, wanted: &mut Wanted, isa: Isa) -> Result<Sweep, Error> {
    let (kernel, outer) = (isa.kernel(wanted.rough), isa.kernel(true));
    problem.check(wanted)?;
    let target = Target::new(&problem.target, problem.cost, problem.eps, kernel)?;
    let work = Work::new(problem, &target, (kernel, outer), wanted);
    let columns = target.keep.len();
    let span = span_rows(columns, problem.place.n, wanted.gram, isa, wanted.rough);
    problem.place.check(problem.pool.n, span)?;
    let mut totals = Totals::new(problem, &target, wanted, outer);
    let group = group_blocks(work.block_rows);
    let count = problem.pool.n.div_ceil(work.block_rows);
    let mut parts: Vec<Part> = Vec::new();
    parts.resize_with(
        (8 * rayon::current_num_threads())
            .next_multiple_of(group)
            .min(count),
        Part::default,
    );
    let mut ahead = ReadAhead::new(&problem.pool);
    for first in (0..count).step_by(parts.len()) {
        ahead.reach(first * work.block_rows);
        let live = parts.len().min(count - first);
        let parts = &mut parts[..live];
        let results: Vec<Result<(), Error>> = parts
            .par_iter_mut()
            .enumerate()
            .with_max_len(1)
            .map(|(index, part)| work.run(first + index, part))
            .collect();
        results.into_iter().collect::<Result<(), Error>>()?;
        for parts in parts.chunk_by(|_, later| !later.first_row.is_multiple_of(span)) {
            totals.add(parts, group, outer, problem.place.first);
            let end = parts.last().map_or(0, Part::end);
            if end.is_multiple_of(span) || end == problem.pool.n {
                totals.end_span();
            }
        }
        for part in parts {
            part.write(wanted);
        }
    }
    Ok(totals.finish())
}
