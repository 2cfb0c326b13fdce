"""What would be chosen if something were different: another mass, half of the examples, half of the pool.

All on one shortlist, after one sweep of the pool: it is as deep as a mass of 1 asks for, and what may be chosen are the
rows that it keeps as they are. What is left out is the last look at the pool, which a run takes: in real text a list's
choice had 0.96 to 0.99 of that of a solution at its mass (100,000 rows, seven masses, once).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.errors import UsageError
from gapsel.potentials import boxed, plain
from gapsel.potentials.course import Course
from gapsel.potentials.rows import shares
from gapsel.records import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials.dual import Point
    from gapsel.potentials.rows import Rows, Shortlist
    from gapsel.potentials.task import Task
    from gapsel.records import Stage

    Pair = tuple[NDArray[np.int64], NDArray[np.int64]]
    # From f (s,) of some rows (s,) to the places (k,) of those that are chosen.
    Choose = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.int64]]

# Halves of fewer examples say nothing.
_FEWEST = 4


def mass_path(
    tasks: Sequence[Task],
    backend: Backend,
    watch: Callable[[Stage], None] | None = None,
    choose: Choose | None = None,
) -> Iterator[NDArray[np.int64]]:
    """Yield, for each of the tasks, which differ in mass and eps alone, the rows (k,) that are chosen, best first.

    They go best in the order of their mass, since each goes on from the one before. ``watch`` is told of every sweep;
    ``choose`` does so by f, where the k lowest are not the choice.
    """
    listed = _Listed.of(tasks[0], backend, watch, choose)
    g, f = listed.g, listed.f
    for task in tasks:
        point = listed.solve(task, g, f)
        g, f = point.g, point.f
        yield listed.chosen(f, task.k)


def check_halves(examples: int) -> None:
    """Raise UsageError for a target of too few examples to be halved."""
    if examples < _FEWEST:
        msg = (
            f"the target has {examples} examples that count: give {_FEWEST} or more, so that it has halves, or leave "
            "error bars out"
        )
        raise UsageError(msg)


def halves(
    task: Task,
    backend: Backend,
    splits: int,
    watch: Callable[[Stage], None] | None = None,
    choose: Choose | None = None,
) -> Iterator[tuple[Pair, Pair]]:
    """Yield, for each of several random splits, what two disjoint halves choose: of the target, and of the pool.

    A half of the pool is half of what it stands for, the base weights; all rows stay eligible. Each choice is k rows
    (k,), best first. Raises UsageError for a target of less than four examples.
    """
    present = np.flatnonzero(task.target.b)
    check_halves(len(present))
    listed = _Listed.of(task, backend, watch, choose)
    rng = np.random.default_rng([task.seed, splits])
    for _ in range(splits):
        of_target = np.array_split(rng.permutation(present), 2)
        of_pool = np.array_split(rng.permutation(listed.rows.n), 2)
        yield (
            (listed.with_targets(task, of_target[0]), listed.with_targets(task, of_target[1])),
            (listed.with_base(task, of_pool[0]), listed.with_base(task, of_pool[1])),
        )


@dataclass(frozen=True, slots=True)
class _Listed:
    """The shortlist, a g (m,) near plain transport with f (s,) there, and the places (e,) that may be chosen."""

    short: Shortlist
    g: NDArray[np.float64]
    f: NDArray[np.float32]
    eligible: NDArray[np.intp]
    backend: Backend
    watch: Callable[[Stage], None] | None
    choose: Choose | None

    @classmethod
    def of(cls, task: Task, backend: Backend, watch: Callable[[Stage], None] | None, choose: Choose | None) -> _Listed:
        """Read the pool once, after a sample, and keep the rows of lowest f and some that stand for the rest."""
        rng = np.random.default_rng(task.seed)
        course = Course(replace(task, mass=1.0), backend, watch)
        start = plain.near(course, rng)
        short = boxed.listed(course, start.f, rng)
        eligible = np.flatnonzero(np.isin(short.index, short.lowest))
        return cls(short, start.g, start.f[short.index], eligible, backend, watch, choose)

    @property
    def rows(self) -> Rows:
        """The rows of the list."""
        return self.short.rows

    def solve(self, task: Task, g: NDArray[np.float64], f: NDArray[np.float32], rows: Rows | None = None) -> Point:
        """Solve a task on the list, or on its rows with other weights, from a g (m,) with f (s,) there."""
        course, rows = Course(task, self.backend, self.watch), rows or self.rows
        if task.mass == 0:
            return plain.from_g(course, rows, g, task.tolerance).point
        return boxed.sharpened(course, "shortlist", rows, g, f, tolerance=task.tolerance).point

    def chosen(self, f: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Return the k eligible rows of lowest f (s,), or those that are chosen by it."""
        own, rows = np.ascontiguousarray(self.rows.priced(f)[self.eligible]), self.short.index[self.eligible]
        return rows[self.backend.topk(own, k) if self.choose is None else self.choose(own, rows)]

    def with_targets(self, task: Task, some: NDArray[np.intp]) -> NDArray[np.int64]:
        """Return what some of the targets choose."""
        some = np.sort(some)
        y, b = task.target.y[some], task.target.b[some]
        part = replace(task, target=Target(y, b / b.sum()))
        return self.chosen(self.solve(part, self.g[some], self.f).f, task.k)

    def with_base(self, task: Task, some: NDArray[np.intp]) -> NDArray[np.int64]:
        """Return what is chosen where some of the list's rows are all that the pool stands for."""
        kept = np.zeros(self.rows.n)
        kept[some] = np.broadcast_to(np.asarray(self.rows.a), (self.rows.n,))[some]
        part = replace(self.rows, a=shares(kept))
        return self.chosen(self.solve(task, self.g, self.f, part).f, task.k)
