"""The choice, its scores and its certificate against the paper's formula and against every subset."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gapsel.backends.cpu import CpuBackend
from gapsel.baselines import Problem, RoundRobin
from gapsel.calibration import mean_of
from gapsel.cost import cost_matrix
from gapsel.errors import UsageError
from gapsel.potentials import Task, solve
from gapsel.records import COST_KINDS, Cost, CostKind
from gapsel.selection import certify, nearest_targets, select
from outside_judge import ot
from solving import CPU, REFERENCE, Array, cloud, make

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.findings import Certificate
    from gapsel.potentials import Solution
    from gapsel.selection import Selection


def chosen(task: Task, k: int, backend: Backend = REFERENCE) -> tuple[Solution, Selection]:
    solution = solve(task, backend)
    return solution, select(
        solution.f, k, task.rows, solution.potentials, backend, mean=mean_of(solution.f, task.rows.a)
    )


# The choice


@pytest.mark.parametrize("backend", [REFERENCE, CPU], ids=["reference", "cpu"])
def test_the_lowest_f_are_chosen_and_ties_go_to_the_earlier_row(backend: Backend) -> None:
    x, y = cloud(30), cloud(6, seed=1)
    task = make(x, y, k=4)
    potentials = solve(task, backend).potentials
    f = np.random.default_rng(0).integers(0, 6, 30).astype(np.float32)
    for k in (1, 4, 13, 30):
        found = select(f, k, task.rows, potentials, backend, mean=mean_of(f, task.rows.a))
        assert found.rows.tolist() == sorted(range(30), key=lambda i: (f[i], i))[:k]
        assert len(found.scores) == len(found.nearest) == k


@pytest.mark.parametrize("k", [-1, 0, 31])
def test_a_k_that_the_pool_cannot_give_is_refused(k: int) -> None:
    task = make(cloud(30), cloud(6, seed=1), k=4)
    solution = solve(task, CPU)
    with pytest.raises(UsageError, match=f"k is {k}, and the pool has 30 documents"):
        select(solution.f, k, task.rows, solution.potentials, CPU, mean=0.0)


def test_mass_zero_chooses_the_most_negative_gradients() -> None:
    """Against POT's potentials, put through the paper's formula."""
    x, y = cloud(60), cloud(12, seed=1, shift=0.5)
    task = make(x, y, k=10, tolerance=1e-8)
    _, selection = chosen(task, 10)
    _, log = ot.sinkhorn(
        np.full(60, 1 / 60), task.target.b, cost_matrix(x, task.target.y, task.cost), task.eps,
        method="sinkhorn_log", stopThr=1e-12, numItermax=100_000, log=True,
    )  # fmt: skip
    f = task.eps * log["log_u"]
    gradients = np.array([f[i] - (f.sum() - f[i]) / 59 for i in range(60)])
    assert selection.rows.tolist() == np.argsort(gradients, kind="stable")[:10].tolist()
    np.testing.assert_allclose(selection.scores, gradients[selection.rows], atol=1e-6)


@pytest.mark.parametrize("kind", COST_KINDS)
@pytest.mark.parametrize("normalize", [False, True])
def test_nearest_targets_are_those_of_least_cost(kind: CostKind, normalize: bool) -> None:  # noqa: FBT001
    x, y, b = cloud(80), cloud(15, seed=1), np.ones(15)
    b[4] = 0
    task = make([x[:30], x[30:]], y, k=9, b=b, cost=Cost(kind, normalize))
    solution, selection = chosen(task, 9, CPU)
    c = cost_matrix(x, y, task.cost)
    c[:, 4] = np.inf
    assert selection.nearest.tolist() == c[selection.rows].argmin(axis=1).tolist()
    assert nearest_targets(task.rows.shards, solution.potentials, CPU).tolist() == c.argmin(axis=1).tolist()


@pytest.mark.parametrize("mass", [0.0, 0.5])
def test_shards_and_threads_choose_alike(mass: float) -> None:
    x, y = cloud(4000, 8), cloud(20, 8, seed=1, shift=0.5)
    _, one = chosen(make(x, y, k=50, mass=mass), 50, CpuBackend(1))
    _, two = chosen(make(np.split(x, [1, 1700]), y, k=50, mass=mass), 50, CpuBackend(2))
    for first, second in ((one.rows, two.rows), (one.scores, two.scores), (one.nearest, two.nearest)):
        assert first.tobytes() == second.tobytes()


def test_a_whole_mass_of_all_rows_chooses_all() -> None:
    _, selection = chosen(make(cloud(25), cloud(6, seed=1), k=25, mass=1.0), 25)
    assert sorted(selection.rows.tolist()) == list(range(25))


# The certificate


def regularised(c: Array, r: Array, b: Array, eps: float, steps: int = 3000) -> NDArray[np.float64]:
    """OT_eps of many row masses r (s, n) at once, by Sinkhorn's iteration in logarithms; their dual values (s,)."""
    f, g = np.empty((len(r), len(c), 1)), np.zeros((len(r), len(b)))
    for _ in range(steps):
        z = (g[:, None, :] - c) / eps + np.log(b)
        top = z.max(axis=2, keepdims=True)
        f = -eps * (top + np.log(np.exp(z - top).sum(axis=2, keepdims=True)))
        q = np.einsum("sn,snj->sj", r, np.exp(z + f / eps))
        step = eps * np.log(b / q)
        g += step
        if np.abs(step).max() < 1e-11 * eps:
            break
    return np.asarray(g @ b + (r * f[:, :, 0]).sum(axis=1))


def mixtures(task: Task, subsets: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    r = np.tile((1 - task.mass) * np.broadcast_to(np.asarray(task.rows.a), (task.rows.n,)), (len(subsets), 1))
    for row, subset in zip(r, subsets, strict=True):
        row[list(subset)] += task.mass / len(subset)
    return r


@given(
    n=st.integers(2, 8),
    m=st.integers(1, 6),
    k=st.integers(1, 3),
    mass=st.sampled_from([0.1, 0.5, 0.9, 1.0]),
    weighted=st.booleans(),
    tolerance=st.sampled_from([1e-3, 1e-6]),
    seed=st.integers(0, 1000),
)
@example(n=3, m=3, k=2, mass=0.9, weighted=False, tolerance=1e-3, seed=809)
@settings(max_examples=40)
def test_no_subset_gains_more_than_is_certified(  # noqa: PLR0917
    n: int, m: int, k: int, mass: float, tolerance: float, seed: int, *, weighted: bool
) -> None:
    """Every subset of k rows is tried, for the selection and for k rows at random."""
    rng, k = np.random.default_rng(seed), min(k, n)
    a = rng.random(n) + 0.1 if weighted else None
    task = make(
        cloud(n, 3, seed),
        cloud(m, 3, seed + 1),
        k=k,
        a=a,
        b=rng.random(m) + 0.1,
        mass=mass,
        rel=0.3,
        tolerance=tolerance,
    )
    solution, selection = chosen(task, k)
    subsets = list(itertools.combinations(range(n), k))
    c = cost_matrix(task.rows.shards[0], task.target.y, task.cost)
    values = regularised(c, mixtures(task, subsets), task.target.b, task.eps)
    for rows in (selection.rows, rng.permutation(n)[:k]):
        found = certify(solution.f, rows, task, solution.potentials, REFERENCE)
        own = values[subsets.index(tuple(sorted(rows.tolist())))]
        assert own - 1e-6 <= found.after <= own + found.rest + 1e-6
        assert found.gap >= own - values.min() - 1e-6
        assert 0 <= found.percent <= 100


def test_the_certificate_of_one_step_is_exact_by_definition() -> None:
    task = make(cloud(30), cloud(6, seed=1), k=4)
    solution, selection = chosen(task, 4)
    found = certify(solution.f, selection.rows, task, solution.potentials, REFERENCE)
    assert (found.gap, found.percent) == (0.0, 0.0)
    assert found.before == found.after == solution.potentials.evidence.dual_value


def test_the_certificate_knows_good_from_bad() -> None:
    """On many rows it is tight for the selection, and says that the worst rows are bad."""
    task = make(cloud(4000, 8), cloud(20, 8, seed=1, shift=0.5), k=400, mass=0.5)
    solution, selection = chosen(task, 400, CPU)

    def certified(rows: NDArray[np.int64]) -> Certificate:
        return certify(solution.f, rows, task, solution.potentials, CPU)

    good, bad = certified(selection.rows), certified(CPU.topk(-solution.f, 400))
    assert good.after < good.before < bad.after
    assert good.percent < 10
    assert bad.percent == 100
    assert 0 <= good.rest <= 1e-3 * (good.before - good.after)


@pytest.mark.parametrize("mass", [1e-6, 1e-3, 0.03])
def test_a_small_mass_is_certified_against_what_little_it_can_gain(mass: float, cpu: CpuBackend) -> None:
    """The pool's own distance is known as closely as that, though the pool was swept but once at mass 0.

    Rows whose plan sums to a little more or less than their mass, by rounding, are no part of what it lacks.
    """
    task = make(cloud(6000, 8), cloud(20, 8, seed=1, shift=0.5), k=60, mass=mass)
    solution, selection = chosen(task, 60, cpu)
    assert {stage.name for stage in solution.potentials.evidence.trace} >= {"sample", "shortlist"}
    found = certify(solution.f, selection.rows, task, solution.potentials, cpu)
    assert found.after < found.before
    assert found.percent < 1


# A target of several topics


def topics() -> tuple[Array, Array, Array, Array]:
    """Pool and target on the sphere with their topics; the target is .5/.33/.17 of three of them.

    The three differ in how tight they are, and the rest of the pool leans toward the second and the third: only the
    first is far from all that there is, and one step sees nothing else.
    """
    rng, d, count = np.random.default_rng(3), 24, 12
    centres = np.linalg.qr(rng.standard_normal((d, d)))[0][:count]
    centres[3:] += np.r_[0.0, 0.6, 0.9, np.zeros(count - 3)] @ centres
    spread = np.r_[0.08, 0.10, np.full(count - 2, 0.12)]

    def draw(labels: Array) -> NDArray[np.float32]:
        x = centres[labels] + spread[labels, None] * rng.standard_normal((len(labels), d))
        return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)

    of_pool = rng.permutation(np.repeat(np.arange(count), [240, 80, 40, *[300] * (count - 3)]))
    of_target = np.repeat(np.arange(3), [100, 66, 34])
    return draw(of_pool), of_pool, draw(of_target), of_target


def shares(labels: Array) -> NDArray[np.float64]:
    return np.bincount(labels, minlength=3)[:3] / len(labels)


def test_a_whole_mass_keeps_the_targets_topics_where_one_step_collapses() -> None:
    x, of_pool, y, of_target = topics()
    k = 200

    def alone(rows: NDArray[np.int64], task: Task) -> float:
        c = cost_matrix(x[rows], task.target.y, task.cost)
        return float(ot.emd2(np.full(len(rows), 1 / len(rows)), task.target.b, c, numItermax=1_000_000))

    whole, step = make(x, y, k=k, mass=1.0, rel=0.02), make(x, y, k=k, mass=0.0)
    _, at_whole = chosen(whole, k, CPU)
    _, at_step = chosen(step, k, CPU)
    turns = RoundRobin().choose(Problem([x], whole.target, whole.cost, k), CPU)
    assert np.abs(shares(of_pool[at_whole.rows]) - shares(of_target)).max() <= 0.05
    assert shares(of_pool[at_step.rows]).max() >= 0.9
    assert alone(at_whole.rows, whole) <= 1.05 * alone(turns, whole)
    assert alone(at_whole.rows, whole) < 0.8 * alone(at_step.rows, whole)
