//! The only place that names Python: borrow the arrays, release the lock, call, wrap.

mod arrays;

use numpy::ndarray::Ix2;
use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::PyAny;

use crate::kept::KeptView;
use crate::kernel::{self, Precision};
use crate::pool::Pool;
use crate::problem::{KeptProblem, Place, Problem, Wanted};
use crate::rule::Rule;
use crate::sweep::Sweep;
use crate::target::{Cost, TargetView};
use crate::{threads, topk};
use arrays::{Output, RowArray, ShardArray, contiguous, numbers, output};

type Top<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f32>>);
type Swept<'py> = (
    Bound<'py, PyArray1<f64>>,
    f64,
    f64,
    f64,
    Option<(Bound<'py, PyArray2<f64>>, Bound<'py, PyArray1<f64>>)>,
    Option<Top<'py>>,
);

/// `gapsel.records.Query`, its arrays in one piece and of the types that the core reads.
#[derive(FromPyObject)]
struct Query<'py> {
    target: QueryTarget<'py>,
    g: PyReadonlyArray1<'py, f64>,
    #[pyo3(attribute("box"))]
    rule: QueryBox<'py>,
    eps: f64,
    cost: QueryCost,
    gram: bool,
    k: usize,
    rough: bool,
    close: bool,
    f: Option<Bound<'py, PyArray1<f32>>>,
    hard: Option<Bound<'py, PyArray1<f32>>>,
    nearest: Option<Bound<'py, PyArray1<i32>>>,
    plan: Option<Bound<'py, PyArray2<u8>>>,
}

impl Query<'_> {
    fn precision(&self) -> Precision {
        match (self.rough, self.close) {
            (true, _) => Precision::Rough,
            (false, true) => Precision::Close,
            (false, false) => Precision::Exact,
        }
    }
}

#[derive(FromPyObject)]
struct QueryTarget<'py> {
    y: PyReadonlyArray2<'py, f32>,
    b: PyReadonlyArray1<'py, f64>,
}

#[derive(FromPyObject)]
struct QueryBox<'py> {
    lo: Bound<'py, PyAny>,
    hi: Bound<'py, PyAny>,
    price: Bound<'py, PyAny>,
    eta: f64,
}

#[derive(FromPyObject)]
struct QueryCost {
    kind: String,
    normalize: bool,
}

/// `gapsel.records.KeptPlan`.
#[derive(FromPyObject)]
struct KeptPlan<'py> {
    plan: PyReadonlyArray2<'py, u8>,
    f: PyReadonlyArray1<'py, f32>,
    g: PyReadonlyArray1<'py, f64>,
}

#[pyfunction]
#[pyo3(signature = (shards, query, *, first = 0, n = None, threads = 0, isa = None))]
#[allow(clippy::needless_pass_by_value)]
fn sweep<'py>(
    py: Python<'py>,
    shards: Vec<Bound<'py, PyAny>>,
    query: Query<'py>,
    first: usize,
    n: Option<usize>,
    threads: usize,
    isa: Option<&str>,
) -> PyResult<Swept<'py>> {
    let isa = kernel::choose(isa)?;
    let shards = shards
        .iter()
        .enumerate()
        .map(|(i, s)| ShardArray::new(i, s))
        .collect::<PyResult<Vec<_>>>()?;
    let views = shards
        .iter()
        .enumerate()
        .map(|(i, s)| s.view(i))
        .collect::<PyResult<Vec<_>>>()?;
    let QueryTarget { y, b } = &query.target;
    let (m, d) = (y.shape()[0], y.shape()[1]);
    let rows = query.rule.rows()?;
    let pool = Pool::new(views, d)?;
    let problem = Problem {
        place: Place {
            first,
            n: n.unwrap_or(pool.n),
        },
        pool,
        target: TargetView {
            y: y.as_slice().map_err(|_| contiguous("y"))?,
            b: b.as_slice().map_err(|_| contiguous("b"))?,
            g: query.g.as_slice().map_err(|_| contiguous("g"))?,
            d,
        },
        rule: query.rule.view(&rows)?,
        eps: query.eps,
        cost: Cost {
            kind: query.cost.kind.parse()?,
            normalize: query.cost.normalize,
        },
    };
    let mut outputs = Outputs::new(&query)?;
    let wanted = outputs.wanted(&query)?;
    let work = || crate::sweep::sweep(&problem, wanted, isa);
    let swept = py.detach(|| threads::with_threads(threads, work))??;
    wrapped(py, swept, m, query.k > 0)
}

#[pyfunction]
#[pyo3(signature = (kept, query, *, threads = 0, isa = None))]
#[allow(clippy::needless_pass_by_value)]
fn sweep_kept<'py>(
    py: Python<'py>,
    kept: KeptPlan<'py>,
    query: Query<'py>,
    threads: usize,
    isa: Option<&str>,
) -> PyResult<Swept<'py>> {
    let isa = kernel::choose(isa)?;
    let rows = query.rule.rows()?;
    let problem = KeptProblem {
        kept: KeptView {
            codes: kept.plan.as_slice().map_err(|_| contiguous("plan"))?,
            f: kept.f.as_slice().map_err(|_| contiguous("kept f"))?,
            g: kept.g.as_slice().map_err(|_| contiguous("kept g"))?,
        },
        b: query.target.b.as_slice().map_err(|_| contiguous("b"))?,
        g: query.g.as_slice().map_err(|_| contiguous("g"))?,
        rule: query.rule.view(&rows)?,
        eps: query.eps,
    };
    let mut outputs = Outputs::new(&query)?;
    let wanted = outputs.wanted(&query)?;
    let work = || crate::sweep::sweep_kept(&problem, wanted, isa);
    let swept = py.detach(|| threads::with_threads(threads, work))??;
    wrapped(py, swept, problem.b.len(), query.k > 0)
}

/// The arrays that are to be written.
struct Outputs<'py> {
    f: Output<'py, f32>,
    hard: Output<'py, f32>,
    nearest: Output<'py, i32>,
    plan: Output<'py, u8, Ix2>,
}

impl<'py> Outputs<'py> {
    /// Borrow them for writing.
    fn new(query: &Query<'py>) -> PyResult<Self> {
        Ok(Self {
            f: output("f", query.f.as_ref())?,
            hard: output("hard", query.hard.as_ref())?,
            nearest: output("nearest", query.nearest.as_ref())?,
            plan: output("plan", query.plan.as_ref())?,
        })
    }

    /// All that the query wants.
    fn wanted(&mut self, query: &Query<'py>) -> PyResult<Wanted<'_>> {
        Ok(Wanted {
            gram: query.gram,
            k: query.k,
            precision: query.precision(),
            f: numbers("f", &mut self.f)?,
            hard: numbers("hard", &mut self.hard)?,
            nearest: numbers("nearest", &mut self.nearest)?,
            plan: numbers("plan", &mut self.plan)?,
        })
    }
}

impl<'py> QueryBox<'py> {
    /// lo, hi and price.
    fn rows(&self) -> PyResult<[RowArray<'py>; 3]> {
        Ok([
            RowArray::new("lo", &self.lo)?,
            RowArray::new("hi", &self.hi)?,
            RowArray::new("price", &self.price)?,
        ])
    }

    /// The rule with these arrays.
    fn view<'a>(&self, [lo, hi, price]: &'a [RowArray<'py>; 3]) -> PyResult<Rule<'a>> {
        Ok(Rule {
            lo: lo.view("lo")?,
            hi: hi.view("hi")?,
            price: price.view("price")?,
            eta: self.eta,
        })
    }
}

/// What a sweep against m targets gives, as Python's; with the lowest f, if asked for.
fn wrapped(py: Python<'_>, swept: Sweep, m: usize, top: bool) -> PyResult<Swept<'_>> {
    let gram = swept
        .gram
        .map(|(gram, q)| {
            let gram = gram.into_pyarray(py).reshape([m, m])?;
            PyResult::Ok((gram, q.into_pyarray(py)))
        })
        .transpose()?;
    let (f, rows): (Vec<f32>, Vec<i64>) = swept
        .top
        .into_iter()
        .map(|(f, row)| (f, row as i64))
        .unzip();
    let top = top.then(|| (rows.into_pyarray(py), f.into_pyarray(py)));
    Ok((
        swept.q.into_pyarray(py),
        swept.value,
        swept.hard,
        swept.entropy,
        gram,
        top,
    ))
}

#[pyfunction]
#[pyo3(name = "span_rows", signature = (columns, n, *, gram = false, rough = false, isa = None))]
fn py_span_rows(
    columns: usize,
    n: usize,
    gram: bool,
    rough: bool,
    isa: Option<&str>,
) -> PyResult<usize> {
    let isa = kernel::choose(isa)?;
    let precision = if rough {
        Precision::Rough
    } else {
        Precision::Exact
    };
    Ok(crate::sizes::span_rows(columns, n, gram, isa, precision))
}

#[pyfunction]
#[pyo3(name = "topk")]
#[allow(clippy::needless_pass_by_value)]
fn py_topk<'py>(
    py: Python<'py>,
    values: PyReadonlyArray1<'py, f32>,
    k: usize,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let values = values.as_slice().map_err(|_| contiguous("values"))?;
    let rows = py.detach(|| threads::with_threads(0, || topk::topk(values, k)))??;
    Ok(rows
        .into_iter()
        .map(|row| row as i64)
        .collect::<Vec<_>>()
        .into_pyarray(py))
}

#[pyfunction]
#[pyo3(signature = (*, rough = false))]
fn isas(rough: bool) -> Vec<&'static str> {
    kernel::available()
        .iter()
        .filter(|isa| isa.is_rough() || !rough)
        .map(|isa| isa.name)
        .collect()
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("DEBUG_BUILD", cfg!(debug_assertions))?;
    module.add_function(wrap_pyfunction!(sweep, module)?)?;
    module.add_function(wrap_pyfunction!(sweep_kept, module)?)?;
    module.add_function(wrap_pyfunction!(py_span_rows, module)?)?;
    module.add_function(wrap_pyfunction!(py_topk, module)?)?;
    module.add_function(wrap_pyfunction!(isas, module)?)
}
