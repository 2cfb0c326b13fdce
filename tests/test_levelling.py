"""Weights of several tasks: moved until their shares are level, and left alone where there is nothing to move by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gapsel.potentials import levelled

if TYPE_CHECKING:
    from numpy.typing import NDArray


def test_shares_that_rise_with_their_weight_are_levelled() -> None:
    """Shares w_t / s_t are level at weights in proportion to s."""
    s = np.array([0.1, 0.3, 0.6])
    found = levelled(lambda w: w / s, 3)
    assert found.level
    np.testing.assert_allclose(found.weights, s, rtol=0.06)
    np.testing.assert_allclose(found.shares, found.weights / s)
    assert found.weights.sum() == pytest.approx(1, abs=1e-12)


def test_a_task_without_a_share_keeps_its_part_of_equal_weights() -> None:
    found = levelled(lambda w: np.array([w[0] / 0.1, np.nan, w[2] / 0.5]), 3)
    assert found.level
    np.testing.assert_allclose(found.weights, [1 / 9, 1 / 3, 5 / 9], rtol=0.06)
    assert found.weights[1] == 1 / 3


def test_where_no_weight_would_move_nothing_is_tried_again() -> None:
    """Shares that are below 0 in the mean have no parts."""
    seen: list[NDArray[np.float64]] = []

    def shares_at(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        seen.append(weights)
        return np.array([0.1, -0.4])

    found = levelled(shares_at, 2)
    assert not found.level
    assert found.rounds == len(seen) == 1
    assert found.weights.tolist() == [0.5, 0.5]
