"""A sweep against what is known without it: the formula by hand, a linear program, constants of g, ties."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.optimize import linprog  # type: ignore[import-untyped]

from gapsel.cost import cost_matrix
from gapsel.records import Box, Cost, Target
from sweeps import Problem, problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends import Backend


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
    # Its terms are near 1.
    assert result.swept.value == pytest.approx(sum(phi), rel=1e-6, abs=2e-7)
    h = [0.5 - 0.2, 0.5 - 0.2, 1.0 + 0.3]
    bound = [min(lo[i] * h[i], hi[i] * h[i] + room[i] * price[i]) for i in range(3)]
    assert result.swept.hard == pytest.approx(sum(bound), rel=1e-6, abs=2e-7)
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


def test_constants_stay_in_the_null_space_of_the_hessian(backend: Backend) -> None:
    """With fixed masses diag(gram_q) - gram takes a constant to 0, however coarsely the Gram was rounded."""
    p = problem(400, 60, 24, lam=0.0)
    swept = p.sweep(backend).swept
    assert swept.gram is not None
    assert swept.gram_q is not None
    np.testing.assert_allclose(swept.gram.sum(axis=1), swept.gram_q, rtol=1e-12, atol=1e-15)


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


def test_topk(backend: Backend) -> None:
    values = np.random.default_rng(0).integers(0, 50, 200_000).astype(np.float32)
    for k in (0, 1, 1000, len(values)):
        assert backend.topk(values, k).tolist() == np.argsort(values, kind="stable")[:k].tolist()
