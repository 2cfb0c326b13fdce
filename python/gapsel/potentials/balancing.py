"""The weights of several tasks at which each closes the same share of the gap that it could close.

    D_t(r)    the regularised distance of row masses r to task t alone
    share_t   (D_t(pool) - D_t(mixture)) / (D_t(pool) - D_t(own_t))      own_t: the mixture if all k were chosen for t

The mixture is the one that is chosen for the target sum_t w_t b^t. More weight draws more of the choice to a task, and
its share rises; so w_t falls where the share is above the mean and rises where it is below. The unit is what a task
could close, not D_t(pool): else one that nothing in the pool serves would take all the weight. At mass 0, one gradient
step, derivatives stand in the place of differences, sum_i (a_i - w_i) f_i^t with the density w of the k lowest f.

All on one shortlist, once the pool was read for each task by its own columns, which is one sweep for all of them. With
these weights it is a problem like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials import boxed, plain
from gapsel.potentials.course import Course
from gapsel.potentials.levelling import levelled
from gapsel.potentials.rows import Rows
from gapsel.potentials.sizes import shortlist_sizes
from gapsel.records import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials.dual import Point
    from gapsel.potentials.levelling import Balance
    from gapsel.potentials.task import Task
    from gapsel.records import Stage

# What documents a share may be off by, where one of k is worth 1/k.
_DOCUMENTS = 2.0
# What a task could close that is less than this part of row_std is nothing to share.
_NOTHING = 1e-3
# Points on the list are solved to this marginal error, whose square is what distances are off by.
_SOLVED = 1e-2


def balance(
    task: Task, task_of: NDArray[np.intp], backend: Backend, watch: Callable[[Stage], None] | None = None
) -> Balance:
    """Find the weights of the tasks that ``task_of`` (m,) tells apart, from 0 on, all of them of some weight.

    ``watch`` is told of every sweep.
    """
    scales = _Scales(task, task_of, backend, watch)
    found = levelled(scales.shares_at, int(task_of.max()) + 1, _DOCUMENTS / task.k)
    return replace(found, reads=scales.read)


def weighted(target: Target, task_of: NDArray[np.intp], weights: NDArray[np.float64]) -> Target:
    """Return the target with these weights (t,) of its tasks, each within itself as it was."""
    held = np.bincount(task_of, target.b, len(weights))
    return Target(target.y, target.b * (weights / held)[task_of])


@dataclass(slots=True)
class _One:
    """One task by itself: its problem, the list's rows at mass 0, the last mixture's g (m_t,), what it could close."""

    task: Task
    plain: Point
    g: NDArray[np.float64]
    attainable: float = 0.0


class _Scales:
    """The tasks on one list, by themselves and together."""

    def __init__(
        self, task: Task, task_of: NDArray[np.intp], backend: Backend, watch: Callable[[Stage], None] | None
    ) -> None:
        self._task, self._backend, self._watch = task, backend, watch
        self.read = 0.0
        self._task_of = task_of
        self._rows, starts = self._listed(np.random.default_rng(task.seed))
        self._ones = [self._by_itself(part, g) for part, g in starts]
        self._last: tuple[NDArray[np.float64], Point] | None = None

    def shares_at(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share (t,) that each task closes at these weights (t,)."""
        return self._shares(self._density(self._together(weights).f))

    def _listed(self, rng: np.random.Generator) -> tuple[Rows, list[tuple[Task, NDArray[np.float64]]]]:
        """Read the pool for each task; return the lowest f of each with some that stand for the rest, and each g."""
        rows, codes = self._task.rows, range(int(self._task_of.max()) + 1)
        exact, extra = shortlist_sizes(rows.pool_rows, len(self._task_of), rows.k, 1.0 / len(codes))
        kept, starts = np.zeros(rows.n, np.bool_), []
        for code in codes:
            part = self._part(code)
            point = plain.near(self._course(replace(part, mass=1.0)), rng)
            kept[np.argpartition(point.f[: rows.pool_rows], exact - 1)[:exact]] = True
            starts.append((part, point.g))
        count = int(kept.sum())
        if count + extra >= rows.n:
            return rows, starts
        return rows.shortlist(-kept.astype(np.float32), count, extra, rng).rows, starts

    def _part(self, code: int) -> Task:
        """Return the problem of one task alone."""
        target, own = self._task.target, self._task_of == code
        b = target.b[own]
        return replace(self._task, target=Target(target.y[own], b / b.sum()))

    def _by_itself(self, part: Task, g: NDArray[np.float64]) -> _One:
        """Solve for one task alone on the list, at mass 0 and at the mass."""
        start = self._plain(part, self._rows, g)
        one = _One(part, start, start.g)
        own = self._boxed(part, start)
        one.attainable = self._closed(one, self._density(own.f))
        return one

    def _together(self, weights: NDArray[np.float64]) -> Point:
        """Solve for all tasks at these weights on the list, from the last ones."""
        task = replace(self._task, target=weighted(self._task.target, self._task_of, weights))
        if self._last is None:
            g = np.empty(len(self._task_of))
            for code, one in enumerate(self._ones):
                g[self._task_of == code] = one.plain.g
            point = self._boxed(task, self._plain(task, self._rows, g))
        else:
            held, last = self._last
            # The plan stays what it was.
            g = last.g + task.eps * np.log(held / weights)[self._task_of]
            point = self._again(task, g, last.f)
        self._last = (weights, point)
        return point

    def _plain(self, task: Task, rows: Rows, g: NDArray[np.float64]) -> Point:
        """Solve at mass 0 from a g (m,), on rows of the list."""
        return plain.from_g(self._course(task), rows, g, _SOLVED).point

    def _boxed(self, task: Task, start: Point) -> Point:
        """Go on to the mass from the solution at mass 0."""
        if task.mass == 0:
            return start
        return boxed.sharpened(self._course(task), "shortlist", self._rows, start.g, start.f, tolerance=_SOLVED).point

    def _again(self, task: Task, g: NDArray[np.float64], f: NDArray[np.float32]) -> Point:
        """Solve at the mass from a solution for other weights, g (m,) with f (s,) there."""
        if task.mass == 0:
            return self._plain(task, self._rows, g)
        return boxed.sharpened(self._course(task), "shortlist", self._rows, g, f, tolerance=_SOLVED, tilt=0.0).point

    def _density(self, f: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the share (s,) that each row of the list has in the choice by f (s,), sum 1."""
        order = np.argsort(f, kind="stable")
        room = np.broadcast_to(np.asarray(self._rows.capacity), (self._rows.n,))[order]
        taken = np.empty(self._rows.n)
        taken[order] = np.clip(1.0 - (np.cumsum(room) - room), 0.0, room)
        return np.asarray(taken / taken.sum())

    def _shares(self, density: NDArray[np.float64]) -> NDArray[np.float64]:
        least = _NOTHING * self._task.scale.eps(1.0) * (self._task.mass or 1.0)
        return np.array([
            self._closed(one, density) / one.attainable if one.attainable > least else np.nan for one in self._ones
        ])  # fmt: skip

    def _closed(self, one: _One, density: NDArray[np.float64]) -> float:
        """Return by how much a choice lowers the distance to one task; at mass 0 the rate at which it does."""
        rows, mass = self._rows, one.task.mass
        a = np.broadcast_to(np.asarray(rows.a), (rows.n,))
        if mass == 0:
            return float((a - density) @ one.plain.f.astype(np.float64))
        mixture = Rows(rows.shards, (1.0 - mass) * a + mass * density, rows.capacity, rows.base)
        point = self._plain(one.task, mixture, one.g)
        one.g = point.g
        return one.plain.value - point.value

    def _course(self, task: Task) -> Course:
        """Return a task on its way, with its sweeps counted."""
        return Course(task, self._backend, lambda stage: self._note(stage, len(task.target.b)))

    def _note(self, stage: Stage, columns: int) -> None:
        self.read += stage.rows * columns / (self._task.rows.n * len(self._task_of))
        if self._watch is not None:
            self._watch(stage)
