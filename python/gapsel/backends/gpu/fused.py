"""The product stage on Hopper: cuda/sweep_sm90.cu, which multiplies and sums in one launch and leaves no dot products.

It serves sweeps without a Gram, which needs the products once more, and costs that are linear in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.backends import hopper
from gapsel.backends.gpu.strip import SEGMENT_ROWS
from gapsel.backends.gpu.target import ABSENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.backends.gpu.device import Array
    from gapsel.backends.gpu.job import Job
    from gapsel.backends.gpu.operands import Piece, Preparation
    from gapsel.backends.gpu.strip import Bounds, Stats
    from gapsel.backends.gpu.target import Columns
    from gapsel.records import Box

# Rounds of a launch, in each of which every multiprocessor takes a block of rows: many, for the last may be half empty.
_ROUNDS = 16
# The share of free memory that strips may take, and that the rows of a launch may.
_STRIPS, _ROWS = 4, 8


@dataclass(frozen=True, slots=True)
class Launch:
    """The kernels of a device, and the shape in which they serve a sweep."""

    kernels: hopper.Kernels
    shape: hopper.Shape

    @classmethod
    def of(cls, job: Job, preparation: Preparation) -> Launch | None:
        """Return what serves this sweep, or None where the portable stage has to."""
        device, m = preparation.device, len(job.keep)
        kernels = device.fused
        if kernels is None or not job.fused or job.query.gram or job.query.cost.kind == "euclidean":
            return None
        if preparation.form.depth % (hopper.ALIGNMENT // 2):
            return None
        shape = hopper.Shape.of(
            job.span, m, kernels.multiprocessors, exact=not job.query.rough, nearest=job.wants("nearest")
        )
        return cls(kernels, shape) if _STRIPS * shape.strip_bytes(m) <= device.free_memory() else None

    def chunk_rows(self, n: int, row_bytes: int, free: int) -> int:
        """Return how many rows to launch at a time: whole rounds and whole segments."""
        most = min(_ROUNDS * self.shape.blocks * hopper.ROWS_OF_BLOCK, free // (_ROWS * row_bytes))
        return max(1, min(most, n + SEGMENT_ROWS - 1) // SEGMENT_ROWS) * SEGMENT_ROWS


class Fused:
    """Rows and columns in one launch; all that `strip.Strip` does but for the Gram."""

    def __init__(self, job: Job, box: Box, preparation: Preparation, columns: Columns, launch: Launch) -> None:
        self._device, self._form, self._y = preparation.device, preparation.form, preparation.y
        self._kernels, self._shape = launch.kernels, launch.shape
        m = len(job.keep)
        self._bias = self._padded(columns.bias, m)
        self._hard = self._bias if columns.hard is None else self._padded(columns.hard, m)
        self._strips = self._device.empty(self._shape.strip_bytes(m), np.uint8)
        self._q = self._device.zeros(m, np.uint64)
        self._aligned: Array | None = None
        self._arguments = self._arguments_of(job, box, columns)

    def reduce(self, piece: Piece, rows: int, bounds: Bounds, stats: Stats) -> None:
        """Multiply, and write rows' statistics; their column sums stay here, in whole numbers, until `sums`."""
        arguments, address = self._arguments, self._device.address
        x = self._where_the_engine_reads(piece.x)
        planes = self._form.width // self._form.depth
        arguments.x = self._map(x, planes, rows, hopper.ROWS_OF_BLOCK)
        arguments.n, arguments.factor = rows, address(piece.factor)
        arguments.square_of_row = None if piece.squared is None else address(piece.squared)
        for name, bound in zip(("lo", "hi", "price"), bounds, strict=True):
            setattr(arguments, name, None if bound is None else address(bound))
        for name in ("top", "total", "moment", "peak"):
            setattr(arguments, name, address(getattr(stats, name)))
        arguments.nearest = None if stats.column is None else address(stats.column)
        self._kernels.launch(self._shape, arguments, self._device.stream_address())

    def sums(self) -> NDArray[np.float64]:
        """Return n times the column sums (columns,)."""
        return np.asarray(self._device.download(self._q) / self._arguments.q_unit)

    def _arguments_of(self, job: Job, box: Box, columns: Columns) -> hopper.Arguments:
        """Return what is the same for all rows."""
        n, address, settings = job.n, self._device.address, columns.settings
        mass = float(np.sum(box.hi)) * (n if np.ndim(box.hi) == 0 else 1)
        arguments = hopper.Arguments(
            y=self._map(self._y.y, 3, len(job.keep), self._shape.columns_of_box),
            bias=address(self._bias), hard=address(self._hard), q=address(self._q), strips=address(self._strips),
            scale=settings["scale"] / self._y.fixed, constant=settings["constant"], of_square=settings["of_square"],
            shift=settings["shift"], unit=settings["unit"], eta=box.eta, mass_unit=float(n),
            q_unit=hopper.q_unit(n * mass), m=len(job.keep),
            **{f"{name}_of_all": number for name, number in box.of_all.items()},
        )  # fmt: skip
        hopper.multiply(arguments, self._form.depth, self._pairs(rough=job.query.rough))
        return arguments

    def _pairs(self, *, rough: bool) -> Sequence[tuple[int, int]]:
        """Return planes of x = [hi, lo] and y = [hi, hi, lo] to be multiplied, the small products first."""
        if rough:
            return ((0, 0),)
        return ((0, 2), (1, 0), (0, 0)) if self._form.split else ((0, 2), (0, 0))

    def _map(self, matrix: Array, planes: int, rows: int, box_rows: int) -> hopper.TensorMap:
        where = hopper.Planes(
            self._device.address(matrix), planes, rows, self._form.depth, 2 * int(matrix.shape[1]), 2 * self._form.depth
        )
        return self._kernels.tensor_map(where, box_rows)

    def _padded(self, bias: Array, m: int) -> Array:
        out = self._device.upload(np.full(self._shape.width(m), ABSENT, np.float32))
        self._device.copy(bias[:m], out[:m])
        return out

    def _where_the_engine_reads(self, x: Array) -> Array:
        """Return x, or a copy of it where another library has put it at an odd address."""
        if self._device.address(x) % hopper.ALIGNMENT == 0:
            return x
        if self._aligned is None:
            self._aligned = self._device.empty(x.shape, np.float16)
        self._device.copy(x, self._aligned[: x.shape[0]])
        return self._aligned
