"""The solver against outside judges: POT, plain scaling, transport with one more column, a general optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize  # type: ignore[import-untyped]

from gapsel.potentials import solve
from gapsel.records import Cost
from outside_judge import ot
from solving import (
    CPU,
    MASSES,
    RAW,
    REFERENCE,
    TO_THE_END,
    Array,
    base,
    cloud,
    costs,
    distance,
    gauged,
    judged,
    make,
    masses,
    mixing,
    scaled_to_the_end,
    weights,
)


@pytest.mark.parametrize(("n", "m", "weighted"), [(30, 20, True), (20, 33, True), (150, 40, False), (1, 7, True)])
@pytest.mark.parametrize("rel", [0.5, 0.2, 0.05])
def test_mass_zero_is_what_pot_says(n: int, m: int, weighted: bool, rel: float) -> None:  # noqa: FBT001
    """POT's plan is exp(log_u + log_v - c / eps), so that log_u = log a + f / eps and log_v = log b + g / eps."""
    a, b = (weights(n, 1), weights(m, 2)) if weighted else (None, None)
    task = make(cloud(n), cloud(m, seed=1, shift=0.5), a=a, b=b, rel=rel, tolerance=1e-9)
    solution = solve(task, REFERENCE)
    assert solution.potentials.evidence.converged
    _, log = ot.sinkhorn(
        base(task), task.target.b, costs(task), task.eps,
        method="sinkhorn_log", stopThr=1e-13, numItermax=100_000, log=True,
    )  # fmt: skip
    expected = gauged(
        task, task.eps * (log["log_u"] - np.log(base(task))), task.eps * (log["log_v"] - np.log(task.target.b))
    )
    found = gauged(task, judged(task, solution)[1], solution.potentials.g)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6 * task.eps)


@pytest.mark.parametrize("cost", [Cost(), Cost("euclidean"), RAW])
def test_value_falls_to_the_true_distance(cost: Cost) -> None:
    """The hard bound lies below it, the regularised value above, and both close in as eps falls."""
    values, bounds = [], []
    for rel in (0.5, 0.1, 0.02):
        task = make(cloud(80), cloud(30, seed=1, shift=0.5), a=weights(80), rel=rel, cost=cost, tolerance=1e-8)
        evidence = solve(task, REFERENCE).potentials.evidence
        assert evidence.converged
        values.append((evidence.dual_value - distance(task)) / task.scale.row_std)
        bounds.append((distance(task) - evidence.hard_bound) / task.scale.row_std)
    assert 0 < values[2] < values[1] < values[0]
    assert values[2] < 0.1
    assert min(bounds) >= -1e-12
    assert bounds[2] < 0.005


@pytest.mark.parametrize("mass", [0.0, *MASSES])
def test_cpu_finds_the_potentials_of_the_reference(mass: float) -> None:
    task = make(cloud(300, 8), cloud(25, 8, seed=1, shift=0.3), b=weights(25), k=30, mass=mass, tolerance=1e-5)
    found, exact = solve(task, CPU), solve(task, REFERENCE)
    assert found.potentials.evidence.converged
    f, g = gauged(task, found.f, found.potentials.g)
    f_exact, g_exact = gauged(task, exact.f, exact.potentials.g)
    np.testing.assert_allclose(g, g_exact, atol=1e-3 * task.eps)
    np.testing.assert_allclose(f, f_exact, atol=1e-3 * task.eps)


@pytest.mark.parametrize("mass", MASSES)
@pytest.mark.parametrize(("n", "m", "k"), [(40, 6, 5), (12, 20, 3), (60, 1, 10)])
def test_row_masses_are_those_of_plain_scaling(n: int, m: int, k: int, mass: float) -> None:
    task = make(cloud(n), cloud(m, seed=1, shift=0.5), b=weights(m), k=k, mass=mass, **TO_THE_END)
    solution = solve(task, REFERENCE)
    assert solution.potentials.evidence.converged
    r, lo = masses(task, solution), (1 - mass) / n
    assert (r >= lo - 1e-12).all()
    assert (r <= lo + mass / k + 1e-12).all()
    assert r.sum() == pytest.approx(1, abs=1e-7)
    np.testing.assert_allclose(judged(task, solution)[0].q, task.target.b, atol=1e-7)
    _, expected, value = scaled_to_the_end(task)
    np.testing.assert_allclose(r, expected, atol=1e-6)
    assert solution.potentials.evidence.dual_value == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize("mass", MASSES)
def test_a_box_is_plain_transport_with_a_column_for_what_is_left_over(mass: float) -> None:
    """POT on twice the rows: each row's lo goes to the targets, its room to the targets or to one column more."""
    task = make(cloud(30), cloud(6, seed=1, shift=0.5), a=weights(30), b=weights(6), k=4, mass=mass, **TO_THE_END)
    c, lo = costs(task), (1 - mass) * base(task)
    room = np.full(30, mass / 4)
    never = np.full((30, 1), 1e3)
    both = np.block([[c, never], [c, np.zeros((30, 1))]])[mass == 1 and 30 :]
    columns = np.append(task.target.b, room.sum() - mass)
    plan = ot.sinkhorn(
        np.append(lo, room)[mass == 1 and 30 :], columns, both, task.eps,
        method="sinkhorn_log", stopThr=1e-12, numItermax=100_000,
    )  # fmt: skip
    expected = plan[:, :-1].reshape(-1, 30, 6).sum(axis=(0, 2))
    np.testing.assert_allclose(masses(task, solve(task, REFERENCE)), expected, atol=1e-6)


@pytest.mark.parametrize("mass", [0.5, 1.0])
def test_weighted_pool_in_its_box(mass: float) -> None:
    task = make(cloud(50), cloud(8, seed=1, shift=0.5), a=weights(50), k=7, mass=mass, **TO_THE_END)
    solution = solve(task, REFERENCE)
    f, expected, _ = scaled_to_the_end(task)
    np.testing.assert_allclose(masses(task, solution), expected, atol=1e-6)
    assert np.argsort(solution.f)[:7].tolist() == np.argsort(f)[:7].tolist()


@pytest.mark.parametrize("mass", MASSES)
def test_boxed_value_is_what_a_general_optimiser_finds(mass: float) -> None:
    """min <P, C> + eps KL(P | r b) + eta mixing(r) over plans with columns b and row sums r in the box."""
    task = make(
        cloud(5, 2), cloud(3, 2, seed=1, shift=0.5), b=weights(3), k=2, mass=mass, tolerance=1e-9, etas=(1.0, 0.3)
    )
    c, a, b, eta = costs(task), base(task), task.target.b, task.box().eta
    product = np.outer(a, b)
    lo = (1 - mass) / 5

    def primal(flat: Array) -> float:
        plan = np.maximum(flat.reshape(c.shape), 1e-300)
        r = plan.sum(axis=1)
        within = task.eps * (plan * np.log(plan / np.outer(r, b))).sum()
        return float((plan * c).sum() + within + eta * mixing(r - lo, np.full(5, mass / 2)))

    start = product * np.exp(0.1 * cloud(5, 3))
    found = minimize(
        primal, start.ravel(), method="SLSQP", bounds=[(1e-12, 1.0)] * c.size, options={"ftol": 1e-11, "maxiter": 200},
        constraints=[
            {"type": "eq", "fun": lambda flat: flat.reshape(c.shape).sum(0) - task.target.b},
            # Where a row is full or empty the slope of the mixing is infinite.
            {"type": "ineq", "fun": lambda flat: flat.reshape(c.shape).sum(1) - lo - 1e-6},
            {"type": "ineq", "fun": lambda flat: lo + mass / 2 - flat.reshape(c.shape).sum(1) - 1e-6},
        ],
    )  # fmt: skip
    value = solve(task, REFERENCE).potentials.evidence.dual_value
    assert value == pytest.approx(found.fun, abs=1e-6 * task.scale.mean)
