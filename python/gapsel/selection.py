"""Potentials -> selection: the k rows of lowest f, their calibrated scores, and how good the choice is at most.

Where the a_i are equal, scores (calibration.py) have the order of f. Where they are not, 1 - a_i may change the order
among rows of much weight; the choice goes by f, which is the gradient of the mixture's distance by the mass put on a
row.

The certificate is weak duality. With F(r) the regularised distance of row masses r to the target, every g gives

    F(r) >= <b, g> + (1 - mass) <a, f(g)> + mass * (mean of the k lowest f(g))     for every choice r of k rows

so that F at the chosen, looked at once more and bounded from above by a plan (primal.py), is at most its difference to
the right side from the best. At the g of the chosen themselves that difference is the Frank-Wolfe gap; the g that the
choice was made by bounds more tightly. Where rows cost something, what the chosen cost is added on the left, and their
price to f on the right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.calibration import mean_of, scores
from gapsel.errors import UsageError
from gapsel.findings import Certificate
from gapsel.potentials import Dual, Rows, ascend, gather, shortlist_sizes, solve
from gapsel.primal import excess
from gapsel.records import Box, Query, best_of
from gapsel.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials import Point, Task
    from gapsel.records import Potentials
    from gapsel.rules import Rules

# What the mixture's distance lies above the dual value at most is not worth another sweep where it is less than this
# share of the distance: the certificate has it added.
_ENOUGH = 3e-4


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen rows (k,) int64, best first, ties to the earlier row; their scores (k,) float64; the nearest targets.

    ``nearest`` (k,) int32 is the row of the target with the least cost.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    nearest: NDArray[np.int32]

    def __repr__(self) -> str:
        """Say how many, and which are the best."""
        return f"Selection({best_of(self.rows.tolist(), self.scores)})"


def select(
    f: NDArray[np.float32], k: int, rows: Rows, potentials: Potentials, backend: Backend, *, mean: float
) -> Selection:
    """Choose the k lowest f (n,), and score them by the ``mean`` of f. Raises UsageError where k is not from 1 to n."""
    n = rows.pool_rows
    if not 1 <= k <= n:
        msg = f"k is {k}, and the pool has {counted(n, 'document')}: choose from 1 to {n:,}"
        raise UsageError(msg)
    return scored(backend.topk(f[:n], k), f, rows, potentials, backend, mean=mean)


def scored(
    chosen: NDArray[np.int64],
    f: NDArray[np.float32],
    rows: Rows,
    potentials: Potentials,
    backend: Backend,
    *,
    mean: float,
) -> Selection:
    """Return chosen rows (k,) as a selection, with their scores by f (n,) and its ``mean``."""
    return Selection(chosen, scores(f, rows.a, mean)[chosen], nearest_of(chosen, rows, potentials, backend))


def nearest_of(chosen: NDArray[np.int64], rows: Rows, potentials: Potentials, backend: Backend) -> NDArray[np.int32]:
    """Return the row of the target of least cost for each of the chosen rows (k,), in their order."""
    ascending = np.argsort(chosen)
    nearest = np.empty(len(chosen), np.int32)
    nearest[ascending] = nearest_targets((gather(rows.shards, chosen[ascending]),), potentials, backend)
    return nearest


def nearest_targets(
    shards: Sequence[NDArray[np.floating]], potentials: Potentials, backend: Backend
) -> NDArray[np.int32]:
    """Return the row of the target of least cost for each of the shards' rows (n,)."""
    n = sum(len(shard) for shard in shards)
    found = np.empty(n, np.int32)
    p, box = potentials, Box.fixed(1.0 / n)
    backend.sweep(shards, Query(p.target, np.zeros(len(p.g)), box, p.eps, p.cost, nearest=found))
    return found


def exact(potentials: Potentials) -> Certificate:
    """Return the certificate of a choice at mass 0: one gradient step, exact by definition."""
    before = potentials.evidence.plain_value
    return Certificate(before, before, 0.0, 0.0, 0.0)


def certify(
    f: NDArray[np.float32],
    chosen: NDArray[np.int64],
    task: Task,
    potentials: Potentials,
    backend: Backend,
    *,
    rules: Rules | None = None,
    solved_at: Rows | None = None,
) -> Certificate:
    """Bound what any other choice of k could still gain; at a mass of 0 that is nothing.

    f (n,) has in it what the task's rows cost; ``solved_at`` are the rows with the prices of quotas too, at which the
    problem was solved. With rules it is any other choice of as many documents, or tokens, within the same quotas, and
    the chosen weigh in the mixture what they have of them.
    """
    mass = task.mass
    if mass == 0:
        return exact(potentials)
    rows, shares = task.rows, None if rules is None else rules.budget.shares(chosen)
    solved = task if solved_at is None else replace(task, rows=solved_at)
    point, rest = _solve_mixture(solved.rows.mixed(chosen, mass, shares), f - rows.price, solved, potentials, backend)
    after = point.value + rest + mass * _toll(rows, chosen, shares)

    def least(h: NDArray[np.float32]) -> float:
        of_pool = h[: rows.pool_rows]
        if rules is not None:
            return rules.least_mean(of_pool, chosen)
        return float(np.mean(of_pool[backend.topk(of_pool, len(chosen))], dtype=np.float64))

    looks = ((potentials.g, f), (point.g, rows.priced(point.f)))
    of_pool = [_of_pool(g, h, task) for g, h in looks]
    before = max(_plain_value(task, potentials, backend), *of_pool)
    before += mass * mean_of(rows.priced(np.zeros_like(f)), rows.a)
    bound = max(_bound(g, h, least(h), task) for g, h in looks)
    gap, attainable = max(0.0, after - bound), before - bound
    percent = 100.0 * min(1.0, gap / attainable) if attainable > 0 else 100.0 * (gap > 0)
    return Certificate(before, after, gap, percent, rest)


def _plain_value(task: Task, potentials: Potentials, backend: Backend) -> float:
    """Return F at the pool itself, or a little less: a dual value on all of its rows.

    A part of the pool may say too much of it, since g suits that part: where that was solved on, the pool is swept
    twice.
    """
    if potentials.evidence.rows == task.rows.n:
        return potentials.evidence.plain_value
    return solve(replace(task, rows=task.rows.present, mass=0.0, max_sweeps=2), backend).potentials.evidence.plain_value


def _of_pool(g: NDArray[np.float64], f: NDArray[np.float32], task: Task) -> float:
    """Return what F at the pool itself is not below, by the dual at g (m,) with f + price (n,).

    At a small mass, where the pool's own dual was left early, this is the better value.
    """
    return float(task.target.b @ g) + mean_of(f - task.rows.price, task.rows.a)


def _bound(g: NDArray[np.float64], f: NDArray[np.float32], least: float, task: Task) -> float:
    """Return what no choice can be below, by the dual at g (m,) with f + price (n,) of that ``least`` mean."""
    of_pool = mean_of(f - task.rows.price, task.rows.a)
    return float(task.target.b @ g + (1.0 - task.mass) * of_pool + task.mass * least)


def _toll(rows: Rows, chosen: NDArray[np.int64], shares: NDArray[np.float64] | None) -> float:
    """Return what the mean of the chosen rows (k,), by their shares or evenly, costs."""
    price = np.broadcast_to(np.asarray(rows.price), (rows.n,))[chosen].astype(np.float64)
    return float(np.average(price, weights=shares))


def _solve_mixture(
    mixture: Rows, f: NDArray[np.float32], task: Task, potentials: Potentials, backend: Backend
) -> tuple[Point, float]:
    """Solve plain transport at fixed row masses, and bound what it lies above the value at the point.

    That is done on a shortlist; then one look at the pool mostly closes the matter.
    """
    g, curvature = potentials.g, None
    sizes = shortlist_sizes(mixture.pool_rows, len(task.target.b), task.rows.k, task.mass)
    if sum(sizes) < mixture.n:
        dual = _listed(mixture, f, task, backend, sizes=sizes, g=g)
        reached = ascend(dual, g, tolerance=0.3 * task.tolerance, max_sweeps=60, rough="always", own_gram=True)
        g, curvature = reached.point.g, reached.curvature
    dual, little = _plain_dual(mixture, task, backend), _ENOUGH * potentials.evidence.plain_value
    point = ascend(
        dual, g, tolerance=task.tolerance, max_sweeps=task.max_sweeps, curvature=curvature, own_gram=True,
        stop=lambda point, _: _excess(dual, point) < little, want_f=True,
    ).point  # fmt: skip
    return point, _excess(dual, point)


def _excess(dual: Dual, point: Point) -> float:
    query = Query(dual.target, point.g, dual.box, dual.eps, dual.cost)
    return max(0.0, excess(query, point.sweep, point.f, dual.rows.d))


def _listed(
    mixture: Rows,
    f: NDArray[np.float32],
    task: Task,
    backend: Backend,
    *,
    sizes: tuple[int, int],
    g: NDArray[np.float64],
) -> Dual:
    """Return plain transport on a shortlist of the mixture, tilted by what the list lacks of the pool.

    That is known without a look at the pool: at the solution for the mass the pool holds b in its columns, and the box
    and the mixture differ on rows that the list keeps as they are.
    """
    boxed, part = (rows.shortlist(f, *sizes, np.random.default_rng(task.seed)).rows for rows in (task.rows, mixture))
    box = boxed.box(task.mass, task.box().eta)
    dual = Dual(backend, boxed, task.target, box, task.eps, task.cost)
    own = dual.at(g, rough=dual.bears_rounding).sweep.q
    return _plain_dual(part, task, backend).tilted(own, task.target.b)


def _plain_dual(rows: Rows, task: Task, backend: Backend) -> Dual:
    return Dual(backend, rows, task.target, Box.fixed(rows.a), task.eps, task.cost)
