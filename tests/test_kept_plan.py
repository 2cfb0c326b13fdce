"""Plans that sweeps keep, and looks at them: against what the bytes say in float64, and against the reference."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gapsel.backends.cpu import CpuBackend
from gapsel.backends.reference import row_masses
from gapsel.errors import DataError
from gapsel.potentials import dual, solve
from gapsel.records import Box, Cost, KeptPlan, Query, Sweep, plan_columns
from solving import CPU, UNKEEPING, Unkeeping, cloud, make, true_error
from sweeps import ISAS, REFERENCE, Problem, gram_error, problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def keep(p: Problem, cpu: CpuBackend, shards: Sequence[Any] | None = None, **wanted: Any) -> tuple[Sweep, KeptPlan]:  # noqa: ANN401
    """What a sweep gives, and what it keeps."""
    plan, f = np.full((len(p.x), plan_columns(p.target)), 77, np.uint8), np.empty(len(p.x), np.float32)
    swept = cpu.sweep([p.x] if shards is None else shards, p.query(f=f, plan=plan, **wanted))
    return swept, KeptPlan(plan, f, p.g, p.eps, p.target.b)


def decoded(codes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The numbers that codes stand for, the largest 1: three bits of fraction above five of exponent."""
    exponent, fraction = (codes >> 3).astype(float), 1.0 + (codes & 7) / 8.0
    return np.where(codes == 0, 0.0, fraction / 1.875 * 2.0 ** (exponent - 31))


def plan_of(p: Problem) -> NDArray[np.float64]:
    """The rows of the plan over their largest entries, in the columns that weigh something."""
    columns = np.flatnonzero(p.target.b)
    unit = np.eye(len(p.x))
    q = [REFERENCE.sweep([p.x], replace(p.query(), box=Box.fixed(row))).q[columns] for row in unit]
    rows = np.array(q)
    return np.asarray(rows / rows.max(axis=1, keepdims=True))


def moved(p: Problem, by: float, seed: int = 5) -> Problem:
    """The same problem at a g that is some eps away."""
    return replace(p, g=p.g + by * p.eps * np.random.default_rng(seed).standard_normal(len(p.g)))


def expected(p: Problem, kept: KeptPlan) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """q (m,), f (n,) and the value of the plan that the bytes hold, in float64."""
    columns = np.flatnonzero(p.target.b)
    before = decoded(kept.plan[:, : len(columns)])
    now = before * np.exp((p.g - kept.g)[columns] / p.eps)
    f = kept.f - p.eps * np.log(now.sum(1) / before.sum(1))
    r, _, value = row_masses(f, p.box)
    q = np.zeros(len(p.g))
    q[columns] = r @ (now / now.sum(1, keepdims=True))
    return q, f, value


@pytest.mark.parametrize("kind", ["sqeuclidean", "cosine", "euclidean"])
@pytest.mark.parametrize("rel", [0.002, 0.05, 1.0])
def test_codes_are_the_plan_in_eight_bits(cpu: CpuBackend, kind: Any, rel: float) -> None:  # noqa: ANN401
    p = problem(90, 45, 12, kind=kind, rel=rel)
    kept, plan = keep(p, cpu)[1], plan_of(p)
    columns = plan.shape[1]
    assert not kept.plan[:, columns:].any()
    found = decoded(kept.plan[:, :columns])
    clear = plan > 2.0**-29
    # Half a step of three bits, and what float32 makes of costs over a small eps.
    np.testing.assert_allclose(found[clear], plan[clear], rtol=1 / 16 + 2e-3)
    assert (found[plan < 2.0**-31] == 0).all()
    assert (found.max(axis=1) == 1).all()


@pytest.mark.parametrize("price", ["none", "float32"])
@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("by", [0.0, 0.5, 8.0])
def test_a_look_is_what_the_bytes_say(cpu: CpuBackend, by: float, lam: float, price: str) -> None:
    p = problem(700, 71, 19, lam=lam, price=price)
    _, kept = keep(p, cpu)
    there, f = moved(p, by), np.empty(700, np.float32)
    swept = cpu.sweep_kept(kept, there.query(f=f, gram=True))
    q, soft, value = expected(there, kept)
    size = np.abs(soft).max()
    np.testing.assert_allclose(swept.q, q, atol=3e-6 * q.sum())
    np.testing.assert_allclose(f, soft, atol=2e-6 * size)
    assert swept.value == pytest.approx(value, abs=3e-6 * size)
    assert np.isnan([swept.hard, swept.entropy]).all()
    assert swept.gram is not None
    assert swept.gram_q is not None
    np.testing.assert_array_equal(swept.gram, swept.gram.T)
    if lam == 0:
        np.testing.assert_allclose(swept.gram.sum(axis=1), swept.gram_q, atol=1e-12)
    assert np.abs(swept.gram).max() <= 1.1 * (1 + gram_error(cpu)) * np.abs(swept.gram_q).max()


def test_the_gram_is_that_of_the_plan(cpu: CpuBackend) -> None:
    """Of few rows a column none is left out."""
    p = problem(400, 71, 19, lam=0.0)
    p = replace(p, box=Box.fixed(1 / 400))
    _, kept = keep(p, cpu)
    there = moved(p, 0.5)
    swept = cpu.sweep_kept(kept, there.query(gram=True))
    columns = np.flatnonzero(p.target.b)
    now = decoded(kept.plan[:, : len(columns)]) * np.exp((there.g - kept.g)[columns] / p.eps)
    rows = now / now.sum(1, keepdims=True)
    assert swept.gram is not None
    found = swept.gram[np.ix_(columns, columns)]
    np.testing.assert_allclose(found, rows.T @ rows / 400, atol=1e-6, rtol=gram_error(cpu) + 1e-5)


@pytest.mark.parametrize("rel", [0.01, 0.05, 1.0])
def test_near_its_g_a_plan_tells_what_a_sweep_tells(rel: float) -> None:
    p = problem(4000, 64, 19, rel=rel, lam=0.0)
    p = replace(p, box=Box.fixed(1 / 4000))
    swept, kept = keep(p, CPU)
    own = CPU.sweep_kept(kept, p.query())
    assert np.abs(own.q - swept.q).sum() < 5e-3
    assert own.value == pytest.approx(swept.value, rel=1e-6)
    near = moved(p, 0.3)
    changed = CPU.sweep([p.x], near.query()).q - swept.q
    told = CPU.sweep_kept(kept, near.query()).q - own.q
    assert np.abs(told - changed).sum() < 0.02 * np.abs(changed).sum()


@pytest.mark.parametrize("isa", ISAS)
def test_threads_and_shards_change_no_bit_of_a_plan_or_a_look(isa: str) -> None:
    p = problem(5000, 71, 19)
    found = []
    for threads, cuts in ((1, []), (3, [1, 700, 4711])):
        cpu = CpuBackend(threads, isa)
        _, kept = keep(p, cpu, np.split(p.x, cuts))
        look = cpu.sweep_kept(kept, moved(p, 1.0).query(gram=True, k=50))
        assert look.gram is not None
        assert look.top is not None
        found.append([kept.plan, kept.f, look.q, look.gram, *look.top, look.value])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("far", [60.0, 1e4])
def test_far_from_its_g_a_look_is_wrong_but_finite(cpu: CpuBackend, far: float) -> None:
    p = problem(300, 71, 19, rel=0.005)
    _, kept = keep(p, cpu)
    look = cpu.sweep_kept(kept, moved(p, far).query(gram=True))
    assert look.gram is not None
    assert np.isfinite(look.q).all()
    assert np.isfinite(look.gram).all()
    assert np.isfinite(look.value)


def test_what_does_not_fit_is_refused() -> None:
    p = problem(50, 20, 8)
    _, kept = keep(p, CPU)
    with pytest.raises(DataError, match=r"plan has \d+ entries, expected \d+"):
        CPU.sweep_kept(replace(kept, f=kept.f[:-1].copy()), p.query())
    with pytest.raises(DataError, match="kept g has 19 entries, expected 20"):
        CPU.sweep_kept(replace(kept, g=kept.g[:-1].copy()), p.query())
    with pytest.raises(DataError, match="plan has 50 entries, expected"):
        CPU.sweep([p.x], p.query(plan=np.empty((50, 1), np.uint8)))
    with pytest.raises(DataError, match="f has 49 entries, expected 50"):
        CPU.sweep_kept(kept, p.query(f=np.empty(49, np.float32)))


@pytest.mark.parametrize("mass", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("rel", [0.02, 0.3])
def test_solutions_by_plan_are_those_by_vectors(mass: float, rel: float) -> None:
    """To the tolerance, as the reference sees it, with fewer reads of the pool."""
    task = make(cloud(9000, 8), cloud(30, 8, seed=1, shift=0.7), k=90, mass=mass, rel=rel)
    by_plan, by_vectors = solve(task, CPU), solve(task, UNKEEPING)
    ours, theirs = by_plan.potentials.evidence, by_vectors.potentials.evidence
    assert ours.converged
    assert true_error(task, by_plan) <= task.tolerance + ours.rounding
    assert ours.full_sweeps <= theirs.full_sweeps
    assert ours.dual_value == pytest.approx(theirs.dual_value, rel=1e-4)
    chosen = [set(np.argsort(one.f)[:90].tolist()) for one in (by_plan, by_vectors)]
    assert len(chosen[0] & chosen[1]) >= 88


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Query]:
    """What is asked of vectors from here on."""
    queries, sweep = [], CpuBackend.sweep

    def watched(self: CpuBackend, shards: Sequence[Any], query: Query) -> Sweep:
        queries.append(query)
        return sweep(self, shards, query)

    monkeypatch.setattr(CpuBackend, "sweep", watched)
    return queries


@pytest.mark.parametrize(("mass", "tolerance"), [(0.0, 1e-4), (0.5, 1e-3)])
def test_a_pool_has_one_plan_at_a_time(mass: float, tolerance: float, asked: list[Query]) -> None:
    """The one of the last sweep is written over the one before, which is 100 MB of 100,000 rows and 1,000 targets."""
    task = make(cloud(9000, 8), cloud(30, 8, seed=1, shift=0.7), k=90, mass=mass, rel=0.1, tolerance=tolerance)
    assert solve(task, CPU).potentials.evidence.converged
    plans = [query.plan for query in asked if query.plan is not None and len(query.plan) == task.rows.n]
    assert len(plans) > 1
    assert len({plan.ctypes.data for plan in plans}) == 1


def test_the_first_look_is_close_and_the_last_exact(asked: list[Query]) -> None:
    """At mass 0, of unit vectors; the last one meets the tolerance, and no plan is kept of it."""
    task = make(cloud(9000, 8), cloud(30, 8, seed=1, shift=0.7), k=90, rel=0.1, cost=Cost(normalize=True))
    found = solve(task, CPU).potentials.evidence
    assert found.converged
    assert found.full_sweeps == 2
    of_pool = [query for query in asked if query.f is not None and len(query.f) == task.rows.n]
    assert [(query.close, query.plan is not None) for query in of_pool] == [(True, True), (False, False)]


def test_what_is_only_close_has_not_converged() -> None:
    """Even if all was met at the first look: nobody has seen it exactly."""
    x, y, cost = cloud(9000, 8), cloud(30, 8, seed=1, shift=0.7), Cost(normalize=True)
    task = make(x, y, k=90, rel=0.3, cost=cost, tolerance=0.5, max_sweeps=1)
    found = solve(task, CPU).potentials.evidence
    assert found.marginal_error < task.tolerance
    assert not found.converged


@pytest.mark.parametrize("mass", [0.5, 1.0])
@pytest.mark.parametrize("rel", [0.005, 0.3])
@pytest.mark.parametrize("isa", ISAS)
def test_a_list_has_a_plan_where_the_pool_has_none(
    monkeypatch: pytest.MonkeyPatch, isa: str, mass: float, rel: float
) -> None:
    """At a small eps g goes beyond what a list's plan tells, which is then kept anew; the answer is the same."""
    task = make(cloud(9000, 8), cloud(30, 8, seed=1, shift=0.7), k=90, mass=mass, rel=rel)
    expected = solve(task, Unkeeping(2, isa)).potentials.evidence
    monkeypatch.setattr(dual, "LARGEST_PLAN", 5000 * 32)
    found = solve(task, CpuBackend(2, isa))
    evidence = found.potentials.evidence
    assert "plan" not in {stage.name for stage in evidence.trace}
    assert evidence.converged
    assert true_error(task, found) <= task.tolerance + evidence.rounding
    assert evidence.full_sweeps <= min(expected.full_sweeps, 8)
    assert evidence.dual_value == pytest.approx(expected.dual_value, rel=1e-4)


@pytest.mark.parametrize("rel", [0.02, 0.3])
def test_one_sweep_leaves_what_its_plan_solves_to(rel: float) -> None:
    """A limit of one sweep is kept, the answer goes on by the plan, and nothing is claimed that no sweep has seen."""
    whole = make(cloud(9000, 8), cloud(30, 8, seed=1, shift=0.7), k=90, mass=0.0, rel=rel)
    task = replace(whole, max_sweeps=1)
    found, proven = solve(task, CPU), solve(whole, CPU).potentials.evidence
    evidence, g = found.potentials.evidence, found.potentials.g
    (seen,) = [stage for stage in evidence.trace if stage.name == "pool"]
    assert evidence.full_sweeps == 1
    assert not evidence.converged
    assert (evidence.marginal_error, evidence.dual_value) == (seen.marginal_error, seen.dual_value)
    assert evidence.hard_bound < proven.dual_value
    assert np.isfinite(evidence.perplexity)
    assert true_error(task, found) <= task.tolerance < 0.1 * seen.marginal_error
    f = np.empty(task.rows.n)
    REFERENCE.sweep(task.rows.shards, Query(task.target, g, task.box(), task.eps, task.cost, f=f))
    assert np.abs(found.f - f).max() <= 0.1 * task.eps


@pytest.mark.parametrize("mass", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("most", [1, 2, 3, 4])
@pytest.mark.parametrize("cpu", [CPU, UNKEEPING], ids=["kept", "not kept"])
def test_a_limit_of_sweeps_holds(cpu: CpuBackend, most: int, mass: float) -> None:
    task = make(cloud(9000, 8), cloud(30, 8, seed=1, shift=0.7), k=90, mass=mass, rel=0.1, tolerance=1e-10)
    evidence = solve(replace(task, max_sweeps=most), cpu).potentials.evidence
    # A mass has a sweep of its own besides the one that ranks the rows for its list.
    assert evidence.full_sweeps <= max(most, 2 if mass else 1)
    assert not evidence.converged
