"""The k best of a stream on a GPU: the driver of cuda/topk.cu.

It names neither CuPy nor a device: ``xp`` is the array module and ``kernels`` the compiled source, so that the tests
can run the same lines on NumPy and a CPU.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import numpy as np

from gapsel.errors import DataError

# As topk.cu has them.
THREADS, ALONE, TILE, DIGITS = 256, 1024, 4096, 2048
BAR, TIES, KEPT, BAD = 0, 1, 2, 4
ROUNDS = ((21, 11), (10, 11), (0, 10))  # shift and width of a key's digits

# Threads that count digits; each block of them adds its own counts to all, so more would not be faster.
MOST_SPREAD = 1 << 18
# Rows that are looked at in one piece, where k is not larger.
PIECE = 1 << 22
NONE = np.iinfo(np.int64).max

# An array of CuPy, or of NumPy in the tests; CuPy brings no types.
Array = Any


class Kernels(Protocol):
    """A compiled source, as cupy.RawModule is."""

    def get_function(self, name: str) -> Any:  # noqa: ANN401 (CuPy brings no types)
        """Return a kernel to call with grid, block and arguments."""


class TopK:
    """The k best entries of a stream: lowest value first, ties to the lower row.

    Rows come in ascending order; pieces may be of any size and change nothing. It holds 2 k entries, or k and PIECE,
    of 12 bytes each; work is put on the current stream, and few calls wait for it.
    """

    def __init__(self, kernels: Kernels, xp: Any, k: int, piece: int = PIECE) -> None:  # noqa: ANN401 (a module)
        self.k, self._xp, self._kernel = k, xp, cache(kernels.get_function)
        self._room = max(k, piece)
        # All pass the bar at first; if none is wanted, none does, but values are still checked.
        bar, ties = (0xFFFFFFFF, NONE) if k else (0, 0)
        self._state = xp.asarray(np.array([bar, ties, 0, 0, NONE], np.int64))
        self._digits = xp.zeros(DIGITS, np.uint32)
        self._tiles = xp.empty(-(-(k + self._room) // TILE) + 1, np.uint64)
        self._values, self._rows = self._entries(k + self._room)
        self._most = 0  # entries there may be; how many there are, only the device knows

    def push(self, values: Array, first_row: int) -> None:
        """Offer values (n,) float32, the rows of which count from ``first_row``."""
        values = self._xp.ascontiguousarray(values, np.float32)
        for first in range(0, len(values), self._room):
            piece = values[first : first + self._room]
            if self._most + len(piece) > len(self._values):
                self._make_room(len(piece))
            self._keep(piece, None, len(piece), first_row + first, (self._values, self._rows), append=True)
            self._most += len(piece)

    def finish(self) -> tuple[Array, Array]:
        """Return the best rows (k,) int64 in order of (value, row), and their values (k,) float32, on the device.

        They are fewer if the stream was shorter. Raises DataError if a value was not a number.
        """
        self._refuse_nan()
        if self._count() > self.k:
            self._shrink()
        n = self._count()
        keys = self._xp.empty(n, np.uint64)
        values, rows = self._entries(n)
        if n:
            self._run("keys", n, THREADS, self._values, n, keys)
            keys.sort()
            self._run("fetch", n, THREADS, keys, self._values, self._rows, n, values, rows)
        return rows, values

    def _make_room(self, wanted: int) -> None:
        self._most = self._count()
        if self._most + wanted > len(self._values):
            self._shrink()

    def _shrink(self) -> None:
        """Keep the k best of more than k entries; the worst of them becomes the bar."""
        n = self._count()
        self._state[BAR], self._state[TIES] = 0, self.k
        for shift, bits in ROUNDS:
            self._run(
                "histogram", min(n, MOST_SPREAD), THREADS, self._values, n, shift, bits, self._state, self._digits
            )
            self._run_alone("choose", self._digits, bits, self._state)
        kept = self._entries(self.k)
        self._keep(self._values, self._rows, n, -1, kept, append=False)
        self._values[: self.k], self._rows[: self.k] = kept
        self._state[TIES] = 0  # later rows lose to all that equal the bar
        self._most = self.k

    def _keep(
        self, values: Array, rows: Array | None, n: int, first_row: int, to: tuple[Array, Array], *, append: bool
    ) -> None:
        self._run("count", n, TILE, values, n, first_row, self._state, self._tiles)
        self._run_alone("scan", self._tiles, -(-n // TILE), int(append), self._state)
        self._run("scatter", n, TILE, values, rows, n, first_row, self._state, self._tiles, *to)

    def _run(self, name: str, work: int, share: int, *args: object) -> None:
        """Launch as many blocks as ``work`` takes at ``share`` a block."""
        self._kernel(name)((-(-work // share),), (THREADS,), args)

    def _run_alone(self, name: str, *args: object) -> None:
        """Launch one block."""
        self._kernel(name)((1,), (ALONE,), args)

    def _entries(self, n: int) -> tuple[Array, Array]:
        return self._xp.empty(n, np.float32), self._xp.empty(n, np.int64)

    def _count(self) -> int:
        return int(self._state[KEPT])

    def _refuse_nan(self) -> None:
        row = int(self._state[BAD])
        if row != NONE:
            msg = f"values[{row}] is NaN: it must be a number"
            raise DataError(msg)
