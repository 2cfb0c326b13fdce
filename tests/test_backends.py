"""Every backend and instruction set against the formula, the float64 reference, and itself cut differently."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog  # type: ignore[import-untyped]

from cuda_emulator import compiler
from emulated_gpu import emulated_backend
from gapsel import _native
from gapsel.backends.cpu import CpuBackend
from gapsel.backends.gpu import GpuBackend, gpus
from gapsel.backends.parts import Part, added, swept
from gapsel.backends.reference import ReferenceBackend, dice, row_masses, share_kept, stands_for
from gapsel.cost import cost_matrix
from gapsel.errors import DataError, GapselError, UsageError
from gapsel.records import COST_KINDS, OUTPUTS, Box, Cost, CostKind, Query, Sweep, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from gapsel.backends import Backend

ISAS = _native.isas()
ROUGH = _native.isas(rough=True)
REFERENCE = ReferenceBackend()
BACKENDS: dict[str, Callable[[], Backend]] = {
    "reference": ReferenceBackend,
    **{f"cpu-{isa}": partial(CpuBackend, 1, isa) for isa in ISAS},
    # Where there is a g++ to compile the kernels for this processor; CI is to have one.
    **({"gpu-emulated": emulated_backend} if compiler() or os.environ.get("CI") else {}),
    **({"gpu": GpuBackend} if gpus() else {}),
}
FAST = [name for name in BACKENDS if name != "reference"]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]()


@pytest.fixture(params=ISAS)
def cpu(request: pytest.FixtureRequest) -> CpuBackend:
    return CpuBackend(1, request.param)


@pytest.fixture(params=FAST)
def fast(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]()


@dataclass
class Result:
    """A sweep with its (n,) outputs."""

    swept: Sweep
    f: NDArray[np.float32]
    hard: NDArray[np.float32]
    nearest: NDArray[np.int32]
    gram_error: float


def gram_error(backend: Backend) -> float:
    """How far products of the Gram's factors may be off: each is off by 2^-8 in bfloat16, by 2^-11 in float16."""
    if isinstance(backend, GpuBackend):
        return 2.1 * 2**-11
    return 2.1 * 2**-8 if isinstance(backend, CpuBackend) and backend.multiplies_bfloat16 else 0.0


@dataclass
class Problem:
    """What a sweep reads, as values that may change."""

    x: NDArray[Any]
    target: Target
    g: NDArray[np.float64]
    box: Box
    eps: float
    cost: Cost

    def query(self, **wanted: Any) -> Query:  # noqa: ANN401
        return Query(self.target, self.g, self.box, self.eps, self.cost, **wanted)

    def sweep(self, backend: Backend, shards: Sequence[Any] | None = None, **wanted: Any) -> Result:  # noqa: ANN401
        """Sweep with a Gram, unless it is said otherwise, and all outputs."""
        outputs = {name: np.empty(len(self.x), kind) for name, kind in OUTPUTS.items()}
        query = self.query(**{"gram": True, **wanted}, **outputs)
        swept = backend.sweep([self.x] if shards is None else shards, query)
        return Result(swept, **outputs, gram_error=gram_error(backend))


def problem(
    n: int = 333,
    m: int = 71,
    d: int = 19,
    *,
    kind: CostKind = "sqeuclidean",
    normalize: bool = True,
    dtype: type[np.floating[Any]] = np.float32,
    rel: float = 0.05,
    lam: float = 0.5,
    seed: int = 0,
    price: str = "none",
) -> Problem:
    """A clustered problem with a zero target weight and pool weights of zero, at a g near which the box binds.

    ``price`` is "none", "one" for all rows, or the type of an array of prices, some of them negative.
    """
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((3, d))
    x = (centres[rng.integers(3, size=n)] + rng.standard_normal((n, d))).astype(dtype)
    y = (centres[rng.integers(3, size=m)] + rng.standard_normal((m, d))).astype(np.float32)
    b = rng.random(m)
    b[rng.random(m) < 0.2] = 0
    b[rng.integers(m)] = 1
    a = rng.random(n)
    a[1:][rng.random(n - 1) < 0.1] = 0
    target, cost = Target(y, b / b.sum()), Cost(kind, normalize)
    eps = rel * float(cost_matrix(x, y, cost).mean()) + 1e-3
    g = eps * rng.standard_normal(m)
    a /= a.sum()
    f = np.empty(n)
    REFERENCE.sweep([x], Query(target, g, Box.fixed(1 / n), eps, cost, f=f))
    lo = (1 - lam) * a
    prices = 3 * eps * rng.standard_normal(n)
    priced: dict[str, float | NDArray[np.floating]]
    priced = {"none": 0.0, "one": 2 * eps, "float32": prices.astype(np.float32), "float64": prices}
    box = Box(lo, lo + 2 * lam / n if lam else lo, eta=2 * eps, price=priced[price])
    return Problem(x, target, g - float(np.median(f)), box, eps, cost)


def rounding(p: Problem) -> float:
    """How far a float32 cost may lie from the exact one: a few units in the last place of the largest product."""
    x, y = np.asarray(p.x, np.float64), np.asarray(p.target.y, np.float64)
    if p.cost.normalize or p.cost.kind == "cosine":
        square = 4.0
    else:
        centre = y[p.target.b > 0].mean(axis=0)
        square = float(((x - centre) ** 2).sum(1).max() + ((y - centre) ** 2).sum(1).max())
    error = 1e-6 * square
    if p.cost.kind != "euclidean":
        return error
    # The root magnifies the error of small squares: d sqrt(t) = dt / (2 sqrt(t)), at most sqrt(dt).
    smallest = cost_matrix(p.x, p.target.y[p.target.b > 0], p.cost).min()
    return min(math.sqrt(error), error / max(2 * float(smallest), 1e-300)) + 1e-6 * math.sqrt(square)


def undecided(p: Problem, exact: Result, relative: float) -> float:
    """The weight of the rows that rounding may put into the Gram or leave out of it."""
    r, slope, _ = row_masses(exact.f.astype(np.float64), p.box)
    share = share_kept(r, int((p.target.b > 0).sum()), p.x.shape[1])
    near = np.abs(share - dice(len(r))) <= 2 * relative * share + 1e-12
    return float(((1 + relative) * (r + p.eps * np.abs(slope)) / np.clip(share, 1e-12, 1.0))[near].sum())


def weight_of_the_gram(p: Problem, exact: Result) -> float:
    """Return sum_i v_i |w_i|."""
    r, slope, _ = row_masses(exact.f.astype(np.float64), p.box)
    v = stands_for(r, int((p.target.b > 0).sum()), p.x.shape[1])
    return float(v @ np.abs(r + p.eps * slope))


def assert_agrees(p: Problem, found: Result, exact: Result, error: float = 0.0) -> None:
    """Hold a result against the reference, to what rounding the cost allows, and ``error`` more of it."""
    dc = error + rounding(p) + 2e-7 * float(np.abs(exact.f).max() + np.abs(p.g).max())
    np.testing.assert_allclose(found.f, exact.f, atol=dc, rtol=1e-6)
    np.testing.assert_allclose(found.hard, exact.hard, atol=dc, rtol=1e-6)
    reduced = cost_matrix(p.x, p.target.y, p.cost) - p.g
    chosen = reduced[np.arange(len(p.x)), found.nearest]
    assert (p.target.b[found.nearest] > 0).all()
    np.testing.assert_allclose(chosen, exact.hard, atol=2 * dc, rtol=1e-6)
    relative = math.expm1(min(2 * dc / p.eps + dc / p.box.eta, 3.0)) + 1e-5
    mass = float(exact.swept.q.sum())
    assert np.abs(found.swept.q - exact.swept.q).sum() <= relative * mass + 1e-12
    assert (found.swept.q[p.target.b == 0] == 0).all()
    scale = dc + 1e-6 * (float(np.abs(exact.f).max() + np.max(np.abs(p.box.price))) + p.box.eta)
    total = float(2 * np.sum(np.broadcast_to(p.box.hi, len(p.x))))
    assert abs(found.swept.value - exact.swept.value) <= 4 * scale * total
    assert abs(found.swept.hard - exact.swept.hard) <= 4 * scale * total
    assert abs(found.swept.entropy - exact.swept.entropy) <= 4 * relative * mass * (1 + math.log(len(p.g))) + 1e-12
    assert found.swept.gram is not None
    assert exact.swept.gram is not None
    assert np.array_equal(found.swept.gram, found.swept.gram.T)
    gap = float(np.abs(found.swept.gram - exact.swept.gram).sum())
    coarse = found.gram_error * weight_of_the_gram(p, exact)
    assert gap <= 2 * relative * mass + coarse + undecided(p, exact, relative) + 1e-12


# The formula, by hand


def by_hand(
    x: list[list[float]], y: list[list[float]], b: list[float], g: list[float], eps: float
) -> tuple[list[float], list[list[float]]]:
    """f and p of squared Euclidean costs, in plain Python."""
    costs = [[sum((s - t) ** 2 for s, t in zip(xi, yj, strict=True)) for yj in y] for xi in x]
    terms = [[bj * math.exp((gj - c) / eps) for bj, gj, c in zip(b, g, row, strict=True)] for row in costs]
    return [-eps * math.log(sum(row)) for row in terms], [[t / sum(row) for t in row] for row in terms]


X, Y = [[0.0, 1.0], [1.0, 1.0], [2.0, -1.0]], [[0.5, 0.5], [2.0, 0.0]]
B, G, EPS = [0.25, 0.75], [0.2, -0.3], 0.7


def test_three_rows_two_columns(backend: Backend) -> None:
    f, p = by_hand(X, Y, B, G, EPS)
    a = [0.2, 0.3, 0.5]
    target = Target(np.array(Y, np.float32), np.array(B))
    spec = Problem(np.array(X, np.float32), target, np.array(G), Box.fixed(np.array(a)), EPS, Cost(normalize=False))
    result = spec.sweep(backend, k=2)
    np.testing.assert_allclose(result.f, f, rtol=1e-6)
    q = [sum(a[i] * p[i][j] for i in range(3)) for j in range(2)]
    np.testing.assert_allclose(result.swept.q, q, rtol=1e-6)
    gram = [[sum(a[i] * p[i][j] * p[i][h] for i in range(3)) for h in range(2)] for j in range(2)]
    assert result.swept.gram is not None
    np.testing.assert_allclose(result.swept.gram, np.array(gram), rtol=1e-6 + result.gram_error)
    assert result.swept.value == pytest.approx(sum(ai * fi for ai, fi in zip(a, f, strict=True)), rel=1e-6)
    hard = [0.5 - 0.2, 0.5 - 0.2, 1.0 + 0.3]
    np.testing.assert_allclose(result.hard, hard, rtol=1e-6)
    assert result.nearest.tolist() == [0, 0, 1]
    assert result.swept.hard == pytest.approx(sum(ai * hi for ai, hi in zip(a, hard, strict=True)), rel=1e-6)
    entropy = sum(a[i] * -sum(pij * math.log(pij) for pij in p[i]) for i in range(3))
    assert result.swept.entropy == pytest.approx(entropy, rel=1e-6)
    assert result.swept.top is not None
    assert result.swept.top[0].tolist() == sorted(range(3), key=lambda i: f[i])[:2]


@pytest.mark.parametrize("price", [(0.0, 0.0, 0.0), (0.5, -0.7, 0.3), (0.0, 0.2, -3.0)], ids=str)
def test_rows_in_a_box(backend: Backend, price: tuple[float, float, float]) -> None:
    """One row without room, one between its bounds, one that may be empty."""
    f, p = by_hand(X, Y, B, G, EPS)
    lo, hi, eta = [0.3, 0.1, 0.0], [0.3, 0.5, 0.9], 1.5
    share = [1 / (1 + math.exp((fi + t) / eta)) for fi, t in zip(f, price, strict=True)]
    r = [lo[i] + (hi[i] - lo[i]) * share[i] for i in range(3)]
    target = Target(np.array(Y, np.float32), np.array(B))
    box = Box(np.array(lo), np.array(hi), eta, np.array(price) if any(price) else 0.0)
    result = Problem(np.array(X, np.float32), target, np.array(G), box, EPS, Cost(normalize=False)).sweep(backend)
    np.testing.assert_allclose(result.swept.q, [sum(r[i] * p[i][j] for i in range(3)) for j in range(2)], rtol=1e-6)
    room = [hi[i] - lo[i] for i in range(3)]
    phi = [lo[i] * f[i] - eta * room[i] * math.log(1 + math.exp(-(f[i] + price[i]) / eta)) for i in range(3)]
    assert result.swept.value == pytest.approx(sum(phi), rel=1e-6)
    h = [0.5 - 0.2, 0.5 - 0.2, 1.0 + 0.3]
    bound = [min(lo[i] * h[i], hi[i] * h[i] + room[i] * price[i]) for i in range(3)]
    assert result.swept.hard == pytest.approx(sum(bound), rel=1e-6)
    w = [r[i] - EPS / eta * (hi[i] - lo[i]) * share[i] * (1 - share[i]) for i in range(3)]
    gram = [[sum(w[i] * p[i][j] * p[i][h] for i in range(3)) for h in range(2)] for j in range(2)]
    assert result.swept.gram is not None
    np.testing.assert_allclose(result.swept.gram, np.array(gram), rtol=1e-6 + result.gram_error)


def linear_program(p: Problem) -> tuple[float, NDArray[np.float64]]:
    """The least <C, P> + <r - lo, price> of plans P with row sums lo <= r <= hi and column sums b, and its prices g."""
    n, m = len(p.x), len(p.g)
    lo, hi, price = (np.broadcast_to(one, n) for one in (p.box.lo, p.box.hi, p.box.price))
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    found = linprog(
        (cost_matrix(p.x, p.target.y, p.cost) + price[:, None]).ravel(),
        A_ub=np.r_[rows, -rows], b_ub=np.r_[hi, -lo], A_eq=columns, b_eq=p.target.b,
    )  # fmt: skip
    assert found.success
    return found.fun - lo @ price, found.eqlin.marginals


@pytest.mark.parametrize("price", ["none", "one", "float32"])
def test_the_hard_bound_is_below_the_least_cost_and_reaches_it(backend: Backend, price: str) -> None:
    p = problem(25, 8, 4, price=price)
    least, g = linear_program(p)
    for other in (p.g, p.g - 0.3, p.g + 0.3, np.zeros(8)):
        p.g = other
        assert float(p.target.b @ p.g) + p.sweep(backend).swept.hard <= least + 1e-5
    p.g = g
    assert float(p.target.b @ p.g) + p.sweep(backend).swept.hard == pytest.approx(least, abs=1e-5)


def test_one_price_for_all_is_a_constant_of_g(backend: Backend) -> None:
    """A price on all mass above lo = 0 is paid by whoever is chosen: a higher threshold, and the same choice."""
    p = problem(lam=1.0, price="one")
    priced = p.sweep(backend)
    t = float(np.max(p.box.price))
    p.g, p.box = p.g - t, Box(p.box.lo, p.box.hi, p.box.eta)
    plain = p.sweep(backend)
    np.testing.assert_allclose(priced.f + t, plain.f, atol=1e-4 * t)
    np.testing.assert_allclose(priced.swept.q, plain.swept.q, rtol=1e-3, atol=1e-8)
    assert priced.swept.value == pytest.approx(plain.swept.value, rel=1e-4)


# The reference


@pytest.mark.parametrize("kind", COST_KINDS)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_costs_and_types(fast: Backend, kind: CostKind, normalize: bool, dtype: type[np.floating[Any]]) -> None:  # noqa: FBT001
    """More dimensions than one packed block holds, more rows than one group, in uneven shards."""
    p = problem(1500, 71, 777, kind=kind, normalize=normalize, dtype=dtype)
    shards = [p.x[:5], p.x[5:5], p.x[5:1100], p.x[1100:]]
    assert_agrees(p, p.sweep(fast, shards), p.sweep(REFERENCE))


@given(
    n=st.integers(1, 40) | st.sampled_from([111, 112, 113, 225]),
    m=st.integers(1, 50),
    d=st.integers(1, 20) | st.sampled_from([383, 385]),
    kind=st.sampled_from(COST_KINDS),
    normalize=st.booleans(),
    dtype=st.sampled_from([np.float16, np.float32]),
    rel=st.sampled_from([1.0, 0.1, 0.01, 0.001]),
    lam=st.sampled_from([0.0, 0.5, 1.0]),
    price=st.sampled_from(["none", "one", "float32", "float64"]),
    seed=st.integers(0, 1000),
    name=st.sampled_from(FAST),
)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_shape(name: str, n: int, **spec: Any) -> None:  # noqa: ANN401
    p = problem(n, **spec)
    k = n // 2
    found, exact = p.sweep(BACKENDS[name](), k=k), p.sweep(REFERENCE, k=k)
    assert_agrees(p, found, exact)
    if k:
        assert found.swept.top is not None
        rows, values = found.swept.top
        assert rows.tolist() == np.argsort(found.f, kind="stable")[:k].tolist()
        assert np.array_equal(values, found.f[rows])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("kind", COST_KINDS)
def test_peaky_rows_stay_finite(fast: Backend, kind: CostKind, scale: float) -> None:
    """Logits thousands apart: p is a Dirac at the nearest column, and f the hard minimum."""
    p = problem(150, 40, 8, kind=kind, normalize=False, lam=0.0)
    p.x, p.target.y[:] = (scale * p.x).astype(np.float32), scale * p.target.y
    p.g, p.eps = np.zeros(40), 1e-6 * float(cost_matrix(p.x, p.target.y, p.cost).mean())
    result = p.sweep(fast)
    assert result.swept.gram is not None
    assert all(np.isfinite(v).all() for v in (result.f, result.hard, result.swept.q, result.swept.gram))
    assert result.swept.q.sum() == pytest.approx(float(np.sum(p.box.lo)), rel=1e-5)
    exact = p.sweep(REFERENCE)
    np.testing.assert_allclose(result.hard, exact.hard, atol=3 * rounding(p), rtol=1e-6)
    assert (result.f >= result.hard - 3 * rounding(p)).all()


def test_constants_stay_in_the_null_space_of_the_hessian(backend: Backend) -> None:
    """With fixed masses diag(gram_q) - gram takes a constant to 0, however coarsely the Gram was rounded."""
    p = problem(400, 60, 24, lam=0.0)
    swept = p.sweep(backend).swept
    assert swept.gram is not None
    assert swept.gram_q is not None
    np.testing.assert_allclose(swept.gram.sum(axis=1), swept.gram_q, rtol=1e-12, atol=1e-15)


def test_large_common_offset_keeps_the_digits(fast: Backend) -> None:
    p = problem(200, 30, 6, normalize=False, dtype=np.float32)
    p.x, p.target.y[:] = (p.x + 1000).astype(np.float32), p.target.y + 1000
    assert_agrees(p, p.sweep(fast), p.sweep(REFERENCE))


def test_ties_go_to_the_lower_index(backend: Backend) -> None:
    p = problem(60, 20, 5)
    p.x[30:] = p.x[:30]
    p.target.y[10:] = p.target.y[:10]
    p.target.b[:], p.g[10:] = 1 / 20, p.g[:10]
    result = p.sweep(backend, k=31)
    assert (result.nearest < 10).all()
    assert np.array_equal(result.f[30:], result.f[:30])
    assert result.swept.top is not None
    place = {int(row): at for at, row in enumerate(result.swept.top[0])}
    assert all(place[row - 30] < place[row] for row in place if row >= 30)


def test_a_shift_of_g_shifts_f(fast: Backend) -> None:
    """f(g + t) = f(g) - t, and p does not change at all."""
    p = problem(lam=0.0)
    before = p.sweep(fast)
    p.g = p.g + 4096.0
    after = p.sweep(fast)
    np.testing.assert_allclose(after.f + 4096.0, before.f, atol=1e-3)
    np.testing.assert_allclose(after.swept.q, before.swept.q, atol=1e-9)


@pytest.mark.parametrize("m", [3000, 20000])
def test_many_columns(m: int) -> None:
    """The block shrinks so that its strip stays small."""
    p = problem(130, m, 3)
    gram = m < 5000
    found = p.sweep(CpuBackend(2), gram=gram)
    exact = p.sweep(REFERENCE, gram=gram)
    np.testing.assert_allclose(found.f, exact.f, atol=rounding(p), rtol=1e-6)
    assert np.abs(found.swept.q - exact.swept.q).sum() < 1e-4


# Rough sweeps


def bfloat16(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to the nearest bfloat16, ties to even, by hand."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)


@pytest.mark.parametrize("isa", ROUGH)
@pytest.mark.parametrize("kind", COST_KINDS)
@pytest.mark.parametrize("d", [1, 19, 769])
def test_a_rough_sweep_is_off_by_the_rounding_of_unit_vectors(isa: str, kind: CostKind, d: int) -> None:
    p = problem(250, 71, d, kind=kind, rel=0.2)
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (np.asarray(p.x), p.target.y))
    # A product of two roundings is off by at most 2^-7 of it, and the cost by two of them.
    error = 2**-6 * float((np.abs(x) @ np.abs(y).T).max())
    if kind == "euclidean":
        error = math.sqrt(error)
    found, exact = p.sweep(CpuBackend(1, isa), rough=True), p.sweep(CpuBackend(1, isa))
    assert_agrees(p, found, p.sweep(REFERENCE), error)
    if d > 1:
        assert not np.array_equal(found.f, exact.f)


@pytest.mark.parametrize("isa", ROUGH)
@pytest.mark.parametrize("kind", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("d", [2, 25, 770])
def test_a_rough_sweep_is_exact_where_bfloat16_is(isa: str, kind: CostKind, d: int) -> None:
    """The targets come in pairs (y, -y) of one weight, so that no centre is taken off."""
    p = problem(250, 60, d, kind=kind, normalize=False)
    p.x, p.target.y[:] = bfloat16(p.x), bfloat16(p.target.y)
    p.target.y[30:], p.target.b[30:] = -p.target.y[:30], p.target.b[:30]
    assert_agrees(p, p.sweep(CpuBackend(1, isa), rough=True), p.sweep(REFERENCE))


@pytest.mark.parametrize("isa", ROUGH)
def test_a_rough_distance_to_itself_is_zero(isa: str) -> None:
    """Norms are those of the rounded numbers, where they are not known to be 1."""
    p = problem(40, 40, 30, kind="euclidean", lam=0.0)
    p.x, p.target.b[:], p.g = p.target.y.copy(), 1 / 40, np.zeros(40)
    assert p.sweep(CpuBackend(1, isa), rough=True).hard.max() < 1e-3


@pytest.mark.parametrize("name", [f"cpu-{isa}" for isa in ISAS if isa not in ROUGH])
def test_rough_is_exact_without_products_of_bfloat16(name: str) -> None:
    p, backend = problem(30, 20, 9), BACKENDS[name]()
    assert bits(p.sweep(backend, k=5, rough=True)) == bits(p.sweep(backend, k=5))


# The same bits however the work is cut


def bits(result: Result) -> list[bytes]:
    swept = result.swept
    assert swept.top is not None
    arrays: list[NDArray[Any]] = [result.f, result.hard, result.nearest, swept.q, *swept.top]
    arrays += [one for one in (swept.gram, swept.gram_q) if one is not None]
    return [array.tobytes() for array in arrays] + [str((swept.value, swept.hard, swept.entropy)).encode()]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", COST_KINDS)
@pytest.mark.parametrize("rough", [False, True])
def test_threads_change_no_bit(isa: str, kind: CostKind, rough: bool) -> None:  # noqa: FBT001
    p = problem(5000, 90, 40, kind=kind)
    one, *others = (bits(p.sweep(CpuBackend(threads, isa), k=50, rough=rough)) for threads in (1, 2, 3, 0))
    assert all(other == one for other in others)


@given(
    cuts=st.lists(st.integers(0, 700), max_size=6),
    isa=st.sampled_from(ISAS),
    dtype=st.sampled_from([np.float16, np.float32]),
    rough=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_shards_change_no_bit(cuts: list[int], isa: str, dtype: type[np.floating[Any]], rough: bool) -> None:  # noqa: FBT001
    p = problem(700, 45, 11, dtype=dtype)
    shards = np.split(p.x, sorted(cuts))
    whole = p.sweep(CpuBackend(1, isa), k=9, rough=rough)
    assert bits(p.sweep(CpuBackend(2, isa), shards, k=9, rough=rough)) == bits(whole)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("gram", "rough"), [(True, False), (True, True), (False, False)])
def test_spans_swept_one_by_one_add_up_to_the_whole(isa: str, gram: bool, rough: bool) -> None:  # noqa: FBT001
    p, backend = problem(37_000 if gram else 10_000, 60, 23, price="float32"), CpuBackend(2, isa)
    whole = p.sweep(backend, k=5000, gram=gram, rough=rough)
    rows = backend.span_rows(p.target, len(p.x), gram=gram, rough=rough)
    assert 2 * rows < len(p.x) < 3 * rows
    f, hard, nearest = np.empty_like(whole.f), np.empty_like(whole.hard), np.empty_like(whole.nearest)

    def part(first: int) -> Part:
        at = slice(first, first + rows)
        query = p.query(gram=gram, k=5000, rough=rough, f=f[at], hard=hard[at], nearest=nearest[at])
        return backend.part(np.split(p.x[at], [77]), replace(query, box=p.box.at(at)), first, len(p.x))

    found = swept(added(map(part, range(0, len(p.x), rows)), k=5000))
    assert bits(Result(found, f, hard, nearest, 0.0)) == bits(whole)


def test_a_span_names_rows_by_their_number_in_the_pool() -> None:
    p, backend = problem(8000, 30, 9), CpuBackend(1)
    rows = backend.span_rows(p.target, 8000)
    p.x[rows + 3, 1], p.box = np.nan, Box.fixed(1 / 8000)
    with pytest.raises(DataError, match=f"pool row {rows + 3} holds NaN"):
        backend.part([p.x[rows:]], p.query(), rows, 8000)
    lo = np.zeros(8000 - rows)
    lo[4], p.box = -1.0, Box(lo, 1.0, 1.0)
    with pytest.raises(DataError, match=rf"lo\[{rows + 4}\] is -1"):
        backend.part([p.x[rows:]], p.query(), rows, 8000)


@pytest.mark.parametrize(("first", "rows"), [(0, 10), (1, 4999), (4999, 1), (0, 4999)])
def test_rows_that_are_no_span_are_refused(first: int, rows: int) -> None:
    p = problem(5000, 30, 9)
    p.box = Box.fixed(1.0)
    with pytest.raises(UsageError, match=f"{rows} rows from row {first} of 5000 are no span of the pool: give all"):
        CpuBackend(1).part([p.x[first : first + rows]], p.query(), first, 5000)


def test_a_row_is_the_same_wherever_it_stands(cpu: CpuBackend) -> None:
    p = problem(260, 45, 11)
    whole = p.sweep(cpu)
    for row in (0, 13, 14, 111, 112, 259):
        p.box = Box.fixed(1.0)
        x, p.x = p.x, p.x[row : row + 1]
        alone = p.sweep(cpu)
        p.x = x
        assert (alone.f[0], alone.hard[0], alone.nearest[0]) == (whole.f[row], whole.hard[row], whole.nearest[row])


@pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16])
def test_half_and_single_shards_mix(backend: Backend, half: type[Any]) -> None:
    p = problem(300, 20, 29)
    p.x = p.x.astype(half)
    single = p.x.astype(np.float32)
    mixed = [p.x[:130], single[130:200], p.x[200:]]
    assert bits(p.sweep(backend, mixed, k=3)) == bits(p.sweep(backend, [single], k=3))


def test_memory_mapped_shards(fast: Backend, tmp_path: Path) -> None:
    p = problem(300, 20, 9, dtype=np.float16)
    np.save(tmp_path / "x.npy", p.x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert bits(p.sweep(fast, [mapped], k=3)) == bits(p.sweep(fast, k=3))


def test_topk(backend: Backend) -> None:
    values = np.random.default_rng(0).integers(0, 50, 200_000).astype(np.float32)
    for k in (0, 1, 1000, len(values)):
        assert backend.topk(values, k).tolist() == np.argsort(values, kind="stable")[:k].tolist()


# What is refused


def planted(row: int, value: float) -> Callable[[Problem], None]:
    def plant(p: Problem) -> None:
        p.x[row] = value

    return plant


def with_target(**changes: Any) -> Callable[[Problem], None]:  # noqa: ANN401
    def change(p: Problem) -> None:
        p.target = Target(changes.get("y", p.target.y), changes.get("b", p.target.b))
        p.g = changes.get("g", p.g)

    return change


def with_box(*box: Any) -> Callable[[Problem], None]:  # noqa: ANN401
    def change(p: Problem) -> None:
        p.box = Box(*box)

    return change


def with_eps(eps: float) -> Callable[[Problem], None]:
    def change(p: Problem) -> None:
        p.eps = eps

    return change


def with_pool(x: NDArray[Any]) -> Callable[[Problem], None]:
    def change(p: Problem) -> None:
        p.x = x

    return change


N, M, D = 300, 20, 9
REFUSALS: list[tuple[str, Callable[[Problem], None], type[GapselError], str]] = [
    ("nan", planted(257, np.nan), DataError, r"pool row 257 holds NaN at dimension 0"),
    ("inf", planted(3, -np.inf), DataError, r"pool row 3 holds -inf"),
    ("zero row", planted(299, 0.0), DataError, r"pool row 299 has norm 0"),
    ("target nan", with_target(y=np.full((M, D), np.nan, np.float32)), DataError, r"target row \d+ holds NaN"),
    ("target zero", with_target(y=np.zeros((M, D), np.float32)), DataError, r"target row \d+ has norm 0"),
    ("width", with_pool(np.ones((N, D + 1), np.float32)), DataError, r"has 10 dimensions, the target has 9"),
    ("float64", with_pool(np.ones((N, D))), DataError, r"float64.*astype"),
    ("order", with_pool(np.ones((D, N), np.float32).T), DataError, r"ascontiguousarray"),
    ("no pool", with_pool(np.ones((0, D), np.float32)), DataError, r"pool is empty"),
    ("no target", with_target(y=np.ones((0, D), np.float32), b=np.ones(0)), DataError, r"target is empty"),
    ("g", with_target(g=np.ones(M + 1)), DataError, r"g has 21 entries, expected 20"),
    ("b", with_target(b=np.ones(M - 1)), DataError, r"expected"),
    ("g nan", with_target(g=np.full(M, np.nan), b=np.ones(M)), DataError, r"g\[0\] is NaN"),
    ("b negative", with_target(b=np.r_[np.ones(M - 1), -1.0]), DataError, r"b\[19\] is -1"),
    ("b zero", with_target(b=np.zeros(M)), DataError, r"all weights b are zero"),
    ("lo", with_box(np.ones(N - 1), 1.0, 1.0), DataError, r"lo has 299 entries, expected 300"),
    ("hi", with_box(0.0, np.ones(2), 1.0), DataError, r"hi has 2 entries"),
    ("lo negative", with_box(-1.0, 0.0, 1.0), DataError, r"lo\[0\] is -1"),
    ("hi infinite", with_box(0.0, np.inf, 1.0), DataError, r"hi\[0\] is inf"),
    ("lo above hi", with_box(np.r_[np.zeros(N - 1), 2.0], 1.0, 1.0), DataError, r"lo\[299\] is 2"),
    ("prices", with_box(0.0, 1.0, 1.0, np.ones(N + 1)), DataError, r"price has 301 entries, expected 300"),
    ("price nan", with_box(0.0, 1.0, 1.0, np.r_[np.ones(N - 1), np.nan]), DataError, r"price\[299\] is NaN"),
    ("price large", with_box(0.0, 1.0, 1.0, -1e19), DataError, r"price\[0\] is -1e\+19|-10000000000000000000"),
    ("eta", with_box(1.0, 1.0, 0.0), UsageError, r"eta is 0"),
    ("eps", with_eps(0.0), UsageError, r"eps is 0"),
    ("eps nan", with_eps(math.nan), UsageError, r"eps is NaN"),
    ("eps tiny", with_eps(1e-44), DataError, r"beyond float32"),
]


@pytest.mark.parametrize(("change", "error", "message"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_refusals(fast: Backend, change: Callable[[Problem], None], error: type[GapselError], message: str) -> None:
    p = problem(N, M, D)
    change(p)
    with pytest.raises(error, match=message):
        p.sweep(fast, np.split(p.x, [100, 250]) if p.x.flags.c_contiguous else [p.x])


def test_refused_settings() -> None:
    with pytest.raises(UsageError, match="instruction set 'mmx' is unknown"):
        CpuBackend(isa="mmx")
    with pytest.raises(UsageError, match="threads is -1"):
        CpuBackend(-1)


def test_refused_arguments(fast: Backend) -> None:
    p = problem(10, 4, 3)
    with pytest.raises(UsageError, match="k is 11 but there are only 10 rows"):
        p.sweep(fast, k=11)
    with pytest.raises(DataError, match=r"values\[1\] is NaN"):
        fast.topk(np.array([0, np.nan], np.float32), 1)
    p.cost = Cost("manhattan")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match='cost "manhattan" is unknown'):
        p.sweep(fast)


def test_refused_outputs(fast: Backend) -> None:
    p = problem(10, 4, 3)
    out = np.empty(10, np.float32)

    def sweep(**outputs: Any) -> None:  # noqa: ANN401
        fast.sweep([p.x], p.query(**outputs))

    with pytest.raises(UsageError, match="cannot be written"):
        sweep(f=out, hard=out)
    with pytest.raises(DataError, match="f has 9 entries, expected 10"):
        sweep(f=out[:9])
    out.flags.writeable = False
    with pytest.raises(UsageError, match="f cannot be written"):
        sweep(f=out)


def test_isa_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPSEL_ISA", "portable")
    assert CpuBackend().isa == "portable"
    assert CpuBackend(isa=ISAS[0]).isa == ISAS[0]
