"""The portable product stage: a library product fills a strip of dot products, our kernels reduce it.

A strip of about `STRIP_BYTES` is written and read once. It does not fit into the second cache where m is large; smaller
strips that would, make products so short that the library loses more than the memory costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gapsel.backends.gpu.device import Array, Device
    from gapsel.backends.gpu.operands import Piece, Preparation
    from gapsel.backends.gpu.target import Columns

    Bounds = tuple[Array | None, Array | None, Array | None]

STRIP_BYTES = 384 << 20
# What sums over columns are cut by: chunks are whole numbers of these rows, so that they change no sum.
SEGMENT_ROWS = 512
MOST_ROWS = 1 << 16
_GROUP_ROWS = 32
# Threads of a team and how many times four columns each of them takes: rows up to 4 x team x quads columns wide.
STRIPS = ((32, 1), (32, 4), (128, 4), (256, 5), (512, 5))
_WARP, _LEAST_BLOCK = 32, 128


def chunk_bytes(rows: int, ld: int, row_bytes: int) -> int:
    """Return the bytes that so many rows at a time take: strip, sums, statistics, and ``row_bytes`` of each."""
    return rows * (5 * ld + row_bytes + 64)


def chunk_rows(n: int, ld: int, row_bytes: int, budget: int) -> int:
    """Return how many rows to multiply at a time: even chunks of whole segments, as large as the strip may be.

    ``budget`` is for the chunk_bytes.
    """
    most = min(MOST_ROWS, STRIP_BYTES // (4 * ld), budget // chunk_bytes(1, ld, row_bytes))
    most = max(SEGMENT_ROWS, most // SEGMENT_ROWS * SEGMENT_ROWS)
    even = -(-n // -(-n // most))
    return -(-even // SEGMENT_ROWS) * SEGMENT_ROWS


@dataclass(frozen=True, slots=True)
class Stats:
    """What the product stage says of rows, each (rows,); ``column`` None unless the nearest are asked for."""

    top: Array
    total: Array
    moment: Array
    peak: Array
    column: Array | None

    @classmethod
    def room(cls, device: Device, rows: int, *, nearest: bool) -> Stats:
        """Return room for that many rows."""
        floats = (device.empty(rows, np.float32) for _ in range(4))
        top, total, moment, peak = floats
        return cls(top, total, moment, peak, device.empty(rows, np.int32) if nearest else None)


class Strip:
    """The dot products of ``rows`` pool rows with all columns, and what comes of them."""

    def __init__(self, preparation: Preparation, columns: Columns, settings: Array, rows: int, *, rough: bool) -> None:
        self._device, self._form, self._y = device, _, y = preparation.device, preparation.form, preparation.y
        self._columns, self._settings, self._rough = columns, settings, rough
        self.dots = device.empty((rows, y.ld), np.float32)
        self._part = device.empty((-(-rows // _GROUP_ROWS), y.ld), np.float32)

    def multiply(self, piece: Piece) -> None:
        """Fill the strip: hi alone where rough, else the three products that matter, the small ones first."""
        depth, alpha, y = self._form.depth, 1.0 / self._y.fixed, self._y.y
        x_hi, y_hi = piece.x[:, :depth], y[:, :depth]
        if self._rough:
            self._device.multiply(x_hi, y_hi, self.dots, alpha=alpha)
            return
        self._device.multiply(x_hi, y[:, 2 * depth :], self.dots, alpha=alpha)
        self._device.multiply(piece.x, y[:, : self._form.width], self.dots, alpha=alpha, beta=1.0)

    def reduce(self, piece: Piece, rows: int, bounds: Bounds, stats: Stats, q: Array) -> bool:
        """Write rows' statistics and add to q (ld,) float64, n times their column sums; False if q is still to do."""
        shape = next((shape for shape in STRIPS if 4 * shape[0] * shape[1] >= self._y.ld), None)
        columns, statistics = self._columns, (stats.top, stats.total, stats.moment, stats.peak, stats.column)
        if shape is None:
            self._device.launch(
                "stats", rows, 256,
                self.dots, self._y.ld, columns.bias, columns.hard, columns.squared, piece.factor, piece.squared,
                self._settings, *statistics,
            )  # fmt: skip
            return False
        team, quads = shape
        block = max(team, _LEAST_BLOCK)
        groups = -(-rows // _GROUP_ROWS)
        self._device.launch(
            f"strip_{team}_{quads}", -(-groups * team // block), block,
            self.dots, self._y.ld, rows, columns.bias, columns.hard, columns.squared, piece.factor, piece.squared,
            self._settings, *bounds, *statistics, self._part,
        )  # fmt: skip
        self._accumulate(groups, q)
        return True

    def add_columns(self, piece: Piece, rows: int, top: Array, weight: Array, q: Array) -> None:
        """Add sum_i weight_i e_ij to q (ld,) float64; weight (rows,)."""
        groups = -(-rows // _GROUP_ROWS)
        self._device.launch(
            "columns", (-(-self._y.ld // 1024), groups), 256,
            self.dots, self._y.ld, rows, self._columns.bias, self._columns.squared, piece.factor, piece.squared,
            self._settings, top, weight, self._part,
        )  # fmt: skip
        self._accumulate(groups, q)

    def plan(self, piece: Piece, top: Array, root: Array, kept: Array, out: tuple[Array, Array]) -> None:
        """Write root_i p_i of the rows that ``kept`` (count,) names, for the Gram; see the kernel."""
        self._device.launch(
            "plan", int(kept.shape[0]), 256,
            self.dots, self._y.ld, self._columns.bias, self._columns.squared, piece.factor, piece.squared,
            self._settings, top, root, kept, *out,
        )  # fmt: skip

    def _accumulate(self, groups: int, q: Array) -> None:
        self._device.launch("accumulate", -(-self._y.ld // _WARP), 1024, self._part, groups, self._y.ld, q)
