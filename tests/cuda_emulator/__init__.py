"""CUDA kernels on the CPU, for tests: each block's threads really run, wait for one another, and are watched.

    module = Module(CUDA / "topk.cu")
    module.get_function("count")((blocks,), (256,), (values, np.int64(len(values)), counts), shared_mem=1024)

Arguments are NumPy arrays where CuPy has its own, else the call is CuPy's. What ends a launch with an EmulationError:

- a barrier, shuffle or vote that not all threads reach which have to, also because some have returned;
- an access outside the arrays that were passed and the shared memory that was asked for, or a write to a read-only one;
- a race: two accesses, one of them a write, that no barrier orders (memory.cpp says what counts);
- an index outside a fixed array, a misaligned vector load, an overflow of a signed integer;
- an argument of another size than the kernel's, more threads than its launch bounds allow.

Shared memory starts as NaNs. With ``order`` -1 threads and blocks run backwards, with a positive one shuffled. What it
does not know: PTX (guard it with ``#ifdef CUDA_EMULATOR``), blocks that wait for each other, textures, streams, time.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cuda_emulator.build import EmulationError, build, compiler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ORDERS", "EmulationError", "Kernel", "Module", "compiler"]

ORDERS = (0, -1, 1)

# As memory.cpp says them.
WRITABLE, CONSTANT, IMAGE, SHARED = range(4)
# The runtime is one for the process.
LOCK = threading.Lock()


class _Region(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("kind", ctypes.c_int),
        ("word", ctypes.c_int),
    )


class _Entry(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("run", ctypes.c_void_p),
        ("count", ctypes.c_int),
        ("sizes", ctypes.POINTER(ctypes.c_int)),
        ("constant", ctypes.POINTER(ctypes.c_bool)),
        ("most_threads", ctypes.c_int),
    )


class Module:
    """A source file, compiled for this machine; what it has of cupy.RawModule has the same name.

    ``names`` are the instances wanted of kernels that are templates, as in ``"rows<float>"``. ``reachable`` are arrays
    that kernels reach through pointers in memory rather than by an argument.
    """

    def __init__(self, path: Path, names: Sequence[str] = (), defines: Mapping[str, str] | None = None) -> None:
        built = build(path, tuple(names), dict(defines or {}))
        self.order = 0
        self.reachable: list[NDArray[Any]] = []
        self._path = built.library
        self._runtime = ctypes.CDLL(str(built.runtime))
        self._runtime.emulator_launch.restype = ctypes.c_char_p
        library = ctypes.CDLL(str(built.library))
        table = (_Entry * len(built.names)).in_dll(library, "emulated_kernels")
        self._entries = {entry.name.decode(): entry for entry in table}
        self._image = list((ctypes.c_void_p * 3).in_dll(library, "emulated_image"))

    @property
    def names(self) -> list[str]:
        """The kernels it has."""
        return list(self._entries)

    def get_function(self, name: str) -> Kernel:
        """Return the kernel of that name."""
        if name not in self._entries:
            msg = f"there is no kernel {name!r}: there are {', '.join(self._entries)}"
            raise EmulationError(msg)
        return Kernel(self, name)

    def launch(
        self,
        name: str,
        args: Sequence[Any],
        *,
        grid: Sequence[int],
        block: Sequence[int],
        shared_mem: int,
        order: int,
    ) -> None:
        """Run a kernel to its end."""
        entry = self._entries[name]
        arguments = _Arguments(entry, args)
        regions = [*arguments.regions, *map(_region, self.reachable), *self._own_regions()]
        with LOCK:
            failure = self._runtime.emulator_launch(
                ctypes.byref(entry),
                (ctypes.c_void_p * len(args))(*arguments.addresses),
                _dim3(grid),
                _dim3(block),
                ctypes.c_uint(shared_mem),
                ctypes.c_int(order),
                (_Region * len(regions))(*regions),
                ctypes.c_int(len(regions)),
            )
        if failure is not None:
            raise EmulationError(self._with_lines(failure.decode()))

    def _own_regions(self) -> list[_Region]:
        start, statics, end = self._image
        return [_Region(statics, end - statics, SHARED, 2), _Region(start, statics - start, IMAGE, 1)]

    def _with_lines(self, message: str) -> str:
        """Put lines of the source for addresses of the code."""
        return re.sub(r"\[pc (0x[0-9a-f]+)\]", lambda match: f"({self._line(int(match[1], 16))})", message)

    def _line(self, address: int) -> str:
        offset = hex(address - 1 - self._image[0])
        tool = shutil.which("addr2line")
        if tool is None:
            return f"at {offset} of {self._path}"
        found = subprocess.run([tool, "-e", self._path, offset], capture_output=True, text=True, check=True)
        return found.stdout.split()[0]


@dataclass(frozen=True)
class Kernel:
    """A kernel that can be called as CuPy's are."""

    module: Module
    name: str
    # What CuPy's kernels may be told and has no meaning here.
    max_dynamic_shared_size_bytes: int = field(default=0, compare=False)

    def __call__(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
        stream: object = None,  # noqa: ARG002 (as CuPy has it)
        order: int | None = None,
    ) -> None:
        chosen = self.module.order if order is None else order
        self.module.launch(self.name, args, grid=grid, block=block, shared_mem=int(shared_mem), order=chosen)


class _Arguments:
    """What a launch is given: the address of each value, and the memory behind the pointers among them."""

    def __init__(self, entry: _Entry, args: Sequence[Any]) -> None:
        name = entry.name.decode()
        if len(args) != entry.count:
            msg = f"{name} takes {entry.count} arguments, {len(args)} were given"
            raise EmulationError(msg)
        self.regions: list[_Region] = []
        self.addresses: list[int] = []
        self._alive: list[object] = []
        for position, value in enumerate(args):
            passed = self._passed(value, constant=entry.constant[position])
            if passed.nbytes != entry.sizes[position]:
                msg = (
                    f"argument {position} of {name} has {entry.sizes[position]} bytes, {passed.dtype} has "
                    f"{passed.nbytes}: give it as numpy.int32, float32 or the like"
                )
                raise EmulationError(msg)
            self._alive.append(passed)
            self.addresses.append(passed.ctypes.data)

    def _passed(self, value: object, *, constant: bool) -> NDArray[Any]:
        """Return what the kernel gets: a pointer, or the value; a Python int or float has 8 bytes, as in CuPy."""
        if not isinstance(value, np.ndarray) or value.dtype.names is not None:
            self.regions.append(_Region(None, 0, CONSTANT, 1))
            return np.array(0 if value is None else value)
        self.regions.append(_region(value, constant=constant))
        return np.array(value.ctypes.data, np.uint64)


def _region(array: NDArray[Any], *, constant: bool = False) -> _Region:
    if array.size == 0:
        return _Region(array.ctypes.data, 0, CONSTANT, 1)
    if any(stride < 0 for stride in array.strides):
        msg = f"an array with strides {array.strides} has no first byte to point at"
        raise EmulationError(msg)
    size = sum((n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)) + array.itemsize
    kind = WRITABLE if array.flags.writeable and not constant else CONSTANT
    return _Region(array.ctypes.data, size, kind, min(array.itemsize, 8))


def _dim3(size: Sequence[int]) -> ctypes.Array[ctypes.c_uint]:
    return (ctypes.c_uint * 3)(*(*size, 1, 1)[:3])
