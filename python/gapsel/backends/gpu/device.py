"""What the sweep asks of a GPU. The package has one such device, over CuPy; the tests have another, over an emulator.

Arrays of a device are opaque here, but for ``shape``, ``dtype`` and slices of rows and columns, which are views.
All that is asked happens in the order of asking, on one stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gapsel.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import DTypeLike, NDArray

    from gapsel.backends.hopper import Kernels

    Array = Any
    Shape = int | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a device: its name, its compute capability (9, 0), its memory in bytes, the driver's CUDA."""

    name: str
    capability: tuple[int, int]
    memory: int
    driver: str


class TopK(Protocol):
    """The k lowest of a stream of values, ties to the lower row."""

    def push(self, values: Array, first_row: int) -> None:
        """Offer values (n,) float32, the rows of which count from ``first_row``."""
        ...

    def finish(self) -> tuple[Array, Array]:
        """Return the best rows (k,) int64 in order of (value, row), and their values (k,) float32."""
        ...


class Device(Protocol):
    """One GPU. Whatever fails on it raises DeviceError, but for memory, which raises MemoryError."""

    facts: Facts

    @property
    def fused(self) -> Kernels | None:
        """What runs the product stage in one kernel, None where there is no such thing."""
        ...

    def try_fused(self) -> None:
        """Run it once where a fault or a hang harms nobody. Raises DeviceError if it does not end well."""
        ...

    def refuse_fused(self) -> None:
        """Have no such thing from now on."""
        ...

    def address(self, array: Array) -> int:
        """Return where an array begins in the device's memory."""
        ...

    def stream_address(self) -> int:
        """Return the stream on which all is asked, as the driver names it."""
        ...

    def current(self) -> AbstractContextManager[object]:
        """Make it the thread's device; all else is asked within."""
        ...

    def free_memory(self) -> int:
        """Return the bytes that can still be had."""
        ...

    def release(self) -> None:
        """Give memory that no array uses back to the driver."""
        ...

    def empty(self, shape: Shape, dtype: DTypeLike) -> Array:
        """Return a new array of undefined contents. Raises MemoryError."""
        ...

    def zeros(self, shape: Shape, dtype: DTypeLike) -> Array:
        """Return a new array of zeros. Raises MemoryError."""
        ...

    def upload(self, values: NDArray[Any]) -> Array:
        """Return a copy of a host array, which may change afterwards."""
        ...

    def download(self, array: Array) -> NDArray[Any]:
        """Wait for all that was asked before and return a copy on the host."""
        ...

    def copy(self, source: Array, target: Array) -> None:
        """Copy between arrays of one shape and type; the columns of their rows lie together."""
        ...

    def zero(self, array: Array) -> None:
        """Set all elements of a contiguous array to 0."""
        ...

    def adopt(self, shard: object) -> Array | None:
        """Return an array of this device that another library made, without a copy; None if it lies elsewhere."""
        ...

    def multiply(self, x: Array, y: Array, out: Array, *, alpha: float = 1.0, beta: float = 0.0) -> None:
        """Compute out = alpha x y' + beta out: x (r, k), y (c, k) float16, out (r, c) float32; rows may be strided."""
        ...

    def inner(self, u: Array, v: Array, out: Array, *, alpha: float = 1.0, beta: float = 0.0) -> None:
        """Compute out = alpha u' v + beta out: u (k, r) and v (k, c) float16, out (r, c) float32."""
        ...

    def launch(self, kernel: str, grid: int | tuple[int, int], block: int, *args: object) -> None:
        """Run a kernel of cuda/sweep.cu; whole numbers go as long long, others as double, None as a null pointer."""
        ...

    def top(self, k: int) -> TopK:
        """Return what keeps the k lowest of a stream of values."""
        ...

    def stream(self, blocks: Iterable[Sequence[NDArray[Any]]], size: int) -> Iterator[Array]:
        """Bring blocks to the device, each the bytes of its arrays in a row, at most ``size``, one ahead of its use.

        Yields uint8 arrays of the device, valid for what is asked before the next one is taken.
        """
        ...


def lost(name: str, error: BaseException) -> DeviceError:
    """Return the error that says that a device failed, and what to do."""
    return DeviceError(
        f"the GPU ({name}) failed: {error}. What was finished is kept; the same command goes on from there, "
        "and with --backend cpu it does so without the GPU"
    )
