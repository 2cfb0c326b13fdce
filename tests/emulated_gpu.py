"""A GPU for tests: NumPy for memory and products, the emulator for the kernels.

New memory is poisoned, memory can be made to run out, and what is streamed to the device is overwritten as soon as the
device would be free to.
"""

from __future__ import annotations

import contextlib
import weakref
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cuda_emulator import Module
from gapsel.backends.gpu import GpuBackend
from gapsel.backends.gpu.device import Facts
from gapsel.backends.gpu_topk import TopK
from gapsel.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import DTypeLike, NDArray

    from gapsel.backends.hopper import Kernels

    Shape = int | tuple[int, ...]

CUDA = Path(__file__).resolve().parent.parent / "cuda"


@cache
def module(name: str) -> Module:
    return Module(CUDA / name)


@dataclass(frozen=True)
class DeviceArray:
    """What another library's array on the device would be."""

    values: NDArray[Any]


class EmulatedGpu:
    """A device of ``memory`` bytes; every call that could fail is counted in ``launches`` by its kernel's name.

    What ``faults`` says ends the trial of its fused kernels.
    """

    def __init__(self, memory: int = 1 << 30) -> None:
        self.facts = Facts("emulated", (7, 5), memory, "none")
        self.used = 0
        self.launches: dict[str, int] = {}
        self.streamed = 0
        self.fused: Kernels | None = None
        self.faults = ""

    def try_fused(self) -> None:
        if self.faults:
            raise DeviceError(self.faults)

    def refuse_fused(self) -> None:
        self.fused = None

    def address(self, array: NDArray[Any]) -> int:
        return int(array.ctypes.data)

    def stream_address(self) -> int:
        return 0

    def current(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def free_memory(self) -> int:
        return self.facts.memory - self.used

    def release(self) -> None:
        pass

    def empty(self, shape: Shape, dtype: DTypeLike) -> NDArray[Any]:
        out = np.empty(shape, dtype)
        if out.nbytes > self.free_memory():
            msg = f"{out.nbytes} bytes are wanted, {self.free_memory()} are free"
            raise MemoryError(msg)
        self.used += out.nbytes
        weakref.finalize(out, self._freed, out.nbytes)
        out.view(np.uint8).reshape(-1)[:] = 0xFF  # NaN, or -1
        return out

    def _freed(self, size: int) -> None:
        self.used -= size

    def zeros(self, shape: Shape, dtype: DTypeLike) -> NDArray[Any]:
        out = self.empty(shape, dtype)
        out[...] = 0
        return out

    def upload(self, values: NDArray[Any]) -> NDArray[Any]:
        out = self.empty(values.shape, values.dtype)
        out[...] = values
        return out

    def download(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.array(array)

    def copy(self, source: NDArray[Any], target: NDArray[Any]) -> None:
        assert source.shape == target.shape
        assert source.dtype == target.dtype
        target[...] = source

    def zero(self, array: NDArray[Any]) -> None:
        array[...] = 0

    def adopt(self, shard: object) -> NDArray[Any] | None:
        return shard.values if isinstance(shard, DeviceArray) else None

    def multiply(
        self, x: NDArray[Any], y: NDArray[Any], out: NDArray[Any], *, alpha: float = 1.0, beta: float = 0.0
    ) -> None:
        assert x.dtype == y.dtype == np.float16
        assert out.shape == (len(x), len(y))
        product = alpha * (x.astype(np.float64) @ y.astype(np.float64).T)
        out[...] = product if beta == 0 else product + beta * out

    def inner(
        self, u: NDArray[Any], v: NDArray[Any], out: NDArray[Any], *, alpha: float = 1.0, beta: float = 0.0
    ) -> None:
        self.multiply(np.ascontiguousarray(u.T), np.ascontiguousarray(v.T), out, alpha=alpha, beta=beta)

    def launch(self, kernel: str, grid: int | tuple[int, int], block: int, *args: object) -> None:
        self.launches[kernel] = self.launches.get(kernel, 0) + 1
        module("sweep.cu").get_function(kernel)(grid if isinstance(grid, tuple) else (grid,), (block,), args)

    def top(self, k: int) -> TopK:
        return TopK(module("topk.cu"), np, k)

    def stream(self, blocks: Iterable[Sequence[NDArray[Any]]], size: int) -> Iterator[NDArray[Any]]:
        buffer = self.empty(size, np.uint8)
        for parts in blocks:
            count = 0
            for part in parts:
                data = np.ascontiguousarray(part).view(np.uint8).reshape(-1)
                buffer[count : count + len(data)] = data
                count += len(data)
            self.streamed += count
            yield buffer[:count]
            buffer[:] = 0xFF


def emulated_backend(count: int = 1, memory: int = 1 << 30) -> GpuBackend:
    """The GPU backend on devices that are not there."""
    return GpuBackend([EmulatedGpu(memory) for _ in range(count)], trusted=True)


def emulated(backend: GpuBackend) -> EmulatedGpu:
    """The first device of such a backend."""
    device = backend.devices[0]
    assert isinstance(device, EmulatedGpu)
    return device
