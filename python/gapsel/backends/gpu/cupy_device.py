"""A CUDA device through CuPy: memory, cuBLAS products, our kernels compiled at run time, copies beside the work.

Work goes to the stream that is CuPy's current one when a sweep begins, so that a caller's own stream orders it with the
caller's work. Only the copies of streamed pools have a stream of their own.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.backends.gpu.device import Facts, lost
from gapsel.backends.gpu.sources import folder, source
from gapsel.backends.gpu_topk import TopK
from gapsel.backends.hopper.driver import Driver, DriverKernels
from gapsel.errors import DeviceError, GapselError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import DTypeLike, NDArray

    from gapsel.backends.gpu.device import Array, Shape
    from gapsel.backends.hopper import Kernels

OPTIONS = ("-std=c++17",)
_LEAST_CAPABILITY = (7, 5)
_HOPPER = (9, 0)
# Set to 0, it leaves Hopper's own kernel out.
_NO_HOPPER = "GAPSEL_HOPPER"
# What DLPack calls a CUDA device's memory, plain and managed.
_DLPACK_CUDA = (2, 13)
_SLOTS = 3
# Threads that fill a block, and what each copies at a time: one thread fills at a quarter of what the bus takes.
_COPIERS, _COPY = 8, 4 << 20
# How CUDA's parts say that memory ran out.
_OUT_OF_MEMORY = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED")


def all_devices() -> list[CupyDevice]:
    """Return the devices that CUDA shows and the kernels run on.

    Raises MissingDependencyError without CuPy, DeviceError if there is no such device.
    """
    try:
        import cupy
    except ImportError as error:
        msg = f"the gpu backend needs CuPy ({error}): pip install 'gapsel[gpu]'"
        raise MissingDependencyError(msg) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
        devices = [CupyDevice(index) for index in range(count)]
    except RuntimeError as error:
        msg = f"CUDA shows no GPU ({error}): check the driver with nvidia-smi, or take --backend cpu"
        raise DeviceError(msg) from error
    able = [device for device in devices if device.facts.capability >= _LEAST_CAPABILITY]
    if not able:
        least = ".".join(map(str, _LEAST_CAPABILITY))
        msg = f"no GPU of compute capability {least} or more is visible, of {count} in all: take --backend cpu"
        raise DeviceError(msg)
    return able


@dataclass(frozen=True, slots=True)
class _Slot:
    """A block on its way: pinned host memory, its place on the device, and when each is free again."""

    pinned: NDArray[np.uint8]
    there: Array
    copied: Any
    used: Any


class CupyDevice:
    """One CUDA device; see `device.Device`."""

    def __init__(self, index: int) -> None:
        import cupy

        self._cupy, self.index = cupy, index
        properties = cupy.cuda.runtime.getDeviceProperties(index)
        driver = cupy.cuda.runtime.driverGetVersion()
        self.facts = Facts(
            properties["name"].decode(),
            (int(properties["major"]), int(properties["minor"])),
            int(properties["totalGlobalMem"]),
            f"{driver // 1000}.{driver % 1000 // 10}",
        )
        self._multiprocessors = int(properties["multiProcessorCount"])
        self._kernels: dict[str, Any] = {}
        self._fused_refused = os.environ.get(_NO_HOPPER) == "0"
        self._slots: list[_Slot] = []

    @property
    def fused(self) -> Kernels | None:
        """See Device: on Hopper alone."""
        return None if self._fused_refused else self._hopper

    def refuse_fused(self) -> None:
        """See Device."""
        self._fused_refused = True

    def address(self, array: Array) -> int:
        """See Device."""
        return int(array.data.ptr)

    def stream_address(self) -> int:
        """See Device."""
        return int(self._stream.ptr)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make it the thread's device, and turn CUDA's errors into ours."""
        try:
            with self._cupy.cuda.Device(self.index):
                yield
        except (GapselError, MemoryError):
            raise
        except (RuntimeError, self._cupy.cuda.compiler.CompileException) as error:
            if any(code in str(error) for code in _OUT_OF_MEMORY):
                raise MemoryError(str(error)) from error
            raise lost(self.facts.name, error) from error

    def free_memory(self) -> int:
        """See Device."""
        free, _ = self._cupy.cuda.runtime.memGetInfo()
        return int(free) + int(self._cupy.get_default_memory_pool().free_bytes())

    def release(self) -> None:
        """See Device."""
        self._cupy.get_default_memory_pool().free_all_blocks()

    def empty(self, shape: Shape, dtype: DTypeLike) -> Array:
        """See Device."""
        return self._cupy.empty(shape, dtype)

    def zeros(self, shape: Shape, dtype: DTypeLike) -> Array:
        """See Device."""
        return self._cupy.zeros(shape, dtype)

    def upload(self, values: NDArray[Any]) -> Array:
        """See Device."""
        return self._cupy.array(values)

    def download(self, array: Array) -> NDArray[Any]:
        """See Device."""
        return np.asarray(self._cupy.asnumpy(array))

    def copy(self, source: Array, target: Array) -> None:
        """See Device."""
        runtime, stream = self._cupy.cuda.runtime, self._stream.ptr
        kind, to, start = runtime.memcpyDeviceToDevice, target.data.ptr, source.data.ptr
        if source.flags.c_contiguous and target.flags.c_contiguous:
            runtime.memcpyAsync(to, start, source.nbytes, kind, stream)
            return
        rows, width = source.shape[0], source.itemsize * source.shape[1]
        runtime.memcpy2DAsync(to, target.strides[0], start, source.strides[0], width, rows, kind, stream)

    def zero(self, array: Array) -> None:
        """See Device."""
        array.data.memset_async(0, array.nbytes)

    def adopt(self, shard: object) -> Array | None:
        """See Device; anything that speaks DLPack."""
        speaks = getattr(shard, "__dlpack_device__", None)
        if speaks is None:
            return None
        kind, index = speaks()
        if int(kind) not in _DLPACK_CUDA or int(index) != self.index:
            return None
        with self.current():
            return self._cupy.from_dlpack(shard)

    def multiply(self, x: Array, y: Array, out: Array, *, alpha: float = 1.0, beta: float = 0.0) -> None:
        """See Device. cuBLAS counts columns first: it is told to compute out' = y x'."""
        (rows, depth), columns = x.shape, y.shape[0]
        self._gemm("TN", (columns, rows, depth), y, x, out, factors=(alpha, beta))

    def inner(self, u: Array, v: Array, out: Array, *, alpha: float = 1.0, beta: float = 0.0) -> None:
        """See Device. Columns first: out' = v' u."""
        depth, rows = u.shape
        self._gemm("NT", (v.shape[1], rows, depth), v, u, out, factors=(alpha, beta))

    def launch(self, kernel: str, grid: int | tuple[int, int], block: int, *args: object) -> None:
        """See Device."""
        if kernel not in self._kernels:
            self._kernels[kernel] = self._module("sweep.cu").get_function(kernel)
        self._kernels[kernel](grid if isinstance(grid, tuple) else (grid,), (block,), args)

    def top(self, k: int) -> TopK:
        """See Device."""
        return TopK(self._module("topk.cu"), self._cupy, k)

    def stream(self, blocks: Iterable[Sequence[NDArray[Any]]], size: int) -> Iterator[Array]:
        """See Device: copies run on a stream of their own, through pinned memory that threads fill."""
        slots, waiting = self._ring(size), deque[tuple[_Slot, int]]()
        for index, parts in enumerate(blocks):
            waiting.append(self._send(slots[index % _SLOTS], parts))
            if len(waiting) > 1:
                yield from self._arrive(*waiting.popleft())
        while waiting:
            yield from self._arrive(*waiting.popleft())

    def _module(self, name: str) -> Any:  # noqa: ANN401 (CuPy brings no types)
        return self._cupy.RawModule(code=source(name), options=OPTIONS)

    @property
    def _stream(self) -> Any:  # noqa: ANN401
        return self._cupy.cuda.get_current_stream()

    def _gemm(
        self, turned: str, sizes: tuple[int, int, int], a: Array, b: Array, out: Array, *, factors: tuple[float, float]
    ) -> None:
        """Call cuBLAS: float16 in, float32 sums; ``turned`` says of a and b whether they are transposed."""
        cublas, runtime = self._cupy.cuda.cublas, self._cupy.cuda.runtime
        handle = self._cupy.cuda.device.get_cublas_handle()
        cublas.setStream(handle, self._stream.ptr)
        turn_a, turn_b = (cublas.CUBLAS_OP_T if letter == "T" else cublas.CUBLAS_OP_N for letter in turned)
        alpha, beta = (np.array(factor, np.float32) for factor in factors)
        cublas.gemmEx(
            handle, turn_a, turn_b, *sizes, alpha.ctypes.data, a.data.ptr, runtime.CUDA_R_16F, a.strides[0] // 2,
            b.data.ptr, runtime.CUDA_R_16F, b.strides[0] // 2, beta.ctypes.data, out.data.ptr, runtime.CUDA_R_32F,
            out.strides[0] // 4, cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_GEMM_DEFAULT,
        )  # fmt: skip

    @cached_property
    def _hopper(self) -> Kernels | None:
        if self.facts.capability != _HOPPER:
            return None
        try:
            return DriverKernels(Driver(), folder() / "sweep_sm90.cu", self._multiprocessors)
        except DeviceError:
            return None

    @cached_property
    def _copies(self) -> Any:  # noqa: ANN401
        return self._cupy.cuda.Stream(non_blocking=True)

    @cached_property
    def _copiers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(min(_COPIERS, os.cpu_count() or 1), thread_name_prefix="gapsel-copy")

    def _ring(self, size: int) -> list[_Slot]:
        """Return slots of at least that many bytes; they are kept, for pinning memory takes long."""
        if not self._slots or self._slots[0].there.nbytes < size:
            self._slots = []
            self._slots = [self._slot(size) for _ in range(_SLOTS)]
        return self._slots

    def _slot(self, size: int) -> _Slot:
        cuda = self._cupy.cuda
        pinned = np.frombuffer(cuda.alloc_pinned_memory(size), np.uint8, size)
        there = self._cupy.empty(size, np.uint8)
        copied, used = cuda.Event(disable_timing=True), cuda.Event(disable_timing=True)
        used.record(self._stream)  # what used this memory before may still run
        return _Slot(pinned, there, copied, used)

    def _send(self, slot: _Slot, parts: Sequence[NDArray[Any]]) -> tuple[_Slot, int]:
        """Fill a slot and start its copy."""
        slot.copied.synchronize()
        count = self._fill(slot.pinned, parts)
        self._copies.wait_event(slot.used)
        runtime = self._cupy.cuda.runtime
        runtime.memcpyAsync(
            slot.there.data.ptr, slot.pinned.ctypes.data, count, runtime.memcpyHostToDevice, self._copies.ptr
        )
        slot.copied.record(self._copies)
        return slot, count

    def _arrive(self, slot: _Slot, count: int) -> Iterator[Array]:
        """Hand a slot out, and note when the work that was asked for meanwhile is done with it."""
        self._stream.wait_event(slot.copied)
        try:
            yield slot.there[:count]
        finally:
            slot.used.record(self._stream)

    def _fill(self, pinned: NDArray[np.uint8], parts: Sequence[NDArray[Any]]) -> int:
        """Copy arrays in a row, by several threads; NumPy lets go of the interpreter meanwhile."""
        at, running = 0, []
        for part in parts:
            data = part.reshape(-1).view(np.uint8)
            for first in range(0, len(data), _COPY):
                piece = data[first : first + _COPY]
                running.append(self._copiers.submit(np.copyto, pinned[at : at + len(piece)], piece))
                at += len(piece)
        wait(running)
        for copied in running:
            copied.result()
        return at
