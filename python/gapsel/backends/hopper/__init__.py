"""What cuda/sweep_sm90.cu is compiled for and launched with. Arrays are addresses here, and nothing touches a GPU."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

ROWS_OF_BLOCK, DEPTH_OF_STEP, THREADS, BLOCKS_OF_CLUSTER = 128, 64, 384, 2
# What the copy engine asks of addresses and strides.
ALIGNMENT = 16
# The registers of a thread when the kernel starts: what some then give is what others take, so fewer would hang.
REGISTERS = 168
_STRIPS_OF_BLOCK = 2
# A column narrower tile is slower for the numbers that it multiplies, and multiplies fewer where m is small.
_WIDE, _NARROW, _NARROW_COST = 256, 128, 1.2
_LARGEST_SUM = 2.0**61


class TensorMap(ctypes.Structure):
    """CUtensorMap: 128 bytes, which only the driver reads and writes."""

    _fields_: ClassVar = [("opaque", ctypes.c_uint64 * 16)]


class Arguments(ctypes.Structure):
    """The struct Sweep of the kernel, padded to its alignment of 64."""

    _fields_: ClassVar = [
        ("x", TensorMap),
        ("y", TensorMap),
        *((name, ctypes.c_void_p) for name in ("factor", "square_of_row", "bias", "hard", "lo", "hi", "price")),
        *((name, ctypes.c_void_p) for name in ("top", "total", "moment", "peak", "nearest", "q", "strips")),
        *((name, ctypes.c_double) for name in ("scale", "constant", "of_square", "shift", "unit")),
        *((name, ctypes.c_double) for name in ("lo_of_all", "hi_of_all", "price_of_all", "eta", "mass_unit", "q_unit")),
        *((name, ctypes.c_int) for name in ("n", "m", "steps", "products")),
        ("plane_of_x", ctypes.c_int * 3),
        ("plane_of_y", ctypes.c_int * 3),
        ("padding", ctypes.c_char * 16),
    ]


@dataclass(frozen=True, slots=True)
class Planes:
    """float16 matrices (rows, planes, depth) at an address.

    Strides are in bytes: a plane's is a multiple of 16, a row's one of the plane's.
    """

    address: int
    planes: int
    rows: int
    depth: int
    row_stride: int
    plane_stride: int


@dataclass(frozen=True, slots=True)
class Shape:
    """What the kernel is compiled for, and the blocks of its grid."""

    columns: int
    exact: bool
    nearest: bool
    blocks: int

    @classmethod
    def of(cls, n: int, m: int, multiprocessors: int, *, exact: bool, nearest: bool) -> Shape:
        """Choose the tile and the grid for n rows and m columns."""
        narrow = _padded(m, _NARROW) * _NARROW_COST < _padded(m, _WIDE)
        clusters = min(-(-n // (ROWS_OF_BLOCK * BLOCKS_OF_CLUSTER)), multiprocessors // BLOCKS_OF_CLUSTER)
        return cls(_NARROW if narrow else _WIDE, exact, nearest, clusters * BLOCKS_OF_CLUSTER)

    @property
    def defines(self) -> tuple[str, ...]:
        """The settings of the source."""
        return (
            f"-DGAPSEL_COLUMNS={self.columns}",
            f"-DGAPSEL_EXACT={int(self.exact)}",
            f"-DGAPSEL_NEAREST={int(self.nearest)}",
        )

    @property
    def columns_of_box(self) -> int:
        """Rows of y in a box: each block of a cluster brings its part of a tile."""
        return self.columns // BLOCKS_OF_CLUSTER

    def width(self, m: int) -> int:
        """Return m in whole tiles: the length of bias and hard."""
        return _padded(m, self.columns)

    def strip_bytes(self, m: int) -> int:
        """Return the bytes of all strips: exponentials, and for each tile a float32 a row."""
        tile = ROWS_OF_BLOCK * (self.columns * (4 if self.exact else 2) + 4)
        return self.blocks * _STRIPS_OF_BLOCK * tile * (self.width(m) // self.columns)


class Kernels(Protocol):
    """The kernels of one device: see `driver.DriverKernels`."""

    multiprocessors: int

    def tensor_map(self, planes: Planes, box_rows: int) -> TensorMap:
        """Return the map by which boxes (box_rows, 1, 64) of the planes are copied, swizzled by 128 bytes."""
        ...

    def launch(self, shape: Shape, arguments: Arguments, stream: int) -> None:
        """Launch the kernel of that shape; the arguments are copied."""
        ...


def _padded(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def q_unit(mass: float) -> float:
    """Return the power of two by which column sums become whole numbers, if all masses together are at most this."""
    return 2.0 ** math.floor(math.log2(_LARGEST_SUM / max(mass, 1e-30)))


def steps(depth: int) -> int:
    """Return how many steps the depth takes."""
    return -(-depth // DEPTH_OF_STEP)


def multiply(arguments: Arguments, depth: int, pairs: Sequence[tuple[int, int]]) -> None:
    """Enter which plane of x is multiplied with which of y, the smallest products first."""
    arguments.steps, arguments.products = steps(depth), len(pairs)
    for i, (of_x, of_y) in enumerate(pairs):
        arguments.plane_of_x[i], arguments.plane_of_y[i] = of_x, of_y
