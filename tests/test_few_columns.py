"""The Gram of peaked plans, whose rows go into it by the few columns that carry nearly all of their mass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gapsel.backends.cpu import CpuBackend
from gapsel.backends.reference import EXPONENTIALS, GRAM_COST, GRAM_MASS, GRAM_ROWS, dice, row_masses
from gapsel.cost import cost_matrix
from sweeps import ISAS, REFERENCE, Problem, bits, problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

# As in rust/left.rs: a row has few columns where no more than one in so many has more than such a share of its mass,
# and all others together as little as this; and it costs no less than this part of a row of many.
SPARSE, LEAST, LOST, LEAST_COST = 32, 2.0**-16, 1e-4, 1 / 16
# What rounding may change a share of a row's mass by, here.
ROUNDED = 0.004


def peaked(n: int, seed: int = 0) -> Problem:
    """A problem of 400 targets in which some rows have few columns and some have many."""
    p = problem(n, 400, 16, rel=0.002, seed=seed)
    few = np.isfinite(plan_and_costs(p)[1])
    assert 0.2 < few.mean() < 0.95
    return p


def plan_and_costs(p: Problem, least: float = LEAST, lost: float = LOST) -> tuple[NDArray[np.float64], ...]:
    """Return the plan (n, u) over targets that weigh something, and what rows of few columns cost (n,), others inf."""
    used = p.target.b > 0
    z = (p.g[used] - cost_matrix(p.x, p.target.y[used], p.cost)) / p.eps + np.log(p.target.b[used])
    plan = np.exp(z - z.max(axis=1, keepdims=True))
    plan /= plan.sum(axis=1, keepdims=True)
    count, most = (plan > least).sum(axis=1), used.sum() // SPARSE
    few = (count <= most) & (np.where(plan > least, 0.0, plan).sum(axis=1) <= lost)
    return plan, np.where(few, np.maximum((count / most) ** 2, LEAST_COST), np.inf)


def shares_kept(p: Problem, r: NDArray[np.float64], costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability (n,) with which each row stays in the Gram."""
    n, m = len(r), int((p.target.b > 0).sum())
    worthy = max(min(n / (GRAM_ROWS * m), GRAM_COST * m / (p.x.shape[1] + EXPONENTIALS)), GRAM_MASS)
    return np.asarray(np.minimum(1.0, n * r / (worthy * np.minimum(costs, 1.0))))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [700, 4000])
def test_the_gram_is_that_of_the_plan(cpu: CpuBackend, n: int, seed: int) -> None:
    """Each row by what it stands for; but for those of which rounding decides whether they are in it."""
    p = peaked(n, seed)
    found, exact = p.sweep(cpu), p.sweep(REFERENCE)
    r, slope, _ = row_masses(exact.f.astype(np.float64), p.box)
    w, numbers = r + p.eps * slope, dice(n)
    plan, costs = plan_and_costs(p)
    shares = [
        shares_kept(p, r, c)
        for c in (costs, *(plan_and_costs(p, LEAST * e, LOST * e)[1] for e in (1 - 2 * ROUNDED, 1 + 2 * ROUNDED)))
    ]
    near = [numbers < share * (1 + by) for share in shares for by in (-ROUNDED, ROUNDED)]
    unsure = np.any(near, axis=0) != np.all(near, axis=0)
    unsure |= np.ptp(shares, axis=0) > 0
    weights = np.where(numbers < shares[0], np.abs(w) / np.maximum(shares[0], 1e-300), 0.0)
    gram = plan.T @ (np.where(numbers < shares[0], w / np.maximum(shares[0], 1e-300), 0.0)[:, None] * plan)
    used = p.target.b > 0
    assert found.swept.gram is not None
    gap = np.abs(found.swept.gram[np.ix_(used, used)] - gram).sum()
    at_most = np.abs(w[unsure]) / np.maximum(np.min(shares, axis=0)[unsure], 1e-300)
    assert unsure.mean() < 0.02
    assert gap <= (ROUNDED + found.gram_error + 2 * LOST) * weights.sum() + at_most.sum()


@pytest.mark.parametrize("isa", ISAS)
def test_threads_and_shards_change_no_bit(isa: str) -> None:
    p = peaked(9000)
    whole = bits(p.sweep(CpuBackend(1, isa), k=50))
    for threads in (2, 3):
        assert bits(p.sweep(CpuBackend(threads, isa), np.split(p.x, [77, 5000]), k=50)) == whole
