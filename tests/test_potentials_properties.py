"""What holds of any solution: order, shards, constants, derivatives, evidence, starts, units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapsel.backends.cpu import CpuBackend
from gapsel.potentials import Dual, Start, Task, solve
from gapsel.records import Box
from outside_judge import ot
from solving import (
    CPU,
    RAW,
    REFERENCE,
    base,
    cloud,
    costs,
    distance,
    judged,
    make,
    scaled_to_the_end,
    true_error,
    weights,
)


@given(
    n=st.integers(1, 40),
    m=st.integers(1, 20),
    d=st.integers(1, 6),
    mass=st.sampled_from([0.0, 0.3, 1.0]),
    rel=st.sampled_from([0.5, 0.1]),
    seed=st.integers(0, 100),
)
@settings(max_examples=60)
def test_any_shape_is_solved_or_says_so(  # noqa: PLR0917
    n: int, m: int, d: int, mass: float, rel: float, seed: int
) -> None:
    k = 1 + seed % n
    task = make(
        cloud(n, d, seed), cloud(m, d, seed + 1), a=weights(n, seed), b=weights(m, seed), k=k, mass=mass, rel=rel
    )
    solution = solve(task, CPU)
    evidence = solution.potentials.evidence
    assert np.isfinite(solution.f).all()
    assert evidence.converged == (evidence.marginal_error <= task.tolerance)
    allowed = 0.05 * task.tolerance + evidence.rounding
    assert true_error(task, solution) == pytest.approx(evidence.marginal_error, abs=allowed, rel=1e-3)
    if mass == 0:
        assert evidence.hard_bound <= evidence.dual_value + 1e-5


@given(seed=st.integers(0, 1000), mass=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=15)
def test_the_order_of_the_rows_is_without_effect(seed: int, mass: float) -> None:
    rng = np.random.default_rng(seed)
    x, y, a = cloud(50, seed=seed), cloud(7, seed=seed + 1), weights(50, seed)
    order = rng.permutation(50)
    more: dict[str, Any] = {"k": 6, "mass": mass, "tolerance": 1e-8, "max_sweeps": 300}
    plain, permuted = solve(make(x, y, a=a, **more), REFERENCE), solve(make(x[order], y, a=a[order], **more), REFERENCE)
    assert plain.potentials.evidence.converged
    np.testing.assert_allclose(permuted.f, plain.f[order], atol=1e-5)


@pytest.mark.parametrize("mass", [0.0, 0.5])
def test_shards_and_threads_change_no_bit(mass: float) -> None:
    """Large enough for samples, and for a shortlist."""
    x, y = cloud(6000, 8), cloud(20, 8, seed=1, shift=0.5)
    more: dict[str, Any] = {"a": weights(6000), "k": 20, "mass": mass, "rel": 0.2}
    one = solve(make(x, y, **more), CpuBackend(1))
    assert {stage.name for stage in one.potentials.evidence.trace} >= {"sample", "pool"}
    for cuts, threads in (([], 2), ([1, 1, 1700, 3999], 1), ([123, 2048], 2)):
        other = solve(make(np.split(x, cuts), y, **more), CpuBackend(threads))
        assert other.f.tobytes() == one.f.tobytes()
        assert other.potentials.g.tobytes() == one.potentials.g.tobytes()


@given(t=st.floats(-10, 10), seed=st.integers(0, 100))
@settings(max_examples=20)
def test_a_constant_of_g_is_free_at_mass_zero(t: float, seed: int) -> None:
    task = make(cloud(20, seed=seed), cloud(6, seed=seed + 1))
    dual = Dual(REFERENCE, task.rows, task.target, Box.fixed(task.rows.a), task.eps, task.cost)
    g = np.random.default_rng(seed).standard_normal(6)
    here, there = dual.at(g, gram=True), dual.at(g + t, gram=True)
    assert there.value == pytest.approx(here.value, abs=1e-9)
    np.testing.assert_allclose(there.gradient, here.gradient, atol=1e-9)
    assert there.sweep.gram is not None
    np.testing.assert_allclose((np.diag(there.sweep.q) - there.sweep.gram) @ np.ones(6), 0, atol=1e-12)


@pytest.mark.parametrize("mass", [0.0, 0.5, 0.7])
def test_the_gradient_and_the_gram_are_derivatives(mass: float) -> None:
    """At masses that leave each row enough of its own not to be thinned out of the Gram."""
    task = make(cloud(30), cloud(6, seed=1), k=4, mass=mass)
    dual = Dual(REFERENCE, task.rows, task.target, task.box(), task.eps, task.cost)
    rng = np.random.default_rng(0)
    g, step = solve(task, REFERENCE).potentials.g + 0.3 * task.eps * rng.standard_normal(6), rng.standard_normal(6)
    h = 1e-5 * task.eps
    here, ahead, behind = dual.at(g, gram=True), dual.at(g + h * step), dual.at(g - h * step)
    assert (ahead.value - behind.value) / (2 * h) == pytest.approx(here.gradient @ step, rel=1e-5, abs=1e-8)
    assert here.sweep.gram is not None
    bend = (np.diag(here.sweep.q) - here.sweep.gram) @ step / task.eps
    np.testing.assert_allclose((behind.gradient - ahead.gradient) / (2 * h), bend, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mass", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n", [60, 4000])
def test_too_few_sweeps_are_said_and_not_raised(mass: float, n: int) -> None:
    task = make(cloud(n), cloud(20, seed=1, shift=1.0), k=5, mass=mass, rel=0.05, max_sweeps=1, tolerance=1e-6)
    evidence = solve(task, CPU).potentials.evidence
    assert not evidence.converged
    assert evidence.marginal_error > 1e-6


@pytest.mark.parametrize("max_sweeps", [1, 60])
@pytest.mark.parametrize("mass", [0.0, 0.5, 1.0])
def test_evidence_agrees_with_itself_and_with_brute_force(mass: float, max_sweeps: int) -> None:
    more: dict[str, Any] = {"b": weights(12), "k": 5, "rel": 0.2}
    x, y = cloud(60), cloud(12, seed=1, shift=1.0)
    task = make(x, y, mass=mass, max_sweeps=max_sweeps, **more)
    solution = solve(task, REFERENCE)
    evidence = solution.potentials.evidence
    pool = [stage for stage in evidence.trace if stage.name == "pool"]
    assert evidence.full_sweeps == len(pool)
    assert evidence.marginal_error in [stage.marginal_error for stage in pool if stage.eps == task.eps]
    assert all(stage.rows == 60 for stage in pool)
    assert evidence.dual_value <= scaled_to_the_end(task)[2] + 1e-9
    swept, _ = judged(task, solution)
    assert evidence.perplexity == pytest.approx(np.exp(swept.entropy))
    assert 1 <= evidence.perplexity <= 12
    assert evidence.hard_bound <= boxed_distance(task) + 1e-9
    plain = make(x, y, **more)
    assert evidence.plain_value <= scaled_to_the_end(plain)[2] + 1e-9
    if max_sweeps > 1:
        assert evidence.plain_value == pytest.approx(scaled_to_the_end(plain)[2], abs=1e-2 * task.scale.row_std)


def boxed_distance(task: Task) -> float:
    """The least unregularised cost over the box: selected mass is a row of its own, of which some is left over."""
    k, n = round(1 / float(np.max(task.rows.capacity))), task.rows.n
    if task.mass == 0:
        return distance(task)
    fixed, free = (1 - task.mass) * base(task), np.full(n, task.mass / k)
    left = free.sum() - task.mass
    c = np.block([[costs(task), np.full((n, 1), 1e4)], [costs(task), np.zeros((n, 1))]])
    return float(ot.emd2(np.r_[fixed, free], np.r_[task.target.b, left], c, numItermax=1_000_000))


def test_a_known_g_needs_one_sweep() -> None:
    task = make(cloud(4000, 8), cloud(20, 8, seed=1), k=20, mass=0.5)
    solved = solve(task, CPU)
    again = solve(task, CPU, start=solved.potentials.g)
    assert again.potentials.evidence.full_sweeps == 1
    assert again.potentials.evidence.converged
    assert again.f.tobytes() == solved.f.tobytes()


@pytest.mark.parametrize("mass", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("k", [30, 66, 240])
def test_the_solution_for_another_k_leads_to_that_of_a_fresh_start(mass: float, k: int) -> None:
    x, y = cloud(12_000, 8), cloud(20, 8, seed=1, shift=0.5)
    more: dict[str, Any] = {"a": weights(12_000), "b": weights(20), "mass": mass, "rel": 0.3, "tolerance": 1e-4}
    before = solve(make(x, y, k=60, **more), CPU)
    fresh = solve(make(x, y, k=k, **more), CPU)
    plain = before.potentials.evidence.plain_value
    found = solve(make(x, y, k=k, **more), CPU, start=Start(60, before.potentials.g, before.f, plain))
    evidence, cold = found.potentials.evidence, fresh.potentials.evidence
    assert evidence.converged
    # No samples, nothing at mass 0, and on the way no look at the pool more than from the start.
    assert {stage.name for stage in evidence.trace} == {"shortlist", "plan", "pool"}
    assert all(stage.mass == mass for stage in evidence.trace)
    assert evidence.full_sweeps <= cold.full_sweeps
    assert evidence.plain_value == plain
    assert evidence.dual_value == pytest.approx(cold.dual_value, abs=1e-5)
    assert len(np.intersect1d(CPU.topk(found.f, k), CPU.topk(fresh.f, k))) >= 0.98 * k


def test_every_sweep_is_told() -> None:
    told: list[Any] = []
    solution = solve(make(cloud(200), cloud(9, seed=1)), CPU, watch=told.append)
    assert tuple(told) == solution.potentials.evidence.trace


@pytest.mark.parametrize("unit", [1e-3, 1e3])
@pytest.mark.parametrize("mass", [0.0, 0.5, 1.0])
def test_the_unit_of_the_cost_is_free(mass: float, unit: float) -> None:
    """Costs a million times smaller or larger are solved like costs of 1, and f scales with them."""
    x, y = cloud(300, 8), cloud(20, 8, seed=1, shift=0.5)
    more: dict[str, Any] = {"k": 20, "mass": mass, "rel": 0.05, "cost": RAW}
    plain = solve(make(x, y, **more), CPU)
    scaled = solve(make((unit * x).astype(np.float32), unit * y, **more), CPU)
    assert plain.potentials.evidence.converged
    assert scaled.potentials.evidence.converged
    assert scaled.potentials.evidence.full_sweeps <= plain.potentials.evidence.full_sweeps + 5
    np.testing.assert_allclose(scaled.f / unit**2, plain.f, atol=2e-2 * make(x, y, **more).eps)
