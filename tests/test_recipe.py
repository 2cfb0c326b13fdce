"""The ways through the recipe: samples, shortlists, Grams that pay or do not, tilted parts, no look made twice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gapsel.backends.cpu import CpuBackend
from gapsel.potentials import Dual, shortlist_sizes, solve
from gapsel.records import Box, Query
from solving import CPU, REFERENCE, UNKEEPING, cloud, make, scaled_to_the_end, weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.records import Sweep


@pytest.mark.parametrize("backend", [CPU, UNKEEPING], ids=["by plan", "by vectors"])
@pytest.mark.parametrize("mass", [0.0, 0.5, 1.0])
def test_samples_shortlist_and_plan_lead_where_plain_scaling_leads(mass: float, backend: Backend) -> None:
    x, y = cloud(6000, 8), cloud(20, 8, seed=1, shift=0.5)
    task = make(x, y, a=weights(6000), b=weights(20), k=40, mass=mass, rel=0.3, etas=(1.0,))
    assert sum(shortlist_sizes(6000, 20, task.rows.k, mass)) < 6000
    solution = solve(task, backend)
    evidence = solution.potentials.evidence
    assert evidence.converged
    assert evidence.full_sweeps <= (4 if backend is CPU else 12)
    stages = {"sample", "pool"} | ({"shortlist"} if mass else set()) | ({"plan"} if backend is CPU else set())
    assert {stage.name for stage in evidence.trace} == stages
    f, _, value = scaled_to_the_end(task, 1000)
    assert evidence.dual_value == pytest.approx(value, rel=1e-4)
    assert len(np.intersect1d(np.argsort(f)[:40], np.argsort(solution.f)[:40])) >= 39


class Counting(CpuBackend):
    """Counts what is asked for."""

    grams = sweeps = 0

    def sweep(self, shards: Sequence[NDArray[np.floating]], query: Query) -> Sweep:
        self.grams += query.gram
        self.sweeps += 1
        return super().sweep(shards, query)


def test_thousands_of_targets_are_solved_without_a_gram() -> None:
    backend = Counting(2)
    task = make(cloud(20_000, 16), cloud(5000, 16, seed=1, shift=0.3), k=200)
    solution = solve(task, backend)
    assert solution.potentials.evidence.converged
    assert backend.grams == 0
    assert backend.sweeps <= 20
    query = Query(task.target, solution.potentials.g, Box.fixed(1 / 20_000), task.eps, task.cost)
    again = CPU.sweep(task.rows.shards, query)
    assert np.abs(again.q - task.target.b).sum() <= task.tolerance


@pytest.mark.parametrize("mass", [0.5, 1.0])
def test_a_gram_that_does_not_pay_is_not_made_in_a_box_either(mass: float) -> None:
    """Many targets for few dimensions: no stage asks for one, and the mass is solved for all the same."""
    backend = Counting(2)
    solution = solve(make(cloud(20_000, 4), cloud(700, 4, seed=1, shift=0.3), k=200, mass=mass), backend)
    assert {stage.name for stage in solution.potentials.evidence.trace} >= {"sample", "shortlist", "pool"}
    assert solution.potentials.evidence.marginal_error < 0.02
    assert backend.grams == 0


def test_no_g_is_looked_at_twice() -> None:
    """The same rows at the same g teach nothing, least of all where steps are refused; only a closer look does."""
    seen: list[bytes] = []

    class Recording(CpuBackend):
        def sweep(self, shards: Sequence[NDArray[np.floating]], query: Query) -> Sweep:
            look = len(shards[0]), query.box.hi, query.box.eta, query.eps, query.rough
            seen.append(query.g.tobytes() + str(look).encode())
            return super().sweep(shards, query)

    for mass in (0.0, 0.5, 1.0):
        solve(make(cloud(4000, 8), cloud(20, 8, seed=1, shift=1.0), k=40, mass=mass, rel=0.1), Recording(2))
        assert len(seen) == len(set(seen))
        seen.clear()


@pytest.mark.parametrize("mass", [0.0, 0.7])
def test_a_tilted_part_of_the_pool_has_the_gradient_of_the_whole(mass: float) -> None:
    """And the tilted function is still a potential of its gradient."""
    task = make(cloud(600, 8), cloud(12, 8, seed=1, shift=0.5), k=60, mass=mass, rel=0.3)
    rng = np.random.default_rng(0)
    g, part = 0.1 * rng.standard_normal(12), task.rows.sample(200, rng)
    whole = Dual(REFERENCE, task.rows, task.target, task.box(), task.eps, task.cost)
    dual = Dual(REFERENCE, part, task.target, part.box(mass, task.box().eta), task.eps, task.cost)
    here, there = whole.at(g), dual.at(g)
    tilted = replace(dual, tilt=there.sweep.q - here.sweep.q)
    np.testing.assert_allclose(tilted.at(g).gradient, here.gradient, atol=1e-14)
    step, h = rng.standard_normal(12), 1e-5
    slope = (tilted.at(g + h * step).value - tilted.at(g - h * step).value) / (2 * h)
    assert slope == pytest.approx(float(tilted.at(g).gradient @ step), rel=1e-5)
