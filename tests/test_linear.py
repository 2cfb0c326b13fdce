"""The linear systems of Newton steps, against NumPy's own solver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gapsel.potentials import linear
from gapsel.potentials.curvature import Curvature

if TYPE_CHECKING:
    from numpy.typing import NDArray

System = tuple["NDArray[np.float64]", "NDArray[np.float64]"]


def of_a_plan(m: int, width: float = 1.0) -> System:
    """Return diagonal (m,) and Gram (m, m) of random rows, whose logits spread by ``width``; and a little damping."""
    e = np.exp(width * np.random.default_rng(m).standard_normal((8 * m, m)))
    p = e / e.sum(1, keepdims=True)
    return (1 + 1e-6) * p.sum(0), p.T @ p


def badly_conditioned(m: int) -> System:
    """Return a diagonal and a Gram whose difference has eigenvalues from 1e-12 to 1, in no order of columns."""
    rng = np.random.default_rng(m)
    q = np.linalg.qr(rng.standard_normal((m, m)))[0]
    matrix = (q * np.logspace(-12, 0, m)) @ q.T
    return np.full(m, 2.0), 2.0 * np.eye(m) - (matrix + matrix.T) / 2


def refuse(*_: object) -> None:
    """Stand where no factorisation is to be."""
    pytest.fail("a factorisation")


@pytest.mark.parametrize("m", [1, 2, 64, 300])
@pytest.mark.parametrize("width", [0.3, 1.0, 3.0])
def test_a_plan_needs_no_factorisation(monkeypatch: pytest.MonkeyPatch, m: int, width: float) -> None:
    diagonal, gram = of_a_plan(m, width)
    matrix, v = np.diag(diagonal) - gram, np.random.default_rng(0).standard_normal(m)
    v -= v.mean()
    kept, exact = v.copy(), np.linalg.solve(matrix, v)
    monkeypatch.setattr(linear, "_by_factorisation", refuse)
    error = linear.solved(diagonal, gram, v) - exact
    # A constant is nearly nothing to such a matrix, and nothing to a step.
    error -= error.mean()
    assert error @ matrix @ error <= 2e-8 * (exact @ matrix @ exact)
    np.testing.assert_array_equal(v, kept)


@pytest.mark.parametrize("m", [2, 65, 300])
def test_what_conjugate_gradients_leave_is_factorised(m: int) -> None:
    diagonal, gram = badly_conditioned(m)
    v = np.random.default_rng(0).standard_normal(m)
    found = linear.solved(diagonal, gram, v)
    np.testing.assert_allclose(diagonal * found - gram @ found, v, atol=1e-3)


@pytest.mark.parametrize("least", [-1.0, 3.0])
def test_what_is_not_positive_is_solved_as_well(least: float) -> None:
    """An indefinite matrix, by its diagonal or in spite of it."""
    diagonal, gram = np.array([least, 4.0, 5.0]), np.full((3, 3), 0.0)
    gram[0, 1] = gram[1, 0] = 6.0
    v = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(linear.solved(diagonal, gram, v), np.linalg.solve(np.diag(diagonal) - gram, v))


def test_nothing_asks_for_nothing() -> None:
    diagonal, gram = of_a_plan(5)
    np.testing.assert_array_equal(linear.solved(diagonal, gram, np.zeros(5)), np.zeros(5))


def test_steps_follow_the_damping_and_the_gram() -> None:
    """A step is that of the damping as it is now."""
    m, rng = 90, np.random.default_rng(1)
    gram, gradient = of_a_plan(m)[1] / m, rng.standard_normal(m)

    def is_right(kept: Curvature, gram: NDArray[np.float64]) -> None:
        matrix = np.diag(kept.diagonal + kept.damping * np.maximum(kept.q, kept.diagonal)) - gram
        np.testing.assert_allclose(matrix @ kept.step(gradient), 0.1 * gradient, atol=1e-6)

    kept = Curvature(0.1, np.full(m, 2.0), np.full(m, 8.0), gram, reach=1e9)
    is_right(kept, gram)
    kept.trust(0.0, gradient)
    kept.reach = 1e9
    is_right(kept, gram)
    indefinite = gram + 20 * np.eye(m)
    is_right(Curvature(0.1, np.full(m, 2.0), np.full(m, 8.0), indefinite, reach=1e9), indefinite)
