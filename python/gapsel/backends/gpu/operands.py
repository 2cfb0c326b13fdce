"""Rows made ready for the product: float16, scaled by powers of two, and what undoes the scaling.

float16 rows whose cost is taken between unit vectors are multiplied as they lie; their norms are divided out of the dot
products afterwards. Everything else is packed: hi alone where 16-bit rows are only rescaled, hi and lo where more than
eleven digits are to survive (float32, or a centre taken off first).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.backends.gpu.rows import TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gapsel.backends.gpu.device import Array, Device
    from gapsel.backends.gpu.rows import Block, PoolRows
    from gapsel.backends.gpu.target import TargetOperand
    from gapsel.records import Cost

# Bytes that go to the device at a time: large enough for the bus, small enough that three of them do not matter.
TRANSFER = 64 << 20
_WARPS = 8
_NO_BAD_ROW = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Form:
    """How operands lie: ``depth`` columns of hi, and as many of lo if ``split``; ``direct`` rows are not packed."""

    d: int
    depth: int
    unit: bool
    direct: bool
    split: bool

    @classmethod
    def of(cls, dtypes: frozenset[str], cost: Cost, d: int) -> Form:
        """Choose the form for rows of these types."""
        unit = cost.normalize or cost.kind == "cosine"
        direct = unit and dtypes == {"float16"}
        split = not unit or "float32" in dtypes
        return cls(d, d if direct else -(-d // 8) * 8, unit, direct, split)

    @property
    def width(self) -> int:
        """Columns of an operand."""
        return self.depth * (2 if self.split else 1)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row with its factor and its squared norm."""
        return 2 * self.width + 8

    @property
    def half(self) -> int:
        """The first column of lo, 0 where there is none."""
        return self.depth if self.split else 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows ready for the product: x (rows, width) float16, factor (rows,), and squared norms (rows,) or None for 1."""

    x: Array
    factor: Array
    squared: Array | None

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def __getitem__(self, rows: slice) -> Piece:
        return Piece(self.x[rows], self.factor[rows], None if self.squared is None else self.squared[rows])


def empty_piece(device: Device, form: Form, rows: int, *, direct: bool = False) -> Piece:
    """Return room for that many rows, without x if they are ``direct``; columns that only fill up are zero."""
    x = device.zeros((rows, 0 if direct else form.width), np.float16)
    return Piece(x, device.zeros(rows, np.float32), None if form.unit else device.zeros(rows, np.float32))


class BadRow:
    """The first row that the kernels found unusable, kept on the device until it is asked for."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.status = device.upload(np.array([_NO_BAD_ROW], np.int64))

    def found(self) -> int | None:
        """Wait, and return the row."""
        row = int(self._device.download(self.status)[0])
        return None if row == _NO_BAD_ROW else row


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is done to pool rows on one device, to face y: their form, and a centre that may be taken off."""

    device: Device
    form: Form
    y: TargetOperand
    bad: BadRow

    def pieces(self, pool: PoolRows, wanted: range, most: int) -> Iterator[Piece]:
        """Bring the rows and make them ready, at most ``most`` at a time.

        A piece is valid for what is asked of the device before the next one is taken.
        """
        rows = min(self.block_rows(pool, most), len(wanted))
        room = empty_piece(self.device, self.form, rows, direct=self.form.direct)
        for block, raw in self._raw(pool, wanted, rows):
            piece = room[: block.rows]
            if self.form.direct:
                piece = Piece(raw, piece.factor, None)
                self._measure(piece, block)
            else:
                self._pack(raw, piece, block)
            yield piece

    def hold(self, pool: PoolRows, wanted: range) -> Piece:
        """Bring the rows and return them in memory of their own. Raises MemoryError."""
        held, at = empty_piece(self.device, self.form, len(wanted)), 0
        for block, raw in self._raw(pool, wanted, self.block_rows(pool, len(wanted))):
            piece = held[at : at + block.rows]
            if self.form.direct:
                self.device.copy(raw, piece.x)
                self._measure(piece, block)
            else:
                self._pack(raw, piece, block)
            at += block.rows
        return held

    def block_rows(self, pool: PoolRows, most: int) -> int:
        """Return how many rows are brought at a time, where ``most`` would be multiplied at a time."""
        widest = max(np.dtype(shard.dtype).itemsize for shard in pool.shards)
        fit = max(1, TRANSFER // (widest * self.form.d))
        return int(fit // most * most if fit >= most else fit)

    def _raw(self, pool: PoolRows, wanted: range, rows: int) -> Iterator[tuple[Block, Array]]:
        """Bring blocks as they are: (rows, d) arrays of the device."""
        if pool.device is not None:
            for block in pool.blocks(wanted, rows):
                yield from self._apart(block)
            return
        blocks = list(pool.blocks(wanted, rows))
        size = max(block.rows * self.form.d * block.parts[0].dtype.itemsize for block in blocks)
        arrived = self.device.stream((block.parts for block in blocks), size)
        for block, raw in zip(blocks, arrived, strict=True):
            yield block, raw.view(np.float16 if block.dtype == "float16" else np.uint8).reshape(block.rows, -1)

    @staticmethod
    def _apart(block: Block) -> Iterator[tuple[Block, Array]]:
        """Take the parts of a block one by one, where they lie on the device already."""
        first = block.first
        for part in block.parts:
            yield type(block)(first, len(part), block.dtype, (part,)), part
            first += len(part)

    def _measure(self, piece: Piece, block: Block) -> None:
        self.device.launch(
            "measure", -(-block.rows // _WARPS), 32 * _WARPS,
            piece.x, block.rows, self.form.d, piece.factor, self.bad.status, block.first,
        )  # fmt: skip

    def _pack(self, raw: Array, piece: Piece, block: Block) -> None:
        Packing(self.form.d, self.y.centre, self.form.unit, self.form.half, first=block.first)(
            self.device, (raw, block.dtype, block.rows), piece.x, piece.factor, piece.squared, bad=self.bad
        )


@dataclass(frozen=True, slots=True)
class Packing:
    """How rows are packed: the arguments of the kernel `pack`, which says what they mean."""

    d: int
    centre: Array | None
    unit: bool
    half: int
    fixed: float = 0.0
    first: int = 0

    def __call__(
        self,
        device: Device,
        raw: tuple[Array, str, int],
        out: Array,
        factor: Array | None,
        squared: Array | None,
        *,
        bad: BadRow,
    ) -> None:
        """Pack ``raw``: the rows, their type, how many they are."""
        rows, dtype, count = raw
        device.launch(
            "pack", -(-count // _WARPS), 32 * _WARPS,
            rows, TYPES[dtype], count, self.d, self.centre, int(self.unit), float(self.fixed), out,
            int(out.shape[1]), self.half, factor, squared, bad.status, self.first,
        )  # fmt: skip
