"""Every backend and instruction set against the float64 reference, at any shape, type, cost and scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gapsel.backends.cpu import CpuBackend
from gapsel.cost import cost_matrix
from gapsel.records import COST_KINDS, CostKind
from sweeps import BACKENDS, FAST, REFERENCE, assert_agrees, problem, rounding

if TYPE_CHECKING:
    from gapsel.backends import Backend


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


def test_large_common_offset_keeps_the_digits(fast: Backend) -> None:
    p = problem(200, 30, 6, normalize=False, dtype=np.float32)
    p.x, p.target.y[:] = (p.x + 1000).astype(np.float32), p.target.y + 1000
    assert_agrees(p, p.sweep(fast), p.sweep(REFERENCE))


@pytest.mark.parametrize("m", [3000, 20000])
def test_many_columns(m: int) -> None:
    """The block shrinks so that its strip stays small."""
    p = problem(130, m, 3)
    gram = m < 5000
    found = p.sweep(CpuBackend(2), gram=gram)
    exact = p.sweep(REFERENCE, gram=gram)
    np.testing.assert_allclose(found.f, exact.f, atol=rounding(p), rtol=1e-6)
    assert np.abs(found.swept.q - exact.swept.q).sum() < 1e-4
