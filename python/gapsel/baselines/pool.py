"""The pool as rows, however it is cut into shards: how many there are, and tiles of always the same height."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapsel.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gapsel.records import Target

MATRIX = 2


def size(shards: Sequence[NDArray[np.floating]], target: Target, k: int) -> int:
    """Return n, the number of rows in the pool.

    Raises DataError for a shard or target that is not (rows, d) with the same d, UsageError unless 1 <= k <= n.
    """
    if target.y.ndim != MATRIX or not np.any(target.b > 0):
        msg = f"the target has shape {target.y.shape}: give (m, d) vectors, at least one of positive weight"
        raise DataError(msg)
    d = target.y.shape[1]
    for at, shard in enumerate(shards):
        if shard.ndim != MATRIX or shard.shape[1] != d:
            msg = f"shard {at} has shape {shard.shape}: give (rows, {d}), as the target has {d} dimensions"
            raise DataError(msg)
    n = sum(map(len, shards))
    if not 1 <= k <= n:
        msg = f"k is {k}: the pool has {n} rows, so give a number from 1 to {n}"
        raise UsageError(msg)
    return n


def tiles(shards: Sequence[NDArray[np.floating]], height: int) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Yield (number of its first row, its rows, tile): the pool in tiles (height, d), the last filled up with zeros.

    A matrix product may round differently when its shape differs. Tiles start at multiples of the height and are all of
    one shape, so that the cut into shards changes no bit. The array is one and the same, written anew for each tile.
    """
    tile = np.zeros((height, shards[0].shape[1]), np.float32)
    start = held = 0
    for shard in shards:
        at = 0
        while at < len(shard):
            count = min(height - held, len(shard) - at)
            tile[held : held + count] = shard[at : at + count]
            at, held = at + count, held + count
            if held == height:
                yield start, held, tile
                start, held = start + height, 0
    if held:
        tile[held:] = 0
        yield start, held, tile
