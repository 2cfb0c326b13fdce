"""The nearest rows of each target, in one read of the pool, by several threads.

Within one target the order of the costs is that of |x|^2 / 2 - <x, y>, and of -<x, y> on unit vectors. Threads look at
tiles of the pool, of one shape whatever their number. The list of a target is its lowest keys (cost, row), no two of
which are equal, so that it does not matter which tile comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapsel import memory
from gapsel.baselines.parallel import mapped, threads_of
from gapsel.baselines.problem import tiles
from gapsel.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.baselines.problem import Tile
    from gapsel.records import Cost

# Bits of a key that hold its row.
ROW_BITS = 32
_NONE = np.uint64(2**64 - 1)
# What bounds the memory of a tile: its rows, and the numbers in its products.
_TILE_ROWS, _TILE_NUMBERS = 4096, 1 << 22
# Bytes of work space for each pair of a tile (product, comparison) and for each number of its rows; the share of the
# memory that all tiles at work may take.
_PAIR_BYTES, _NUMBER_BYTES, _MEMORY = 5, 16, 0.1
_LARGEST_NORM = float(np.sqrt(np.finfo(np.float32).max))


def nearest_rows(
    shards: Sequence[NDArray[np.floating]],
    y: NDArray[np.floating],
    cost: Cost,
    length: int,
    taken: NDArray[np.bool_] | None = None,
    *,
    threads: int = 1,
) -> NDArray[np.int64]:
    """Return the nearest rows of each target y (m, d): (m, length) of them, nearest first, ties to the lower row.

    Rows that are ``taken`` (n,) are left out; at least ``length`` are not. ``threads`` 0 means all that there are.
    """
    # Distances do not change with the origin, and near the targets norms are small and float32 is precise. A target
    # serves better than their mean, which has more digits than the coordinates and would part costs that are equal.
    origin = y[0].astype(np.float32)
    y, _ = _placed(y, origin, cost, "target", 0)
    lists = _Lists(len(y), length)

    def found(tile: Tile) -> NDArray[np.uint64]:
        start, rows, x = tile
        x[:rows], half = _placed(x[:rows], origin, cost, "pool", start)
        values = (y @ x.T)[:, :rows]
        np.subtract(half, values, out=values)
        if taken is not None:
            values[:, taken[start : start + rows]] = np.inf
        return _below(values, lists.cut, start)

    height = _tile_height(len(y))
    read = tiles(shards, height)
    # Before there is a cut all of a tile counts, which takes several times the memory: one at a time.
    while not lists.full and (tile := next(read, None)) is not None:
        lists.add(found(tile))
    for keys in mapped(found, read, _at_a_time(threads, height, y)):
        lists.add(keys)
    return lists.rows()


class _Lists:
    """The ``length`` lowest keys of each of m targets so far, and perhaps more; keys above ``cut`` (m, 1) are not."""

    def __init__(self, m: int, length: int) -> None:
        self._held: list[NDArray[np.uint64]] = []
        self._length = length
        self.cut = np.full((m, 1), np.inf, np.float32)
        self.full = False

    def add(self, keys: NDArray[np.uint64]) -> None:
        """Add keys (m, any)."""
        self._held.append(keys)
        # Cutting back only when as much is new as is old keeps the work per row constant, however long the lists are.
        if sum(keys.shape[1] for keys in self._held) >= 2 * self._length:
            self._held = [_lowest(self._held, self._length)]
            self.cut = _values(self._held[0].max(axis=1, keepdims=True))
            self.full = True

    def rows(self) -> NDArray[np.int64]:
        """Return the rows of the lowest keys (m, length), in order."""
        keys = np.sort(_lowest(self._held, self._length), axis=1)
        return (keys & np.uint64((1 << ROW_BITS) - 1)).astype(np.int64)


def _at_a_time(threads: int, height: int, y: NDArray[np.float32]) -> int:
    """Return how many tiles are looked at together: one by each thread, as far as the memory goes."""
    m, d = y.shape
    tile: int = height * (_PAIR_BYTES * m + _NUMBER_BYTES * d)
    return min(threads_of(threads), memory.share(_MEMORY, least=tile) // tile)


def _below(values: NDArray[np.float32], cut: NDArray[np.float32], start: int) -> NDArray[np.uint64]:
    """Return the keys of the values (m, r) that are finite and up to the cut (m, 1) of their target, filled up.

    What is higher can no longer be among the nearest; of a long pool that is nearly everything, so that the lists cost
    little beside the product.
    """
    # Of one dimension the places are found much faster than of two.
    flat = np.flatnonzero(values <= np.minimum(cut, np.finfo(np.float32).max))
    targets, rows = np.divmod(flat, values.shape[1])
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
    return ordered.astype(np.uint64) << np.uint64(ROW_BITS) | rows.astype(np.uint64)


def _values(keys: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Return the values that keys were made of."""
    ordered = (keys >> np.uint64(ROW_BITS)).astype(np.uint32)
    high = np.uint32(1 << 31)
    return np.where(ordered & high, ordered ^ high, ~ordered).view(np.float32)


def _lowest(held: list[NDArray[np.uint64]], length: int) -> NDArray[np.uint64]:
    """Return the lowest keys of each target, in any order: (m, length), or all if there are fewer."""
    keys = np.concatenate(held, axis=1)
    return keys if keys.shape[1] <= length else np.partition(keys, length - 1, axis=1)[:, :length].copy()
