"""The cost by hand, its scale against plain loops, and what cannot be scaled to unit length."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gapsel.cost import cost_matrix, measure_scale
from gapsel.errors import DataError
from gapsel.records import COST_KINDS, Cost, CostKind, CostScale, Target

if TYPE_CHECKING:
    from collections.abc import Sequence


def by_hand(u: Sequence[float], v: Sequence[float], cost: Cost) -> float:
    if cost.normalize:
        u, v = ([t / math.hypot(*w) for t in w] for w in (u, v))
    if cost.kind == "cosine":
        return 1 - sum(s * t for s, t in zip(u, v, strict=True)) / (math.hypot(*u) * math.hypot(*v))
    squared = sum((s - t) ** 2 for s, t in zip(u, v, strict=True))
    return math.sqrt(squared) if cost.kind == "euclidean" else squared


@pytest.mark.parametrize("kind", COST_KINDS)
@pytest.mark.parametrize("normalize", [False, True])
def test_cost_is_the_formula(kind: CostKind, normalize: bool) -> None:  # noqa: FBT001
    x, y = [[3.0, 4.0], [-1.0, 0.5], [0.1, 0.0]], [[1.0, 0.0], [2.0, 2.0]]
    cost = Cost(kind, normalize)
    expected = [[by_hand(u, v, cost) for v in y] for u in x]
    np.testing.assert_allclose(cost_matrix(np.array(x), np.array(y), cost), expected, rtol=1e-12)


def test_a_vector_is_at_no_distance_from_itself() -> None:
    x = np.random.default_rng(0).standard_normal((50, 7)) + 100
    c = cost_matrix(x, x, Cost("sqeuclidean", normalize=False))
    assert (c >= 0).all()
    assert np.diag(c).max() < 1e-9


@pytest.mark.parametrize("kind", COST_KINDS)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("m", [2, 7, 4096])
def test_scale_is_mean_and_spread_within_a_row(kind: CostKind, m: int, normalize: bool) -> None:  # noqa: FBT001
    """With fewer targets than dimensions and with more, which are two ways to the same sum."""
    rng = np.random.default_rng(m)
    x, y, b = 5 + rng.standard_normal((20, 3)), rng.standard_normal((m, 3)).astype(np.float32), rng.random(m)
    b /= b.sum()
    cost = Cost(kind, normalize)
    c = cost_matrix(x, y, cost)
    means = [np.average(row, weights=b) for row in c]
    variances = [np.average((row - mean) ** 2, weights=b) for row, mean in zip(c, means, strict=True)]
    scale = measure_scale(x, Target(y, b), cost)
    assert scale.mean == pytest.approx(np.mean(means), rel=1e-12)
    assert scale.row_std == pytest.approx(math.sqrt(np.mean(variances)), rel=1e-12)


@pytest.mark.parametrize("kind", COST_KINDS)
def test_one_target_repeated_has_no_spread(kind: CostKind) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((30, 3)), np.repeat(rng.standard_normal((1, 3)), 11, axis=0).astype(np.float32)
    scale = measure_scale(x, Target(y, np.full(11, 1 / 11)), Cost(kind))
    assert scale.row_std < 1e-7 * scale.mean


def test_many_targets_are_measured_on_a_part() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 3)), rng.standard_normal((20_000, 3)).astype(np.float32)
    c = cost_matrix(x, y, Cost())
    scale = measure_scale(x, Target(y, np.full(20_000, 1 / 20_000)), Cost())
    assert scale.mean == pytest.approx(c.mean(), rel=0.03)
    assert scale.row_std == pytest.approx(math.sqrt(c.var(axis=1).mean()), rel=0.03)


def test_a_target_without_weight_has_no_part_in_the_scale() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 3)), rng.standard_normal((6, 3)).astype(np.float32)
    with_zero = measure_scale(x, Target(y, np.array([0.2, 0.2, 0.2, 0.2, 0.2, 0.0])), Cost())
    without = measure_scale(x, Target(y[:5], np.full(5, 0.2)), Cost())
    assert with_zero.mean == pytest.approx(without.mean, rel=1e-12)
    assert with_zero.row_std == pytest.approx(without.row_std, rel=1e-12)


def test_the_part_that_is_measured_is_one_of_what_weighs_something() -> None:
    """Every other target weighs nothing, and every other one would be left out."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 3)), rng.standard_normal((10_000, 3)).astype(np.float32)
    b = np.tile([0.0, 1 / 5000], 5000)
    scale = measure_scale(x, Target(y, b), Cost())
    assert scale.mean == pytest.approx(cost_matrix(x, y[1::2], Cost()).mean(), rel=0.03)


def test_eps_has_a_unit_even_where_costs_do_not_vary() -> None:
    assert CostScale(mean=2.0, row_std=0.5).eps(0.1) == pytest.approx(0.05)
    assert CostScale(mean=2.0, row_std=0.0).eps(0.1) == pytest.approx(0.2)
    assert CostScale(mean=0.0, row_std=0.0).eps(0.1) == pytest.approx(0.1)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_row_without_direction_is_named(value: float) -> None:
    x = np.ones((5, 2))
    x[3] = value
    with pytest.raises(DataError, match=r"pool row 3 has norm"):
        cost_matrix(x, np.ones((2, 2)), Cost())
    with pytest.raises(DataError, match=r"target row 3 has norm"):
        cost_matrix(np.ones((2, 2)), x, Cost("cosine", normalize=False))
