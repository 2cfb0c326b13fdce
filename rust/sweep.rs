//! The sweep: one read of the pool, in blocks of rows, that turns g into everything the solver and the selector need.
//!
//! A block's dot products with all of y go into a strip (rows, m) that stays in the second-level cache; there they
//! become logits, exponentials, f_i, the row mass r_i and a part of q. Never are there n x m numbers.
//!
//! Block boundaries depend on the row number alone. Blocks run in parallel within a super-block; then their parts are
//! added in float64 in the order of the rows, span by span, and spans in their order. What a span is depends on the
//! problem alone. So neither the number of threads nor the cut into shards changes a bit; nor does it matter who sweeps
//! a span: a sweep of one span gives what the whole adds up.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::aligned::Aligned;
use crate::error::Error;
use crate::gram::PackedPlan;
use crate::kernel::{DEPTH, Isa, Kernel, PackedRow, STRIDE};
use crate::pool::{Pool, ReadAhead};
use crate::rule::Rule;
use crate::target::{Cost, Target, TargetView};
use crate::topk::Entry;
use crate::totals::Totals;

/// Rows of a block, about; and how many numbers its strip may have where m is large.
///
/// A strip beyond the second-level cache costs less than reading y more often: at m = 20,000 a quarter of this bound is
/// 14 % slower. 168 rows are no faster than 112.
const BLOCK_ROWS: usize = 112;
const STRIP: usize = 1 << 21;

/// Rows of the Gram summed in float32, about.
const GROUP_ROWS: usize = 512;

/// A pool is cut into at most so many spans of at least so many rows: less is not worth a journey to another machine.
/// Where each span has a Gram of its own, which is large and is added up, so many of them are one.
const SPANS: usize = 256;
const SPAN_ROWS: usize = 4096;
const GRAM_SPANS: usize = 4;

/// The Gram is taken from about this many rows a column: more cost more than what they do for a step; but more are
/// taken as long as it costs about a quarter of the product, 2 n d m, and the exponentials, which cost as much as 32
/// dimensions more.
const GRAM_ROWS: f64 = 32.0;
const GRAM_COST: f64 = 1.0;
const EXPONENTIALS: f64 = 32.0;

/// Rows of less mass than this, in units of 1/n, are thinned even where rows are few.
const GRAM_MASS: f64 = 0.25;

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
    /// Soft minima.
    pub f: Option<&'a mut [f32]>,
    /// Hard minima.
    pub hard: Option<&'a mut [f32]>,
    /// Columns of the hard minima.
    pub nearest: Option<&'a mut [i32]>,
}

impl Wanted<'_> {
    /// Write a block's share of the outputs.
    fn write(&mut self, part: &Part) {
        let rows = part.first_row..part.end();
        if let Some(out) = &mut self.f {
            out[rows.clone()].copy_from_slice(&part.f);
        }
        if let Some(out) = &mut self.hard {
            out[rows.clone()].copy_from_slice(&part.hard);
        }
        if let Some(out) = &mut self.nearest {
            out[rows].copy_from_slice(&part.nearest);
        }
    }
}

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

/// How many rows a span of the pool is: the first span begins at row 0, and the last one ends where the pool does.
///
/// `columns` is the number of targets that weigh something, `n` the rows of the whole pool.
#[must_use]
pub fn span_rows(columns: usize, n: usize, gram: bool, isa: Isa, rough: bool) -> usize {
    let block_rows = block_rows(columns, isa.kernel(rough));
    let whole_groups = block_rows * group_blocks(block_rows);
    let rows = n.div_ceil(SPANS).max(SPAN_ROWS);
    rows.next_multiple_of(whole_groups) * if gram { GRAM_SPANS } else { 1 }
}

/// Blocks whose Gram is summed in float32.
fn group_blocks(block_rows: usize) -> usize {
    (GROUP_ROWS / block_rows).max(1)
}

fn block_rows(columns: usize, kernel: &dyn Kernel) -> usize {
    let (height, panel) = kernel.tile();
    let rows = BLOCK_ROWS.min(STRIP / stride(columns.next_multiple_of(panel)));
    (rows / height).max(1) * height
}

/// One cache line more than the width keeps the rows of a tile out of each other's cache sets.
fn stride(width: usize) -> usize {
    width + 16
}

/// Read the pool, or one span of it, once. Call it within the thread pool that is to do the work.
///
/// With `rough` products of vectors may be in bfloat16; those of the Gram, which only bends steps, always may.
///
/// # Errors
/// If the problem or an output does not fit; see [`Error`].
pub fn sweep(
    problem: &Problem,
    wanted: &mut Wanted,
    isa: Isa,
    rough: bool,
) -> Result<Sweep, Error> {
    let (kernel, outer) = (isa.kernel(rough), isa.kernel(true));
    check(problem, wanted)?;
    let target = Target::new(&problem.target, problem.cost, problem.eps, kernel)?;
    let work = Work::new(problem, &target, (kernel, outer), wanted);
    let span = span_rows(target.keep.len(), problem.place.n, wanted.gram, isa, rough);
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
            wanted.write(part);
        }
    }
    Ok(totals.finish())
}

fn check(problem: &Problem, wanted: &Wanted) -> Result<(), Error> {
    let n = problem.pool.n;
    if !(problem.eps > 0.0 && problem.eps.is_finite()) {
        return Err(Error::Positive {
            name: "eps",
            value: problem.eps,
        });
    }
    if wanted.k > problem.place.n {
        return Err(Error::TooMany {
            k: wanted.k,
            n: problem.place.n,
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
    problem.rule.check(n, problem.place.first)
}

impl Place {
    /// Refuse rows that are neither the whole pool nor one span of it.
    fn check(self, rows: usize, span: usize) -> Result<(), Error> {
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

/// What one block of rows yields. Rows are counted from the first that is read; sums over columns are times n.
#[derive(Debug, Default)]
pub struct Part {
    /// Its first row.
    pub first_row: usize,
    /// Column marginal, by column of the packed target.
    pub q: Vec<f32>,
    /// sum_i v_i (r_i - w_i) p_i, likewise.
    pub surplus: Vec<f32>,
    /// Soft minima of its rows.
    pub f: Vec<f32>,
    /// Hard minima.
    pub hard: Vec<f32>,
    /// Columns of the hard minima.
    pub nearest: Vec<i32>,
    /// sum_i phi_i(f_i)
    pub value: f64,
    /// sum_i min(lo_i h_i, hi_i h_i + (hi_i - lo_i) price_i)
    pub hard_value: f64,
    /// sum_i r_i (-sum_j p_ij log p_ij)
    pub entropy: f64,
    /// What its Gram is made of.
    pub plan: PackedPlan,
}

impl Part {
    /// The row after its last.
    fn end(&self) -> usize {
        self.first_row + self.f.len()
    }
}

/// One thread's buffers.
struct Workspace {
    scratch: Vec<f32>,
    packed: Vec<PackedRow>,
    squared: Vec<f32>,
    strip: Aligned,
    mass: Vec<f32>,
    gram_weight: Vec<f32>,
    gram_surplus: Vec<f32>,
}

/// Everything that blocks share.
struct Work<'a> {
    problem: &'a Problem<'a>,
    target: &'a Target,
    kernel: &'a dyn Kernel,
    outer: &'a dyn Kernel,
    block_rows: usize,
    ld: usize,
    gram: bool,
    nearest: bool,
    idle: Mutex<Vec<Workspace>>,
}

impl<'a> Work<'a> {
    fn new(
        problem: &'a Problem<'a>,
        target: &'a Target,
        (kernel, outer): (&'a dyn Kernel, &'a dyn Kernel),
        wanted: &Wanted,
    ) -> Self {
        Self {
            problem,
            target,
            kernel,
            outer,
            block_rows: block_rows(target.keep.len(), kernel),
            ld: stride(target.width),
            gram: wanted.gram,
            nearest: wanted.nearest.is_some(),
            idle: Mutex::new(Vec::new()),
        }
    }

    fn run(&self, block: usize, part: &mut Part) -> Result<(), Error> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut space = idle.unwrap_or_else(|| self.workspace());
        part.first_row = block * self.block_rows;
        let rows = self.block_rows.min(self.problem.pool.n - part.first_row);
        let result = self.pack(part.first_row, rows, &mut space);
        if result.is_ok() {
            self.multiply(rows, &mut space);
            self.finish(rows, &mut space, part);
        }
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(space);
        result
    }

    /// How many rows of its mass a row stands for in the Gram, 0 if it is left out.
    ///
    /// A row of mass r stays with probability min(1, n r / T), so that each row that stays is worth its cost and the
    /// Gram is right in the mean.
    fn thinned(&self, row: usize, r: f64) -> f64 {
        let n = self.problem.place.n as f64;
        let m = self.target.keep.len() as f64;
        let cheap = GRAM_COST * m / (self.problem.pool.d as f64 + EXPONENTIALS);
        let least = (n / (GRAM_ROWS * m)).min(cheap).max(GRAM_MASS);
        let share = (n * r / least).min(1.0);
        if dice(row) < share {
            share.recip()
        } else {
            0.0
        }
    }

    fn workspace(&self) -> Workspace {
        Workspace {
            scratch: vec![0.0; self.problem.pool.d],
            packed: vec![[0.0; STRIDE]; self.target.depth_blocks() * self.block_rows],
            squared: Vec::new(),
            strip: Aligned::zeros(self.block_rows * self.ld),
            mass: Vec::new(),
            gram_weight: Vec::new(),
            gram_surplus: Vec::new(),
        }
    }

    /// Prepare the block's rows and lay them out by blocks of words.
    fn pack(&self, first_row: usize, rows: usize, space: &mut Workspace) -> Result<(), Error> {
        let Workspace {
            scratch,
            packed,
            squared,
            ..
        } = space;
        squared.clear();
        let place = self.problem.place.first;
        let depth = DEPTH * self.kernel.words().numbers();
        self.problem
            .pool
            .for_each_row(first_row..first_row + rows, scratch, |r, x| {
                let row = place + first_row + r;
                let norm = self.target.preparation.apply(x, "pool", row)?;
                self.target.check_range(norm, row)?;
                squared.push(norm);
                for (index, x) in x.chunks(depth).enumerate() {
                    self.kernel
                        .pack(x, &mut packed[index * self.block_rows + r]);
                }
                Ok(())
            })
    }

    /// Fill the strip with dot products. Rows beyond the last fill up a tile; what they hold is never read.
    fn multiply(&self, rows: usize, space: &mut Workspace) {
        let rows = rows.next_multiple_of(self.kernel.tile().0);
        for (index, packed) in space.packed.chunks_exact(self.block_rows).enumerate() {
            for (column, y) in self.target.panels(index) {
                let strip = &mut space.strip.as_mut()[column..];
                self.kernel
                    .product(&packed[..rows], y, strip, self.ld, index > 0);
            }
        }
    }

    /// From dot products to everything the block yields.
    fn finish(&self, rows: usize, space: &mut Workspace, part: &mut Part) {
        let Workspace {
            squared,
            strip,
            mass,
            gram_weight,
            gram_surplus,
            ..
        } = space;
        let n = self.problem.place.n as f64;
        let place = self.problem.place.first;
        (part.value, part.hard_value, part.entropy) = (0.0, 0.0, 0.0);
        for list in [&mut part.f, &mut part.hard, mass, gram_weight, gram_surplus] {
            list.clear();
        }
        part.nearest.clear();
        for (r, z) in strip.as_mut().chunks_mut(self.ld).take(rows).enumerate() {
            let z = &mut z[..self.target.width];
            let peak = self
                .kernel
                .logits(z, &self.target.columns, squared[r], self.nearest);
            let (sum, moment) = self.kernel.exponentials(z, peak.soft);
            let (f, h) = self.target.minima(squared[r], peak.soft, peak.hard, sum);
            let row = self
                .problem
                .rule
                .apply(part.first_row + r, f, h, self.problem.eps);
            part.f.push(f as f32);
            part.hard.push(h as f32);
            part.nearest.push(self.target.keep[peak.nearest] as i32);
            part.value += row.phi;
            part.hard_value += row.hard;
            // -sum_j p_j log p_j with log2 p_j = (z_j - top) - log2 sum
            let bits = f64::from(sum).log2() - f64::from(moment) / f64::from(sum);
            part.entropy += row.r * bits * std::f64::consts::LN_2;
            // Times n, so that masses of 1/n sit in the middle of float32's range.
            mass.push((row.r * n / f64::from(sum)) as f32);
            let stands_for = self.thinned(place + part.first_row + r, row.r);
            gram_weight.push((row.w * stands_for * n / f64::from(sum).powi(2)) as f32);
            gram_surplus.push(((row.r - row.w) * stands_for * n / f64::from(sum)) as f32);
        }
        part.q.clear();
        part.q.resize(self.target.width, 0.0);
        self.kernel
            .add_rows(&mut part.q, strip.as_ref(), self.ld, mass);
        if self.gram {
            part.surplus.clear();
            part.surplus.resize(self.target.width, 0.0);
            self.kernel
                .add_rows(&mut part.surplus, strip.as_ref(), self.ld, gram_surplus);
            part.plan.pack(
                strip.as_ref(),
                self.ld,
                self.target.width,
                gram_weight,
                self.outer,
            );
        }
    }
}

/// A number in [0, 1) that depends on the row alone (the mixing of SplitMix64).
fn dice(row: usize) -> f64 {
    let mut x = (row as u64)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}
