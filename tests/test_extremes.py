"""The solver at the ends of what it may be given: rare weights, repeated rows, masses near 0 and 1, any k and eps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapsel.errors import UsageError
from gapsel.potentials import Cap, Dual, Rows, Task, ascend, ascent, solve
from gapsel.potentials.capped import CappedDual
from gapsel.potentials.trimming import Trimmed
from gapsel.records import Box
from outside_judge import ot
from solving import CPU, REFERENCE, base, cloud, costs, make, masses, mixing, true_error

if TYPE_CHECKING:
    from numpy.typing import NDArray


def some_weigh_nothing(rng: np.random.Generator, rows: int) -> NDArray[np.float64]:
    """Weights (rows,), about half of them 0, one at least not."""
    w = rng.random(rows) * (rng.random(rows) < 0.5)
    w[rng.integers(rows)] += 0.1
    return np.asarray(w / w.sum())


@given(
    n=st.integers(1, 24),
    m=st.integers(1, 10),
    d=st.integers(1, 4),
    chosen=st.sampled_from([0.0, 0.4, 1.0]),
    mass=st.sampled_from([0.0, 1e-12, 1e-3, 0.5, 1 - 1e-9, 1.0]),
    rel=st.sampled_from([1e-3, 0.3, 1e4]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=80)
def test_the_ends_of_the_ranges_are_solved_or_it_is_said(  # noqa: PLR0917
    n: int, m: int, d: int, chosen: float, mass: float, rel: float, seed: int
) -> None:
    """With rows and examples given twice, weights of 0 on either side, k from 1 to n."""
    rng = np.random.default_rng(seed)
    x, y = cloud(n, d, seed)[rng.integers(n, size=n)], cloud(m, d, seed + 1)[rng.integers(m, size=m)]
    a, b = some_weigh_nothing(rng, n), some_weigh_nothing(rng, m)
    task = make(x, y, a=a, b=b, k=max(1, round(chosen * n)), mass=mass, rel=rel)
    solution = solve(task, CPU)
    evidence = solution.potentials.evidence
    assert np.isfinite(solution.f).all()
    assert np.isfinite(solution.potentials.g).all()
    # Equal rows round alike, which the mean over them does not take away.
    allowed = 0.05 * task.tolerance + float(np.sqrt(n)) * evidence.rounding
    assert true_error(task, solution) == pytest.approx(evidence.marginal_error, abs=allowed, rel=1e-3)
    r, lo = masses(task, solution), (1 - mass) * base(task)
    assert (r >= lo - 1e-12).all()
    assert (r <= lo + mass * task.rows.capacity + 1e-12).all()
    slack = 1e-6 * (1.0 + task.eps + float(np.abs(solution.f).max() + np.abs(solution.potentials.g).max()))
    assert evidence.dual_value <= product_plan(task) + slack, "weak duality"
    if mass == 0:
        assert evidence.hard_bound <= ot.emd2(base(task), task.target.b, costs(task)) + slack


def product_plan(task: Task) -> float:
    """What the boxed problem costs where each row spreads as the target does, and the selection is even."""
    taken = np.full(task.rows.n, task.mass / task.rows.n)
    r = (1 - task.mass) * base(task) + taken
    room = np.full(task.rows.n, task.mass * task.rows.capacity)
    return float(r @ costs(task) @ task.target.b) + task.box().eta * mixing(taken, room)


@pytest.mark.parametrize("kind", ["plain", "tilted", "trimmed", "capped"])
@given(
    mass=st.sampled_from([0.0, 0.3, 1.0]),
    eta=st.sampled_from([0.1, 1.0, 3.0]),
    far=st.sampled_from([0.1, 3.0, 30.0]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=25)
def test_sinkhorns_step_never_lowers_the_dual(kind: str, mass: float, eta: float, far: float, seed: int) -> None:
    """From anywhere, whatever the temperature of the rows: it is what the loop falls back on."""
    rng = np.random.default_rng(seed)
    b = some_weigh_nothing(rng, 6)
    task = make(cloud(14, 3, seed), cloud(6, 3, seed + 1), b=b, k=4, mass=mass, rel=0.2)
    dual = Dual(REFERENCE, task.rows, task.target, task.rows.box(mass, eta * task.eps), task.eps, task.cost)
    if kind == "tilted":
        dual = dual.tilted(some_weigh_nothing(rng, 6) * (b > 0), b)
    elif kind == "trimmed":
        dual = replace(dual, trimmed=Trimmed(0.2, np.zeros(6, np.intp), eta * task.eps))
    elif kind == "capped" and mass > 0:
        rows = task.rows.under((Cap(0.6, np.repeat([0, 1], 7).astype(np.int32)),))
        dual = CappedDual(
            backend=REFERENCE, rows=rows, target=task.target, box=dual.box, eps=task.eps, cost=task.cost, mass=mass
        )
    here = dual.at(far * task.eps * rng.standard_normal(6))
    there = dual.at(here.g + dual.scaling_step(here))
    size = abs(here.value) + float(b @ np.abs(here.g)) + task.eps
    assert there.value >= here.value - 1e-10 * size


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mass", [0.0, 0.5, 1.0])
def test_samples_may_miss_all_rows_that_weigh_something(mass: float, seed: int) -> None:
    """Three of 6,000 rows are what the model has: few samples and lists hold one of them."""
    a = np.zeros(6000)
    a[[7, 3000, 5999]] = 1
    solution = solve(make(cloud(6000, 8), cloud(20, 8, seed=1), a=a, k=20, mass=mass, seed=seed), CPU)
    assert {stage.name for stage in solution.potentials.evidence.trace} >= {"sample", "pool"}
    assert solution.potentials.evidence.converged


def test_a_part_in_which_no_row_weighs_anything_is_refused() -> None:
    rows = Rows.whole([cloud(50)], 5, np.eye(1, 50)[0])
    assert rows.part(np.arange(3)).a.tolist() == [1, 0, 0]  # type: ignore[union-attr]
    with pytest.raises(UsageError, match=r"none of 4 random rows .* --fit-rows"):
        rows.part(np.arange(10, 14))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=50)
def test_tilted_columns_stay_positive_and_hold_what_the_rows_do(seed: int) -> None:
    """However little the part's columns have in common with those of the whole."""
    rng = np.random.default_rng(seed)
    task = make(cloud(5), cloud(8, seed=1), b=rng.random(8) + 0.01)
    dual = Dual(REFERENCE, task.rows, task.target, Box.fixed(task.rows.a), task.eps, task.cost)
    own, whole = rng.dirichlet(np.full(8, 0.1)), rng.dirichlet(np.full(8, 0.1))
    held = dual.tilted(own, whole).at(np.zeros(8)).columns
    assert (held > 0).all()
    assert held.sum() == pytest.approx(1)


def test_secants_know_how_trimmed_columns_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Gram they are all that is known of the curvature, which the columns have a part in."""
    monkeypatch.setattr(ascent, "_LARGEST_GRAM", 0)
    task = make(cloud(300, 6), cloud(30, 6, seed=1, shift=0.7), rel=0.1)
    trimmed = Trimmed(0.3, np.zeros(30, np.intp), 0.3 * task.eps)
    box = Box.fixed(task.rows.a)
    dual = Dual(REFERENCE, task.rows, task.target, box, task.eps, task.cost, trimmed=trimmed)
    reached = ascend(dual, np.zeros(30), tolerance=1e-6, max_sweeps=60)
    assert reached.point.error <= 1e-6
    step, answer = reached.curvature.secants[-1]
    before = dual.at(reached.point.g - step)
    np.testing.assert_allclose(answer, before.gradient - reached.point.gradient, atol=1e-12)
