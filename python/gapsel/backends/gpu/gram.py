"""The Gram matrix G = sum_i v_i w_i p_i p_i' on one device, as a product in float16, for it only bends steps.

Rows that stay are gathered, chunk by chunk, into two matrices of `ROWS` rows: v = root p in float16, and u = sgn(w) v.
Full matrices are multiplied, z += u' v with sums in float64; z + z' is 2 root^2 n G, symmetric to the bit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gapsel.backends.reference import EXPONENTIALS, GRAM_COST, GRAM_MASS, GRAM_ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends.gpu.device import Device
    from gapsel.backends.gpu.operands import Piece
    from gapsel.backends.gpu.strip import Stats, Strip
    from gapsel.records import Box

# Rows of a product: more would save additions in float64, but let errors of float32 sums grow.
ROWS = 4096
_LARGEST_HALF = 2.0**15
_TILE = 32


def thinning(n: int, m: int, d: int, box: Box, eps: float) -> dict[str, float]:
    """Return the settings by which rows are thinned: see `reference.share_kept`, and the kernel `rows` for ``root``."""
    least = max(min(n / (GRAM_ROWS * m), GRAM_COST * m / (d + EXPONENTIALS)), GRAM_MASS)
    heaviest = max(n * float(np.max(box.hi)), least) * max(1.0, eps / box.eta)
    return {"least": least, "root": 2.0 ** math.floor(math.log2(_LARGEST_HALF / math.sqrt(heaviest)))}


def matrix_bytes(ld: int) -> int:
    """Return the bytes that a Gram of so many columns takes on a device."""
    return ld * (2 * 2 * ROWS + 12 * ld)


class Gram:
    """G so far, (ld, ld) float64 before it is mirrored, and what its column sums lack of its rows' marginal (ld,)."""

    def __init__(self, device: Device, ld: int, rows: int) -> None:
        self.lacking = device.zeros(ld, np.float64)
        self.surplus, self.root = device.empty(rows, np.float32), device.empty(rows, np.float32)
        self._device, self._ld, self._filled = device, ld, 0
        self._kept, self._count = device.empty(rows, np.int32), device.empty(1, np.int32)
        self._plan = tuple(device.zeros((ROWS, ld), np.float16) for _ in range(2))
        self._part, self._total = device.empty((ld, ld), np.float32), device.zeros((ld, ld), np.float64)

    def add(self, strip: Strip, piece: Piece, rows: int, stats: Stats) -> None:
        """Add the rows of a chunk whose surplus and roots are known."""
        self._device.launch("compact", 1, 1024, self.root, rows, self._kept, self._count)
        strip.add_columns(piece, rows, stats.top, self.surplus, self.lacking)
        count, done = int(self._device.download(self._count)[0]), 0
        while done < count:
            take = min(count - done, ROWS - self._filled)
            slots = slice(self._filled, self._filled + take)
            u, v = (matrix[slots] for matrix in self._plan)
            strip.plan(piece, stats.top, self.root, self._kept[done : done + take], (u, v))
            done, self._filled = done + take, self._filled + take
            if self._filled == ROWS:
                self._multiply()

    def finish(self, root: float, n: int, columns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return G (columns, columns) and what it lacks of its rows' marginal (columns,), on the host."""
        if self._filled:
            for matrix in self._plan:
                self._device.zero(matrix[self._filled :])
            self._multiply()
        tiles = -(-self._ld // _TILE)
        self._device.launch("mirror", (tiles, tiles), 1024, self._total, self._ld, 0.5 / (root**2 * n))
        gram = self._device.download(self._total)[:columns, :columns]
        return gram, self._device.download(self.lacking)[:columns] / n

    def _multiply(self) -> None:
        u, v = self._plan
        self._device.inner(u, v, self._part)
        size = self._ld * self._ld
        self._device.launch("add", min(-(-size // 256), 1 << 16), 256, self._part, self._total, size)
        self._filled = 0
