"""The k lowest of any number of values that come in batches, ties to the earlier row; never all of them in memory.

A first pass counts the values by the upper half of an integer key that has their order: after it, the bin with the k-th
lowest is known. A second pass keeps what lies below it or in it, and cuts that back to the k best whenever it has grown
by as much as is sorted in no time. Memory is that of 2 k rows or so and two batches, whatever n is. Counts add up and
the kept can be joined, so that parts may be read anywhere, in any order of the parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapsel.errors import DataError, UsageError
from gapsel.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

_BINS = 1 << 16
_HALF = np.uint32(16)
_SIGN = np.uint32(1 << 31)
# The kept may grow by as many rows, or by k, before they are cut back to k.
_GROWTH = 1 << 20


def lowest(read: Callable[[], Iterable[NDArray[np.float32]]], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the rows (k,) of the k lowest values, in order of (value, row), and these values (k,).

    ``read`` is called twice, and yields the values of all rows, in their order, in batches (r,) of any length. Raises
    UsageError for a k that is not from 1 to n, DataError, with the row, for a NaN.
    """
    counts = np.zeros(_BINS, np.int64)
    for keys in _keys(read()):
        counts += np.bincount(keys >> _HALF, minlength=_BINS)
    n = int(counts.sum())
    if not 1 <= k <= n:
        msg = f"k is {k}, and the pool has {counted(n, 'document')}: choose from 1 to {n:,}"
        raise UsageError(msg)
    last_bin = int(np.searchsorted(np.cumsum(counts), k))
    kept, start = _Kept(k), 0
    for keys in _keys(read()):
        low = np.flatnonzero(keys >> _HALF <= last_bin)
        kept.add(low + start, keys[low])
        start += len(keys)
    return kept.finish()


class _Kept:
    """The k lowest keys so far, and what came since they were last cut back."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._rows: list[NDArray[np.int64]] = []
        self._keys: list[NDArray[np.uint32]] = []
        self._size = 0

    def add(self, rows: NDArray[np.int64], keys: NDArray[np.uint32]) -> None:
        """Take rows that come after all before."""
        self._rows.append(rows)
        self._keys.append(keys)
        self._size += len(rows)
        if self._size > self._k + max(self._k, _GROWTH):
            self._cut()

    def finish(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the rows and values in order."""
        self._cut()
        rows, keys = self._rows[0], self._keys[0]
        order = np.argsort(keys, kind="stable")
        return rows[order], _values(keys[order])

    def _cut(self) -> None:
        """Keep the k lowest; of those that are equal to the last of them, the earliest."""
        rows, keys = np.concatenate(self._rows), np.concatenate(self._keys)
        if len(keys) > self._k:
            last = np.partition(keys, self._k - 1)[self._k - 1]
            stays = keys < last
            ties = np.flatnonzero(keys == last)
            stays[ties[: self._k - np.count_nonzero(stays)]] = True
            rows, keys = rows[stays], keys[stays]
        self._rows, self._keys, self._size = [rows], [keys], len(rows)


def _keys(batches: Iterable[NDArray[np.float32]]) -> Iterable[NDArray[np.uint32]]:
    """Yield integers in the order of the values: negative ones with all bits turned, others with the sign's alone."""
    start = 0
    for values in batches:
        bad = np.flatnonzero(np.isnan(values))
        if len(bad):
            msg = f"row {start + bad[0]}: its value is not a number: make the scores again"
            raise DataError(msg)
        # -0.0 and 0.0 are equal, and so must their bits be.
        bits = (np.asarray(values, np.float32) + np.float32(0)).view(np.uint32)
        yield np.where(bits & _SIGN, ~bits, bits | _SIGN)
        start += len(values)


def _values(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    return np.where(keys & _SIGN, keys ^ _SIGN, ~keys).view(np.float32)
