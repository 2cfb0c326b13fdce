//! The sweep: one read of the pool, or of a plan that was kept of it, in blocks of rows, that turns g into everything
//! the solver and the selector need.
//!
//! Block boundaries depend on the row number alone. Blocks run in parallel within a super-block; then their parts are
//! added in float64 in the order of the rows, span by span, and spans in their order. What a span is depends on the
//! problem alone. So neither the number of threads nor the cut into shards changes a bit; nor does it matter who sweeps
//! a span: a sweep of one span gives what the whole adds up.

use rayon::prelude::*;

use crate::block::{Part, Work};
use crate::error::Error;
use crate::frame::{Columns, Frame, check_eps};
use crate::kept::{Kept, row_codes};
use crate::kernel::Isa;
use crate::pool::ReadAhead;
use crate::problem::{KeptProblem, Place, Problem, Wanted};
use crate::source::Source;
use crate::target::{Target, weighty};
use crate::topk::Entry;
use crate::totals::Totals;
use crate::vectors::Vectors;

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
pub fn sweep(problem: &Problem, mut wanted: Wanted, isa: Isa) -> Result<Sweep, Error> {
    let Problem { pool, place, .. } = problem;
    check_eps(problem.eps)?;
    let target = Target::new(
        &problem.target,
        problem.cost,
        problem.eps,
        isa.kernel(wanted.precision),
    )?;
    let columns = Columns {
        m: problem.target.b.len(),
        keep: &target.keep,
        width: target.width,
    };
    let law = (problem.rule, problem.eps);
    let frame = Frame::new(law, (*place, pool.n, Some(pool.d)), columns, isa, &wanted);
    frame.check(&wanted)?;
    let source = Vectors {
        problem,
        target: &target,
        kernel: frame.kernel,
        block_rows: frame.block_rows,
        nearest: wanted.nearest.is_some(),
    };
    let mut ahead = ReadAhead::new(pool);
    run(&source, &frame, &mut wanted, |row| ahead.reach(row))
}

/// Look at a plan that a sweep kept, at other potentials. Call it within the thread pool that is to do the work.
///
/// # Errors
/// If the plan or an output does not fit; see [`Error`].
pub fn sweep_kept(problem: &KeptProblem, mut wanted: Wanted, isa: Isa) -> Result<Sweep, Error> {
    check_eps(problem.eps)?;
    let keep = weighty(problem.b, problem.g)?;
    let kernel = isa.kernel(wanted.precision);
    let source = Kept::new(problem.kept, (problem.g, &keep), problem.eps, kernel)?;
    let columns = Columns {
        m: problem.b.len(),
        keep: &keep,
        width: keep.len().next_multiple_of(kernel.tile().1),
    };
    let n = problem.kept.f.len();
    let place = Place { first: 0, n };
    let rows = (place, n, None);
    let frame = Frame::new((problem.rule, problem.eps), rows, columns, isa, &wanted);
    frame.check(&wanted)?;
    run(&source, &frame, &mut wanted, |_| ())
}

/// Go through all blocks; `ahead` is told of each row that is next.
fn run<S: Source>(
    source: &S,
    frame: &Frame,
    wanted: &mut Wanted,
    mut ahead: impl FnMut(usize),
) -> Result<Sweep, Error> {
    let work = Work::new(source, frame, wanted);
    let mut totals = Totals::new(frame, wanted);
    let (block_rows, span) = (frame.block_rows, frame.span);
    let block_codes = block_rows * row_codes(frame.keep.len());
    let mut codes = wanted.plan.take().map(|plan| plan.chunks_mut(block_codes));
    let count = frame.rows.div_ceil(block_rows);
    let mut parts: Vec<Part> = Vec::new();
    let live = (8 * rayon::current_num_threads()).min(count);
    parts.resize_with(live, Part::default);
    for first in (0..count).step_by(parts.len()) {
        ahead(first * block_rows);
        let live = parts.len().min(count - first);
        let parts = &mut parts[..live];
        let mut next = || codes.as_mut().and_then(Iterator::next).unwrap_or_default();
        let codes: Vec<&mut [u8]> = parts.iter().map(|_| next()).collect();
        let results: Vec<Result<(), Error>> = parts
            .par_iter_mut()
            .zip(codes)
            .enumerate()
            .with_max_len(1)
            .map(|(index, (part, codes))| work.run(first + index, part, codes))
            .collect();
        results.into_iter().collect::<Result<(), Error>>()?;
        for parts in parts.chunk_by_mut(|_, later| !later.first_row.is_multiple_of(span)) {
            totals.add(parts);
            let end = parts.last().map_or(0, Part::end);
            if end.is_multiple_of(span) || end == frame.rows {
                totals.end_span();
            }
        }
        for part in parts {
            part.write(wanted);
        }
    }
    Ok(totals.finish())
}
