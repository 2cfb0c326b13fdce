"""The interval holds what POT finds, whatever way it was reached, and is narrow where the solve is good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gapsel import distance as module
from gapsel.backends.cpu import CpuBackend
from gapsel.backends.reference import ReferenceBackend
from gapsel.cost import cost_matrix, measure_scale
from gapsel.distance import distance, plan_cost, standard_error, widest_row
from gapsel.potentials import Dual, Rows
from gapsel.records import COST_KINDS, Box, Cost, CostKind, Target
from outside_judge import ot

if TYPE_CHECKING:
    from gapsel.findings import Interval
    from gapsel.records import CostScale

Array = np.ndarray[Any, np.dtype[Any]]
CPU = CpuBackend(2)
COSTS = [pytest.param(Cost(kind, n), id=f"{kind}-{n}") for kind in COST_KINDS for n in (False, True)]


def problem(cost: Cost, seed: int, n: int = 300, m: int = 40) -> tuple[Rows, Target, CostScale]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 6)).astype(np.float32)
    y = (rng.standard_normal((m, 6)) + 0.5).astype(np.float32)
    b = rng.random(m)
    b[::7] = 0
    target = Target(y, b / b.sum())
    return Rows.whole([x[:100], x[100:]], 20, rng.random(n) + 0.1), target, measure_scale(x, target, cost)


def exact(rows: Rows, target: Target, cost: Cost) -> tuple[float, float]:
    """The transport cost by POT, and the largest cost."""
    used = target.b > 0
    c = cost_matrix(np.concatenate(rows.shards), target.y[used], cost)
    a = np.broadcast_to(np.asarray(rows.a, np.float64), (rows.n,))
    b = target.b[used] / target.b[used].sum()
    return float(ot.emd2(a / a.sum(), b, c, numItermax=1_000_000)), float(c.max())


def assert_holds(interval: Interval, rows: Rows, target: Target, cost: Cost) -> None:
    true, largest = exact(rows, target, cost)
    assert interval.lower <= true + 1e-6 * largest
    assert interval.upper >= true - 1e-6 * largest


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("seed", range(3))
def test_the_interval_holds_the_transport_cost_and_is_narrow(cost: Cost, seed: int) -> None:
    rows, target, scale = problem(cost, seed)
    picked = np.random.default_rng(seed).choice(300, 20, replace=False)
    for one in (rows, rows.mixed(picked, 0.5), rows.mixed(picked, 1.0), rows.only(picked)):
        found = distance(CPU, one, target, cost, scale, heavy=20)
        assert_holds(found, one, target, cost)
        assert found.upper - found.lower <= 0.1 * scale.row_std
        assert found.lower <= found.middle <= found.upper


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("heavy", [0, 20])
def test_a_sample_leads_to_an_interval_that_holds(monkeypatch: pytest.MonkeyPatch, cost: Cost, heavy: int) -> None:
    """However few rows the sample has: the bounds come from sweeps of all rows."""
    rows, target, scale = problem(cost, 7)
    picked = np.random.default_rng(0).choice(300, 20, replace=False)
    monkeypatch.setattr(module, "SAMPLE", 1)
    for smallest in (5, 100):
        monkeypatch.setattr(module, "SMALL", smallest)
        for one in (rows, rows.mixed(picked, 0.9)):
            assert_holds(distance(CPU, one, target, cost, scale, heavy=heavy, seed=smallest), one, target, cost)


def test_a_good_sample_makes_it_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL", 600)
    monkeypatch.setattr(module, "SAMPLE", 1)
    rows, target, scale = problem(Cost(), 1, 3000, 10)
    found = distance(CPU, rows, target, Cost(), scale)
    assert_holds(found, rows, target, Cost())
    assert found.upper - found.lower <= 0.25 * scale.row_std


def test_heavy_rows_are_kept_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine tenths of the mass on 20 rows of 3000: a sample that may miss them says less than one that keeps them."""
    monkeypatch.setattr(module, "ENOUGH", 300)
    rows, target, scale = problem(Cost(), 2, 3000, 10)
    mixture = rows.mixed(np.arange(0, 3000, 150), 0.9)
    kept, missed = (distance(CPU, mixture, target, Cost(), scale, heavy=heavy) for heavy in (20, 0))
    assert_holds(kept, mixture, target, Cost())
    assert_holds(missed, mixture, target, Cost())
    assert kept.upper - kept.lower < missed.upper - missed.lower


@pytest.mark.parametrize("cost", COSTS)
def test_fewer_rows_than_targets_take_their_place(cost: Cost) -> None:
    """The interval is that of the two sides exchanged; targets without weight count on neither."""
    rows, target, scale = problem(cost, 3, 300, 40)
    few = rows.only(np.arange(0, 300, 20), np.arange(1.0, 16.0) / 120)
    used = target.b > 0
    found = distance(CPU, few, target, cost, scale)
    assert_holds(found, few, target, cost)
    exchanged = Rows((target.y[used],), target.b[used], 1.0)
    assert found == distance(CPU, exchanged, Target(few.shards[0], np.asarray(few.a)), cost, scale)
    assert found.upper - found.lower <= 0.1 * scale.row_std


def test_nothing_is_between_a_set_and_itself() -> None:
    x = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    target = Target(x, np.full(50, 0.02))
    scale = measure_scale(x, target, Cost())
    found = distance(CPU, Rows.whole([x], 1), target, Cost(), scale)
    assert abs(found.lower) <= 1e-5
    assert found.upper <= 0.05 * scale.row_std


def test_one_target_is_known_exactly() -> None:
    x = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    target = Target(x[:1] + 1, np.ones(1))
    found = distance(CPU, Rows.whole([x], 1), target, Cost(), measure_scale(x, target, Cost()))
    true = cost_matrix(x, target.y, Cost()).mean()
    assert found.lower == pytest.approx(true, abs=1e-6)
    assert found.upper == pytest.approx(true, abs=1e-6)


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_the_widest_row_bounds_every_row(cost: Cost, offset: float) -> None:
    for seed in range(5):
        rows, target, _ = problem(cost, seed, 50, 12)
        moved = Rows(tuple(shard + np.float32(offset) for shard in rows.shards), rows.a, rows.capacity)
        c = cost_matrix(np.concatenate(moved.shards), target.y[target.b > 0], cost)
        assert widest_row(moved, target, cost) >= np.ptp(c, axis=1).max()


@pytest.mark.parametrize("kind", COST_KINDS)
def test_the_widest_row_is_attained(kind: CostKind) -> None:
    """Two opposite targets, and a row in line with them: no smaller bound would do."""
    x, y = np.array([[1.0, 0.0]], np.float32), np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)
    c = cost_matrix(x, y, Cost(kind))
    found = widest_row(Rows.whole([x], 1), Target(y, np.full(2, 0.5)), Cost(kind))
    assert found == pytest.approx(np.ptp(c), rel=1e-6)


def test_a_target_without_weight_does_not_widen_the_bound() -> None:
    rows, target, _ = problem(Cost(), 0)
    y = target.y.copy()
    y[target.b == 0] = 0
    assert widest_row(rows, Target(y, target.b), Cost()) == widest_row(rows, target, Cost())


def test_plan_cost_is_the_plans_cost() -> None:
    rows, target, scale = problem(Cost(), 0)
    eps, g = 0.3 * scale.row_std, 0.1 * np.random.default_rng(0).standard_normal(40)
    point = Dual(ReferenceBackend(), rows, target, Box.fixed(rows.a), eps, Cost()).at(g)
    c = cost_matrix(np.concatenate(rows.shards), target.y, Cost())
    plan = target.b * np.exp((g - c) / eps)
    plan *= (np.asarray(rows.a) / plan.sum(axis=1))[:, None]
    assert plan_cost(point, target, eps) == pytest.approx((plan * c).sum(), rel=1e-10)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighted", [False, True])
def test_of_very_many_rows_a_sample_gives_an_interval_that_holds(
    monkeypatch: pytest.MonkeyPatch, seed: int, *, weighted: bool
) -> None:
    """The sample is a fifth of the rows; the rows that carry most are not left to it."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2500, 6)).astype(np.float32)
    y = (rng.standard_normal((30, 6)) + 0.5).astype(np.float32)
    target, cost = Target(y, np.full(30, 1 / 30)), Cost(normalize=False)
    rows = Rows.whole([x[:700], x[700:]], 20, rng.random(2500) + 0.1 if weighted else None)
    scale = measure_scale(x, target, cost)
    whole = distance(CPU, rows, target, cost, scale, seed=seed)
    monkeypatch.setattr(module, "ENOUGH", 500)
    monkeypatch.setattr(module, "SMALL", 100)
    monkeypatch.setattr(module, "SAMPLE", 1)
    for one in (rows, rows.mixed(rng.choice(2500, 20, replace=False), 0.5)):
        found = distance(CPU, one, target, cost, scale, heavy=0 if one is rows else 20, seed=seed)
        assert_holds(found, one, target, cost)
        assert found.upper - found.lower > 2 * (whole.upper - whole.lower), "what a sample does not know is said"
        assert found.upper - found.lower < 1.5 * scale.row_std, "and is little"


def test_the_standard_error_is_what_many_samples_differ_by() -> None:
    """Of rows of any weight, beside heavy ones with quite other potentials that every sample has."""
    rng, n, heavy = np.random.default_rng(0), 2000, 20
    f, a = rng.standard_normal(n).astype(np.float32), rng.lognormal(size=n)
    f[:heavy] -= 5
    a[:heavy] = a[heavy:].sum() / heavy
    rows = Rows.whole([f[:, None]], heavy, a)
    told, means = [], []
    for _ in range(300):
        short = rows.shortlist(-a.astype(np.float32), heavy, 400, rng)
        own, weights = f[short.index], np.asarray(short.rows.a)
        told.append(standard_error(weights, own, ~np.isin(short.index, short.lowest), n - heavy))
        means.append(float(weights @ own))
    assert np.mean(told) == pytest.approx(np.std(means), rel=0.15)
    assert np.mean(means) == pytest.approx(float(np.asarray(rows.a) @ f), abs=0.3 * float(np.std(means)))


def test_where_few_rows_weigh_anything_all_of_these_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2500, 6)).astype(np.float32)
    target, cost, a = Target(x[:20] + 1, np.full(20, 0.05)), Cost(), np.zeros(2500)
    a[rng.choice(2500, 40, replace=False)] = 1
    rows, scale = Rows.whole([x], 20, a), measure_scale(x, target, cost)
    monkeypatch.setattr(module, "ENOUGH", 50)
    found = distance(CPU, rows, target, cost, scale)
    assert_holds(found, rows, target, cost)
    assert found == distance(CPU, Rows.whole([x[a > 0]], 20), target, cost, scale)
