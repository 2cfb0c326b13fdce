"""Round-robin neighbours: targets take turns, each takes its nearest row that is still free, until k are chosen.

Every target gets its share, whatever the pool is dense in; weights play no part. Of each target only a running list of
its L nearest free rows is held, from one read of the pool. When a target finds its list used up, the pool is read again
without the rows taken so far, and with lists twice as long. Each read yields at least L rows, so that the reading ends.

Rules are asked about as many turns together as there is room for. A turn whose row they refuse is taken again after
these, once. Rows for which no room is left are free to no one.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.baselines.neighbours import ROW_BITS, nearest_rows
from gapsel.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.baselines.problem import Problem

# Lists are longer than their share of k, since targets have neighbours in common; a longer list costs little.
_SLACK, _SPARE = 4, 64
# What bounds the memory: numbers in the lists of all targets (8 bytes each, a few copies).
_LIST_NUMBERS = 1 << 23


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """Targets take turns in their order, those of weight 0 left out; equal costs go to the lower row."""

    key = "roundrobin"
    name = "round-robin neighbours"

    def choose(self, problem: Problem, backend: Backend) -> NDArray[np.int64]:  # noqa: ARG002 - gives best targets of rows
        """Return k rows (k,); see Baseline.choose. Weights are ignored."""
        if problem.n > 1 << ROW_BITS:
            most = f"round-robin neighbours takes up to {1 << ROW_BITS}"
            msg = f"the pool has {problem.n} rows: {most}, give it a sample"
            raise UsageError(msg)
        y, walk = problem.target.y[problem.target.b > 0], problem.walk()
        lists = _Lists(problem, y)
        cycle, again = itertools.cycle(range(len(y))), list[int]()
        while not walk.full:
            lists.taken |= ~walk.room()
            turns = again or list(itertools.islice(cycle, walk.expects))
            rows = lists.take(turns)
            if not len(rows):
                break
            refused = ~walk.offer(rows)
            again = [] if again else [turns[at] for at in np.flatnonzero(refused).tolist()]
        return walk.finish().rows


class _Lists:
    """Which rows are taken (n,), and for each target a list of the nearest of the others, made anew when used up."""

    def __init__(self, problem: Problem, y: NDArray[np.float32]) -> None:
        self.taken = np.zeros(problem.n, np.bool_)
        self._problem, self._y = problem, y
        self._length = _SLACK * -(-problem.k // len(y)) + _SPARE
        self._queues: list[Iterator[int]] = [iter(()) for _ in y]

    def take(self, turns: list[int]) -> NDArray[np.int64]:
        """Let targets, as often as each is named, take the nearest free row; fewer where no row is free any more."""
        rows = list[int]()
        for target in turns:
            row = self._next(target)
            if row is None and not self.taken.all():
                self._read()
                row = self._next(target)
            if row is None:
                break
            rows.append(row)
        return np.array(rows, np.int64)

    def _next(self, target: int) -> int | None:
        marks = self.taken.data
        row = next((row for row in self._queues[target] if not marks[row]), None)
        if row is not None:
            marks[row] = True
        return row

    def _read(self) -> None:
        longest, free = max(_LIST_NUMBERS // len(self._y), 1), self.taken.size - int(np.count_nonzero(self.taken))
        self._length = min(self._length, longest, free)
        p = self._problem
        lists = nearest_rows(p.shards, self._y, p.cost, self._length, self.taken, threads=p.threads)
        # Memory views hand out single numbers much faster than arrays do.
        self._queues = [iter(own.data) for own in lists]
        self._length *= 2
