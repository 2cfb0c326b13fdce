"""A CUDA device through CuPy: memory, cuBLAS products, our kernels compiled at run time, copies beside the work.

Work goes to the stream that is CuPy's current one when a sweep begins, so that a caller's own stream orders it with the
caller's work. Only the copies of streamed pools have a stream of their own.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.backends.gpu import trial
from gapsel.backends.gpu.copies import Copies
from gapsel.backends.gpu.device import Facts, lost
from gapsel.backends.gpu.sources import folder, source
from gapsel.backends.gpu_topk import TopK
from gapsel.backends.hopper.driver import Driver, DriverKernels, trial_mark
from gapsel.errors import DataError, DeviceError, GapselError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import DTypeLike, NDArray

    from gapsel.backends.gpu.device import Array, Shape
    from gapsel.backends.hopper import Kernels

OPTIONS = ("-std=c++17",)
_LEAST_CAPABILITY = (7, 5)
_HOPPER = (9, 0)
# Set to 0, it leaves Hopper's own kernel out; set to 1, it takes it without a trial.
_HOPPER_SETTING = "GAPSEL_HOPPER"
_HOPPER_SOURCE = "sweep_sm90.cu"
# Before, null pointers among a kernel's arguments were passed as no arguments at all.
_LEAST_CUPY = 14
# What DLPack calls a CUDA device's memory, plain and managed.
_DLPACK_CUDA = (2, 13)
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
    found = cupy.__version__
    if int(found.partition(".")[0]) < _LEAST_CUPY:
        msg = f"the gpu backend needs CuPy {_LEAST_CUPY} or newer, {found} is installed: pip install 'gapsel[gpu]'"
        raise MissingDependencyError(msg)
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
        self._fused_refused = os.environ.get(_HOPPER_SETTING) == "0"
        self._copies = Copies(cupy)

    @property
    def fused(self) -> Kernels | None:
        """See Device: on Hopper alone."""
        return None if self._fused_refused else self._hopper

    def try_fused(self) -> None:
        """See Device: in a process of its own, once on a machine."""
        if os.environ.get(_HOPPER_SETTING) != "1":
            mark = trial_mark(folder() / _HOPPER_SOURCE, f"{self.facts.name} {self.facts.driver}")
            trial.pass_once(mark, trial.command(self.index))

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
            try:
                return self._cupy.from_dlpack(shard)
            except (BufferError, NotImplementedError, TypeError, ValueError) as error:
                msg = f"a shard in the GPU's memory cannot be read where it lies: {error}"
                raise DataError(msg) from error

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
        """See Device."""
        return self._copies.stream(blocks, size)

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
            return DriverKernels(Driver(), folder() / _HOPPER_SOURCE, self._multiprocessors)
        except DeviceError:
            return None
