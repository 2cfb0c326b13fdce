"""The choice one more step would make, and the evidence that says how settled a ranking is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapsel.backends.cpu import CpuBackend
from gapsel.cost import measure_scale
from gapsel.potentials import Dual, Rows, Task, solve
from gapsel.potentials.ranking import candidates, chosen_after, exchanged
from gapsel.records import Cost, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

CPU = CpuBackend(2)


def task(n: int = 3000, m: int = 30, k: int = 60, mass: float = 0.0, tolerance: float = 1e-3) -> Task:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 8)).astype(np.float32)
    y = (rng.standard_normal((m, 8)) + 0.7).astype(np.float32)
    target, cost = Target(y, np.full(m, 1 / m)), Cost()
    scale = measure_scale(x, target, cost)
    return Task(Rows.whole([x], k), target, cost, scale, scale.eps(0.2), mass, tolerance=tolerance)


def dual_of(t: Task) -> Dual:
    return Dual(CPU, t.rows, t.target, t.box(), t.eps, t.cost)


@pytest.mark.parametrize("mass", [0.0, 0.5])
@pytest.mark.parametrize("size", [0.0, 1e-3, 0.05])
def test_the_shortlist_holds_every_row_that_the_step_lifts_into_the_choice(mass: float, size: float) -> None:
    t = task(mass=mass)
    dual, rng = dual_of(t), np.random.default_rng(1)
    point = dual.at(t.eps * rng.standard_normal(30), want_f=True)
    step = size * rng.standard_normal(30)
    found = chosen_after(dual, point, step, t.k)
    assert found is not None
    there = dual.at(point.g + step, want_f=True)
    assert found.tolist() == CPU.topk(there.f, t.k).tolist()


@given(seed=st.integers(0, 10**6), size=st.floats(0, 0.2))
@settings(max_examples=60, deadline=None)
def test_the_bound_holds_whatever_the_step(seed: int, size: float) -> None:
    t = task(400, 12, 20)
    dual, rng = dual_of(t), np.random.default_rng(seed)
    point = dual.at(t.eps * rng.standard_normal(12), want_f=True)
    step = size * rng.standard_normal(12)
    there = dual.at(point.g + step, want_f=True)
    assert set(CPU.topk(there.f, t.k)) <= set(candidates(point.f, step, t.k, CPU.resolution))


def test_a_step_that_leaves_no_short_list_gives_no_answer() -> None:
    t = task()
    dual = dual_of(t)
    point = dual.at(np.zeros(30), want_f=True)
    step: NDArray[np.float64] = np.linspace(0.0, 100.0, 30)
    assert chosen_after(dual, point, step, t.k) is None
    assert np.isnan(exchanged(CPU.topk(point.f, t.k), None))


def test_the_share_exchanged_is_of_the_rows_before() -> None:
    rows = np.arange(10)
    assert exchanged(rows, rows[::-1]) == 0.0
    assert exchanged(rows, np.concatenate([rows[3:], [20, 21, 22]])) == pytest.approx(0.3)


@pytest.mark.parametrize("mass", [0.0, 0.3, 1.0])
def test_a_ranking_alone_needs_fewer_sweeps_and_is_the_same_ranking(mass: float) -> None:
    t = task(20_000, 100, 400, mass)
    best = CPU.topk(solve(replace(t, tolerance=1e-6), CPU).f, t.k)
    full, found = solve(t, CPU), solve(t, CPU, ranking=True)
    assert found.chosen is not None
    assert np.isin(found.chosen, best).mean() >= 0.995
    assert found.potentials.evidence.full_sweeps <= full.potentials.evidence.full_sweeps
    assert full.chosen is None


@pytest.mark.parametrize("mass", [0.0, 0.5, 1.0])
def test_the_evidence_says_how_much_of_the_choice_could_still_change(mass: float) -> None:
    """What a rough solution says of itself is near its real distance from the converged choice."""
    exact = solve(task(mass=mass, tolerance=1e-6), CPU)
    best = CPU.topk(exact.f, 60)
    assert exact.potentials.evidence.unsettled <= 0.02
    for tolerance in (0.3, 0.03):
        found = solve(task(mass=mass, tolerance=tolerance), CPU)
        real = 1.0 - np.isin(CPU.topk(found.f, 60), best).mean()
        said = found.potentials.evidence.unsettled
        assert np.isnan(said) or abs(said - real) <= 0.05 + 0.5 * real
