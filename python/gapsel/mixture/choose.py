"""Documents by the weights of their domains: how many of each, and which."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials import Task, solve
from gapsel.records import Box, Query, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.mixture.problem import Problem
    from gapsel.mixture.solve import Mixed

# Of an example that a domain holds so much less of than of the mean one, it need not choose anything.
_HELD = 1e-3


def apportion(w: NDArray[np.float64], k: int, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many of k documents each domain gives (u,): w_d k, rounded by largest remainders, at most its rows.

    The weights (u,) sum to 1 and are at most counts / k (u,).
    """
    exact = np.minimum(w * k, counts)
    shares = np.floor(exact + 1e-9).astype(np.int64)
    left = np.where(shares < counts, exact - shares, -np.inf)
    shares[np.argsort(-left, kind="stable")[: k - int(shares.sum())]] += 1
    return shares


def chosen_within(
    problem: Problem,
    mixed: Mixed,
    counts: NDArray[np.int64],
    backend: Backend,
    barred: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Return rows of each domain, ``counts`` (u,) of them and none that is barred (n,), all in order of (f, row).

    The plan of the mixture says what each domain holds of each example, q_d (m,); the documents of a domain are those
    that stand for that part of the target best: a selection at a mass of 1.
    """
    codes = problem.domains.codes
    found = []
    for domain in np.flatnonzero(counts):
        own = np.flatnonzero(codes == domain if barred is None else (codes == domain) & ~barred)
        count = int(counts[domain])
        found.append(own if count == len(own) else own[_best_of(problem, mixed, own, count, backend)])
    rows = np.concatenate(found)
    return rows[np.lexsort((rows, mixed.f[rows]))]


def _best_of(problem: Problem, mixed: Mixed, own: NDArray[np.int64], count: int, backend: Backend) -> NDArray[np.int64]:
    """Return which of some rows (s,) of one domain, so many, stand best for what it holds of the target."""
    p, rows = problem, replace(problem.domains.part(own), capacity=1.0 / count)
    q = backend.sweep(rows.shards, Query(p.target, mixed.g, Box.fixed(rows.a), p.eps, p.cost)).q
    held = q > _HELD * q.mean()
    part = Target(np.ascontiguousarray(p.target.y[held]), q[held] / q[held].sum())
    task = Task(rows, part, p.cost, p.scale, p.eps, 1.0, p.tolerance, p.max_sweeps, p.seed)
    return backend.topk(solve(task, backend).f, count)
