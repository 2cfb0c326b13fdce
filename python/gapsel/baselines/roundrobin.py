"""Round-robin neighbours: targets take turns, each takes its nearest row that is still free, until k are chosen.

Every target gets its share, whatever the pool is dense in; weights play no part. Of each target only a running list of
its L nearest free rows is held, from one read of the pool. When a target finds its list used up, the pool is read again
without the rows taken so far, and with lists twice as long. Each read yields at least L rows, so that the reading ends.

Rules are asked about as many turns together as there is room for. A turn whose row they refuse is taken again after
these, once. Rows for which no room is left are free to no one.

Within one target the order of the costs is that of |x|^2 / 2 - <x, y>, and of -<x, y> on unit vectors.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.baselines.problem import tiles
from gapsel.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.baselines.problem import Problem
    from gapsel.records import Cost

# Lists are longer than their share of k, since targets have neighbours in common; a longer list costs little.
_SLACK, _SPARE = 4, 64
# What bounds the memory: numbers in a tile of products, and in the lists of all targets (8 bytes each, a few copies).
_TILE_ROWS, _TILE_NUMBERS = 4096, 1 << 22
_LIST_NUMBERS = 1 << 23
_ROW_BITS = 32
_NONE = np.uint64(2**64 - 1)
_LARGEST_NORM = float(np.sqrt(np.finfo(np.float32).max))


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """Targets take turns in their order, those of weight 0 left out; equal costs go to the lower row."""

    key = "roundrobin"
    name = "round-robin neighbours"

    def choose(self, problem: Problem, backend: Backend) -> NDArray[np.int64]:  # noqa: ARG002 - gives best targets of rows
        """Return k rows (k,); see Baseline.choose. Weights are ignored."""
        if problem.n > 1 << _ROW_BITS:
            most = f"round-robin neighbours takes up to {1 << _ROW_BITS}"
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
        lists = nearest_rows(self._problem.shards, self._y, self._problem.cost, self._length, self.taken)
        # Memory views hand out single numbers much faster than arrays do.
        self._queues = [iter(own.data) for own in lists]
        self._length *= 2


def nearest_rows(
    shards: Sequence[NDArray[np.floating]],
    y: NDArray[np.floating],
    cost: Cost,
    length: int,
    taken: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Return the nearest rows of each target y (m, d): (m, length) of them, nearest first, ties to the lower row.

    Rows that are ``taken`` (n,) are left out; at least ``length`` are not.
    """
    # Distances do not change with the origin, and near the targets norms are small and float32 is precise. A target
    # serves better than their mean, which has more digits than the coordinates and would part costs that are equal.
    origin = y[0].astype(np.float32)
    y, _ = _placed(y, origin, cost, "target", 0)
    held: list[NDArray[np.uint64]] = []
    cut = np.full((len(y), 1), np.inf, np.float32)
    for start, rows, tile in tiles(shards, _tile_height(len(y))):
        tile[:rows], half = _placed(tile[:rows], origin, cost, "pool", start)
        values = (y @ tile.T)[:, :rows]
        np.subtract(half, values, out=values)
        if taken is not None:
            values[:, taken[start : start + rows]] = np.inf
        held.append(_below(values, cut, start))
        # Cutting back only when as much is new as is old keeps the work per row constant, however long the lists are.
        if sum(keys.shape[1] for keys in held) >= 2 * length:
            held = [_lowest(held, length)]
            cut = _values(held[0].max(axis=1, keepdims=True))
    keys = np.sort(_lowest(held, length), axis=1)
    return (keys & np.uint64((1 << _ROW_BITS) - 1)).astype(np.int64)


def _below(values: NDArray[np.float32], cut: NDArray[np.float32], start: int) -> NDArray[np.uint64]:
    """Return the keys of the values (m, r) that are finite and up to the cut (m, 1) of their target, filled up.

    What is higher can no longer be among the nearest; of a long pool that is nearly everything, so that the lists cost
    little beside the product.
    """
    targets, rows = np.nonzero(values <= np.minimum(cut, np.finfo(np.float32).max))
    counts = np.bincount(targets, minlength=len(values))
    keys = np.full((len(values), counts.max(initial=0)), _NONE)
    places = np.arange(len(targets)) - np.repeat(np.cumsum(counts) - counts, counts)
    keys[targets, places] = _keys(values[targets, rows], rows + start)
    return keys


def _tile_height(m: int) -> int:
    """Return the rows of a tile: the same for every read, and fewer where there are very many targets."""
    height = _TILE_ROWS
    while height > 1 and height * m > _TILE_NUMBERS:
        height //= 2
    return height


def _placed(
    x: NDArray[np.floating], origin: NDArray[np.float32], cost: Cost, what: str, first: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return x as the cost takes it, unit rows or relative to the origin, and half the squared norms that count."""
    unit = cost.normalize or cost.kind == "cosine"
    x = x.astype(np.float32) if unit else x.astype(np.float32) - origin
    norm = np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64))
    usable = (norm > 0) & np.isfinite(norm) if unit else norm < _LARGEST_NORM
    bad = np.flatnonzero(~usable)
    if bad.size:
        fault = "it cannot be scaled to unit length" if unit else "it has no cost that float32 can hold"
        msg = f"{what} row {first + bad[0]} has norm {norm[bad[0]]}: {fault}; remove the row"
        raise DataError(msg)
    if unit:
        return (x / norm[:, None]).astype(np.float32), np.zeros(len(x), np.float32)
    return x, (norm**2 / 2).astype(np.float32)


def _keys(values: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.uint64]:
    """Return numbers (r,) in the order of (value, row): the bits of the float32 above those of the row.

    Bits of floats that are not negative are in order as they are; those of negative ones are in reverse.
    """
    bits = (values + np.float32(0)).view(np.int32)  # adding 0 makes -0.0 equal to 0.0
    ordered = (bits ^ (bits >> 31 | np.int32(-(1 << 31)))).view(np.uint32)
    return ordered.astype(np.uint64) << np.uint64(_ROW_BITS) | rows.astype(np.uint64)


def _values(keys: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Return the values that keys were made of."""
    ordered = (keys >> np.uint64(_ROW_BITS)).astype(np.uint32)
    high = np.uint32(1 << 31)
    return np.where(ordered & high, ordered ^ high, ~ordered).view(np.float32)


def _lowest(held: list[NDArray[np.uint64]], length: int) -> NDArray[np.uint64]:
    """Return the lowest keys of each target, in any order: (m, length), or all if there are fewer."""
    keys = np.concatenate(held, axis=1)
    return keys if keys.shape[1] <= length else np.partition(keys, length - 1, axis=1)[:, :length].copy()
