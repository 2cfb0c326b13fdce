"""Robust targets: the examples that nothing in the pool serves are let go, so that they attract no mass.

    minimise  F(w, q)   over choices 0 <= w_i <= 1/k, sum w = 1, and columns 0 <= q_j <= b_j / (1 - share)

with F the regularised distance of the chosen alone, mass 1, to the columns q, which hold as much of each task as b does
(`trimming.Trimmed`). Examples that stay costly though all of the choice be made for them have the highest g: those go,
as long as what goes is no more than the share of their task. What is left counts as before among itself, and so it is a
target like any other, for any mass.

Tried: the price rho KL(q | b) in place of the bound, at several rho: it weighs all the other examples anew too, which
moved the choice farther from the clean target's than the noise did (docs/method.md).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.errors import UsageError
from gapsel.potentials import boxed, plain
from gapsel.potentials.course import Course
from gapsel.potentials.sizes import shortlist_sizes
from gapsel.potentials.trimming import Trimmed

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials.task import Task
    from gapsel.records import Stage

# Small, as for a mass of 1, where every example is to get its share; in row stds.
EPS = 0.1
_SOLVED = 3e-3


def ignored(
    task: Task,
    share: float,
    task_of: NDArray[np.intp],
    backend: Backend,
    watch: Callable[[Stage], None] | None = None,
) -> NDArray[np.int64]:
    """Return the rows of the target, ascending, that are let go: of each task no more than ``share`` of its weight.

    The pool is read once, after a sample, and all else is done on a shortlist; ``watch`` is told of every sweep.
    Raises UsageError where the share is less than any example of any task.
    """
    b = task.target.b
    check_share(b, task_of, share)
    g = _prices(replace(task, mass=1.0, eps=task.scale.eps(EPS)), share, task_of, backend, watch)
    return dearest(g, b, task_of, share)


def check_share(b: NDArray[np.float64], task_of: NDArray[np.intp], share: float) -> None:
    """Raise UsageError for a share that is less than any example (m,) of any task."""
    least = _lightest(b, task_of)
    if share < least:
        msg = (
            f"robust is {share:g}, and that is less than one example, which is {least:.2g} of its task: give more, or "
            "leave it out"
        )
        raise UsageError(msg)


def _lightest(b: NDArray[np.float64], task_of: NDArray[np.intp]) -> float:
    """Return the least weight of an example, as a share of its task."""
    own = b / np.bincount(task_of, b)[task_of]
    return float(own[own > 0].min())


def _prices(
    task: Task, share: float, task_of: NDArray[np.intp], backend: Backend, watch: Callable[[Stage], None] | None
) -> NDArray[np.float64]:
    """Return g (m,) at the solution on a shortlist."""
    rng = np.random.default_rng(task.seed)
    start = plain.near(Course(task, backend, watch), rng)
    rows, f = task.rows, start.f
    sizes = shortlist_sizes(rows.pool_rows, len(task_of), rows.k, task.mass)
    if sum(sizes) < rows.n:
        short = rows.shortlist(f, *sizes, rng)
        rows, f = short.rows, f[short.index]
    course = Course(task, backend, watch, trimmed=Trimmed(share, task_of, task.eps))
    start = plain.from_g(course, rows, start.g, _SOLVED).point
    return boxed.sharpened(course, "shortlist", rows, start.g, start.f, tolerance=_SOLVED).point.g


def dearest(
    g: NDArray[np.float64], b: NDArray[np.float64], task_of: NDArray[np.intp], share: float
) -> NDArray[np.int64]:
    """Return the rows of highest g, ascending, of each task as many as its share allows."""
    gone = [_within(own[np.argsort(-g[own], kind="stable")], b, share) for own in _groups(b, task_of)]
    return np.sort(np.concatenate(gone)).astype(np.int64)


def _groups(b: NDArray[np.float64], task_of: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    return [np.flatnonzero((task_of == code) & (b > 0)) for code in range(int(task_of.max()) + 1)]


def _within(rows: NDArray[np.intp], b: NDArray[np.float64], share: float) -> NDArray[np.intp]:
    """Return the first of these rows that together weigh no more than a share of all of them."""
    weights = np.cumsum(b[rows])
    return rows[: int(np.searchsorted(weights, share * weights[-1] * (1.0 + 1e-12), side="right"))]
