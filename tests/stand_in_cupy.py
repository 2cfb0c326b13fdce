"""What gapsel uses of CuPy, on the host: so that the device over CuPy runs where there is no GPU.

Addresses, strides and cuBLAS's columns-first order are taken at their word. Copies on a stream of their own happen as
late as the events allow, so that memory that is used again too early shows; and a copy to where the null stream may
still read is refused.
"""

from __future__ import annotations

import contextlib
import ctypes
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from emulated_gpu import CUDA, module
from gapsel.backends.gpu.sources import source

if TYPE_CHECKING:
    from collections.abc import Callable

    from cuda_emulator import Module


class Array(np.ndarray[Any, Any]):
    """cupy.ndarray."""

    @property
    def data(self) -> Any:  # noqa: ANN401
        return SimpleNamespace(ptr=self.ctypes.data, memset_async=self._memset)

    def _memset(self, value: int, size: int) -> None:
        ctypes.memset(self.ctypes.data, value, size)


def array(values: Any, dtype: Any = None) -> Array:  # noqa: ANN401
    return np.array(values, dtype).view(Array)


def empty(shape: Any, dtype: Any) -> Array:  # noqa: ANN401
    out = np.empty(shape, dtype)
    out.view(np.uint8).reshape(-1)[:] = 0xFF
    return out.view(Array)


class Stream:
    """Work that waits until an event asks for it, or, on the null stream, none that waits.

    ``asked`` counts its work; ``waited`` is how much of the null stream's is done before what comes next.
    """

    def __init__(self, *, non_blocking: bool = False) -> None:
        self.ptr = id(self) if non_blocking else 0
        self.lazy = non_blocking
        self.waiting: list[Callable[[], None]] = []
        self.asked = self.waited = 0
        STREAMS[self.ptr] = self

    def do(self, work: Callable[[], None]) -> None:
        self.asked += 1
        if self.lazy:
            self.waiting.append(work)
        else:
            work()

    def wait_event(self, event: Event) -> None:
        if event.stream is NULL:
            self.waited = max(self.waited, event.place)
        self.do(event.synchronize)

    def synchronize(self) -> None:
        self.run(len(self.waiting))

    def run(self, count: int) -> None:
        for work in self.waiting[:count]:
            work()
        del self.waiting[:count]


class Event:
    """A place in a stream."""

    def __init__(self, *, disable_timing: bool = False) -> None:
        assert disable_timing
        self.stream: Stream | None = None
        self.place = 0

    def record(self, stream: Stream) -> None:
        self.stream = stream
        self.marker = lambda: None
        stream.do(self.marker)
        self.place = stream.asked

    def synchronize(self) -> None:
        if self.stream is not None and self.stream.lazy and self.marker in self.stream.waiting:
            self.stream.run(self.stream.waiting.index(self.marker) + 1)


STREAMS: dict[int, Stream] = {}
NULL = Stream()
# Addresses, and how much work the null stream had been asked for when they were last read.
READ: dict[int, int] = {}


def asnumpy(values: Array) -> np.ndarray[Any, Any]:
    NULL.do(lambda: None)
    READ[values.ctypes.data] = NULL.asked
    return np.array(values).view(np.ndarray)


def memcpy_async(to: int, start: int, size: int, kind: int, stream: int) -> None:
    assert kind in {1, 3}
    assert kind == 3 or STREAMS[stream].waited >= READ.get(to, 0), "a place is written while it may be read"

    def copy() -> None:
        ctypes.memmove(to, start, size)

    STREAMS[stream].do(copy)


def memcpy_2d_async(  # noqa: PLR0917 (as CUDA has it)
    to: int, to_pitch: int, start: int, pitch: int, width: int, height: int, kind: int, stream: int
) -> None:
    assert kind == 3
    assert stream == 0
    assert width <= min(pitch, to_pitch)
    for row in range(height):
        ctypes.memmove(to + row * to_pitch, start + row * pitch, width)


def columns_first(address: int, rows: int, columns: int, ld: int, kind: Any) -> np.ndarray[Any, Any]:  # noqa: ANN401
    assert ld >= rows
    size = (columns - 1) * ld + rows
    memory = (ctypes.c_char * (size * np.dtype(kind).itemsize)).from_address(address)
    flat = np.frombuffer(memory, kind)
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), (flat.itemsize, ld * flat.itemsize))


def gemm_ex(  # noqa: PLR0917 (as cuBLAS has it)
    handle: int, turn_a: int, turn_b: int, m: int, n: int, k: int, alpha: int, a: int, kind_a: int, lda: int, b: int,
    kind_b: int, ldb: int, beta: int, c: int, kind_c: int, ldc: int, compute: int, algorithm: int,
) -> None:  # fmt: skip
    assert (handle, kind_a, kind_b, kind_c, compute, algorithm) == (7, 2, 2, 0, 68, -1)
    left = columns_first(a, *((k, m) if turn_a else (m, k)), lda, np.float16)
    right = columns_first(b, *((n, k) if turn_b else (k, n)), ldb, np.float16)
    out = columns_first(c, m, n, ldc, np.float32)
    factors = [ctypes.c_float.from_address(factor).value for factor in (alpha, beta)]
    product = (left.T if turn_a else left).astype(np.float64) @ (right.T if turn_b else right).astype(np.float64)
    out[...] = factors[0] * product + (factors[1] * out if factors[1] else 0)


def raw_module(*, code: str, options: tuple[str, ...]) -> Module:
    assert options == ("-std=c++17",)
    (name,) = [path.name for path in CUDA.glob("*.cu") if source(path.name) == code]
    return module(name)


def properties(_: int) -> dict[str, Any]:
    return {"name": b"stand-in", "major": 8, "minor": 0, "totalGlobalMem": 1 << 30, "multiProcessorCount": 4}


def cupy() -> Any:  # noqa: ANN401
    """Return the module."""
    found: Any = ModuleType("cupy")
    found.__dict__.update(
        ndarray=Array, array=array, empty=empty, zeros=lambda shape, dtype: np.zeros(shape, dtype).view(Array),
        asarray=array, asnumpy=asnumpy, concatenate=np.concatenate, __version__="14.2.0",
        ascontiguousarray=np.ascontiguousarray, argsort=np.argsort, from_dlpack=lambda shard: shard.values.view(Array),
        RawModule=raw_module,
        get_default_memory_pool=lambda: SimpleNamespace(free_bytes=lambda: 0, free_all_blocks=lambda: None),
    )  # fmt: skip
    found.cuda = SimpleNamespace(
        runtime=SimpleNamespace(
            getDeviceCount=lambda: 1, getDeviceProperties=properties, driverGetVersion=lambda: 13020,
            memGetInfo=lambda: (1 << 30, 1 << 30), memcpyAsync=memcpy_async, memcpy2DAsync=memcpy_2d_async,
            memcpyDeviceToDevice=3, memcpyHostToDevice=1, CUDA_R_16F=2, CUDA_R_32F=0,
        ),
        cublas=SimpleNamespace(
            setStream=lambda handle, stream: None, gemmEx=gemm_ex, CUBLAS_OP_N=0, CUBLAS_OP_T=1,  # noqa: ARG005
            CUBLAS_COMPUTE_32F=68, CUBLAS_GEMM_DEFAULT=-1,
        ),
        device=SimpleNamespace(get_cublas_handle=lambda: 7),
        Device=contextlib.nullcontext,
        compiler=SimpleNamespace(CompileException=type("CompileException", (Exception,), {})),
        Stream=Stream, Event=Event, get_current_stream=lambda: NULL, alloc_pinned_memory=bytearray,
    )  # fmt: skip
    return found
