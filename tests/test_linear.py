"""The linear systems of Newton steps, against NumPy's own solver."""

from __future__ import annotations

import numpy as np
import pytest

from gapsel.potentials.curvature import Curvature
from gapsel.potentials.linear import Factored, solved


def positive(m: int) -> np.ndarray:
    """Return a positive definite matrix (m, m), with eigenvalues from 1e-6 on."""
    roots = np.random.default_rng(m).standard_normal((m, m))
    return roots @ roots.T / m + 1e-6 * np.eye(m)


@pytest.mark.parametrize("m", [1, 2, 63, 64, 65, 129, 300])
def test_a_factored_matrix_solves_like_numpy(m: int) -> None:
    matrix, rng = positive(m), np.random.default_rng(0)
    factored = Factored.of(matrix)
    assert factored is not None
    for _ in range(3):
        v = rng.standard_normal(m)
        kept = v.copy()
        np.testing.assert_allclose(matrix @ factored.solved(v), v, atol=1e-8)
        np.testing.assert_array_equal(v, kept)
        np.testing.assert_allclose(matrix @ solved(matrix, v), v, atol=1e-8)


def test_what_is_not_positive_definite_or_too_large_is_not_factored() -> None:
    assert Factored.of(np.diag([1.0, -1.0])) is None
    assert Factored.of(np.eye(2048)) is None


def test_steps_follow_the_damping_and_the_gram() -> None:
    """What is kept of one step serves the next only if it is the same system."""
    m, rng = 90, np.random.default_rng(1)
    gram, gradient = positive(m) / 2, rng.standard_normal(m)

    def is_right(kept: Curvature, gram: np.ndarray) -> None:
        matrix = np.diag(kept.diagonal + kept.damping * np.maximum(kept.q, kept.diagonal)) - gram
        np.testing.assert_allclose(matrix @ kept.step(gradient), 0.1 * gradient, atol=1e-10)

    kept = Curvature(0.1, np.full(m, 2.0), np.full(m, 8.0), gram, reach=1e9)
    is_right(kept, gram)
    is_right(kept, gram)
    kept.trust(0.0, gradient)
    kept.reach = 1e9
    is_right(kept, gram)
    indefinite = gram + 20 * np.eye(m)
    is_right(Curvature(0.1, np.full(m, 2.0), np.full(m, 8.0), indefinite, reach=1e9), indefinite)
