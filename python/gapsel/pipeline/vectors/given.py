"""Ready-made vectors: used where they lie, or brought into the run folder shard by shard.

A .npy of float16 or float32 on a disk of this machine is mapped. What lies elsewhere, and what has to be converted, is
written to the run folder once, for sweeps read it many times; a run that was stopped goes on after the last whole
shard, and reads no row before it again.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from gapsel import memory, remote, store
from gapsel.errors import DataError
from gapsel.pipeline.vectors.ahead import ahead
from gapsel.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_NO_HASH = bytes(16)
# Rows of a shard, and what the one in memory may be of what the run may hold.
_LEAST_ROWS, _MOST_ROWS, _PART = 1024, 65536, 1 / 16


def look(files: Sequence[str], column: str | None = None) -> tuple[store.Given, ...]:
    """Read the heads of the files; ``column`` says which of several columns of vectors is meant.

    Raises DataError for what is no file of vectors, and where their d differ.
    """
    found = tuple(store.look(file, column) for file in files)
    for one in found[1:]:
        if one.d != found[0].d:
            msg = (
                f"{one.source}: has {one.d} dimensions, {found[0].source} has {found[0].d}: use vectors of one embedder"
            )
            raise DataError(msg)
    return found


def lie_ready(files: Sequence[str]) -> bool:
    """Tell whether all files can be used where they lie. URLs are not asked."""
    here = all(file.lower().endswith(".npy") and not remote.is_url(file) for file in files)
    return here and all(store.look(file).in_place for file in files)


class Stream:
    """The rows of several files, one after the other, from row ``first`` on."""

    def __init__(self, files: Sequence[store.Given], first: int = 0) -> None:
        self._blocks = _blocks(files, first)
        self._block: NDArray[np.floating] | None = None

    def take(self, count: int) -> NDArray[np.floating]:
        """Return the next ``count`` vectors (count, d), or as many as there are."""
        parts, left = [], count
        while left:
            if self._block is None or not len(self._block):
                self._block = next((vectors for _, _, vectors, _ in self._blocks), None)
            if self._block is None:
                break
            parts.append(self._block[:left])
            self._block, left = self._block[left:], left - len(parts[-1])
        return np.concatenate(parts)


def dtype_of(files: Sequence[store.Given]) -> np.dtype[np.floating]:
    """Return the type that holds them all in the run folder: float16 where all are, else float32."""
    return np.dtype(np.float16 if all(one.dtype == np.float16 for one in files) else np.float32)


def check(files: Sequence[store.Given], *, normalize: bool) -> None:
    """Read the files that lie here, and raise DataError, with file and row, for rows that cannot be used.

    URLs are left out: their rows are checked when they are brought.
    """
    here = [one for one in files if not remote.is_url(one.source)]
    for source, first, vectors, _ in _blocks(here, 0):
        check_block(vectors, dtype_of(files), source, first, normalize=normalize)


def check_block(
    vectors: NDArray[np.floating], dtype: np.dtype[np.floating], source: str, first: int, *, normalize: bool
) -> None:
    """Raise DataError for a block (r, d), from row ``first`` of its file, that cannot be used in this type."""
    # What the type cannot hold becomes infinite, which is refused with the row named.
    with np.errstate(over="ignore"):
        store.check_block(vectors.astype(dtype, copy=False), source, first, normalize=normalize)


def bring(
    files: Sequence[store.Given],
    folder: Path,
    fingerprint: Mapping[str, object],
    *,
    normalize: bool,
    advance: Callable[[int], None],
) -> store.Store:
    """Write the vectors of all files to a store in ``folder``, or what is still missing of them.

    Raises DataError, with file and row, for rows that cannot be used, and for a file that ends early.
    """
    dtype = dtype_of(files)
    writer = store.Writer(folder, fingerprint=fingerprint, shard_rows=_shard_rows(files[0].d), dtype=dtype)
    kept = writer.keep(repeat(_NO_HASH)) if writer.finished_rows else 0
    advance(kept)
    for source, first, vectors, ids in ahead(_blocks(files, kept)):
        check_block(vectors, dtype, source, first, normalize=normalize)
        count = len(vectors)
        writer.append(
            vectors, ids, source, np.arange(first, first + count), [_NO_HASH] * count, np.zeros(count, np.int32)
        )
        advance(count)
    return writer.finish()


def _blocks(files: Sequence[store.Given], first: int) -> Iterator[tuple[str, int, NDArray[np.floating], list[str]]]:
    """Yield (file, row within it, vectors, ids), from row ``first`` of all on."""
    start = 0
    for one in files:
        at = max(0, first - start)
        for block in one.blocks(at) if at < one.rows else ():
            numbers = range(start + at, start + at + len(block.vectors))
            yield one.source, at, block.vectors, list(map(str, numbers)) if block.ids is None else block.ids.to_pylist()
            at += len(block.vectors)
        if at < one.rows:
            msg = (
                f"{one.source}: ends after {at:,} of {counted(one.rows, 'row')}: the file is cut short, write it again"
            )
            raise DataError(msg)
        start += one.rows


def _shard_rows(d: int) -> int:
    """Return how many rows of float32 are a fitting part of the memory."""
    rows = memory.share(_PART, least=1) // (4 * d)
    return min(max(rows, _LEAST_ROWS), _MOST_ROWS)
