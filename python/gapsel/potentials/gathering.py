"""Vectors of some rows, gathered from the shards: in memory, or in a temporary file where they are many."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import numpy as np

from gapsel import memory
from gapsel.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

# The part of the memory that they may be, and what may be held in any case.
_HELD, _HELD_AT_LEAST = 1 / 16, 1 << 24
_BLOCK_ROWS = 8192


def gather(shards: Sequence[NDArray[np.floating]], rows: NDArray[np.int64]) -> NDArray[np.floating]:
    """Return the vectors (s, d) of the rows, which are numbered across the shards and ascend.

    What is more than a share of the memory goes through a temporary file, mapped, which is gone when it is let go.
    """
    if len(shards) == 1 and len(rows) <= _BLOCK_ROWS:
        return shards[0][rows]
    shape, dtype = (len(rows), shards[0].shape[1]), np.result_type(*{shard.dtype for shard in shards})
    if len(rows) * shape[1] * dtype.itemsize > memory.share(_HELD, least=_HELD_AT_LEAST):
        return _spilled(_picked(shards, rows), shape, dtype)
    out, done = np.empty(shape, dtype), 0
    for block in _picked(shards, rows):
        out[done : done + len(block)] = block
        done += len(block)
    return out


def _picked(shards: Sequence[NDArray[np.floating]], rows: NDArray[np.int64]) -> Iterator[NDArray[np.floating]]:
    """Yield the rows a block at a time."""
    start = 0
    for shard in shards:
        first, last = np.searchsorted(rows, (start, start + len(shard)))
        for at in range(first, last, _BLOCK_ROWS):
            yield shard[rows[at : min(at + _BLOCK_ROWS, last)] - start]
        start += len(shard)


def _spilled(
    blocks: Iterator[NDArray[np.floating]], shape: tuple[int, int], dtype: np.dtype[np.floating]
) -> NDArray[np.floating]:
    """Return the blocks, one after the other, as a map of a temporary file."""
    with tempfile.TemporaryFile() as file:
        try:
            # Written, not copied into a map: on a full disk the write says so, where a map would end the process.
            for block in blocks:
                file.write(np.ascontiguousarray(block, dtype).view(np.uint8).data)
            file.flush()
        except OSError as error:
            msg = (
                f"{shape[0]:,} vectors cannot be set aside in {tempfile.gettempdir()} ({error.strerror}): free some "
                "space there, name another folder in TMPDIR, or allow more memory (--memory)"
            )
            raise ResourceError(msg) from error
        return np.memmap(file, dtype, "r", shape=shape)
