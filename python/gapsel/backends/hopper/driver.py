"""The few calls of NVIDIA's libraries that CuPy does not pass on: cubins of sm_90a, tensor maps, launches with either.

CuPy compiles for the plain architecture alone, which has neither wgmma nor setmaxnreg, and knows no tensor maps. The
driver's context is the one that CuPy has made current.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gapsel.backends.hopper import DEPTH_OF_STEP, REGISTERS, THREADS, Arguments, Planes, Shape, TensorMap
from gapsel.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Sequence

ARCHITECTURE = "sm_90a"
KERNEL = "sweep_sm90"
SHARED_BYTES = 227 * 1024
_ALIGNMENT_OF_MAP = 64
# Of the driver's enumerations.
_REGISTERS, _MOST_DYNAMIC_SHARED = 4, 8
_FLOAT16, _SWIZZLE_128, _PROMOTE_TO_256 = 6, 3, 3
_NVRTC = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")


class Driver:
    """Kernels of cubins in the current context, by the driver's own library."""

    def __init__(self, library: str = "libcuda.so.1") -> None:
        """Load the library. Raises DeviceError where there is none."""
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            msg = f"NVIDIA's driver cannot be loaded: {error}"
            raise DeviceError(msg) from None

    def load(self, cubin: bytes) -> ctypes.c_void_p:
        """Return the kernel of a cubin, with all the shared memory that a block may have. Raises DeviceError."""
        module, kernel, registers = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_int()
        self._call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(cubin))
        self._call("cuModuleGetFunction", ctypes.byref(kernel), module, KERNEL.encode())
        self._call("cuFuncSetAttribute", kernel, _MOST_DYNAMIC_SHARED, SHARED_BYTES)
        self._call("cuFuncGetAttribute", ctypes.byref(registers), _REGISTERS, kernel)
        if registers.value != REGISTERS:
            msg = f"{KERNEL} starts with {registers.value} registers a thread, and would hang: it needs {REGISTERS}"
            raise DeviceError(msg)
        return kernel

    def tensor_map(self, planes: Planes, box_rows: int) -> TensorMap:
        """Return the map by which boxes (box_rows, 1, 64) of the planes are copied, swizzled by 128 bytes."""
        room = ctypes.create_string_buffer(ctypes.sizeof(TensorMap) + _ALIGNMENT_OF_MAP)
        aligned = TensorMap.from_buffer(room, -ctypes.addressof(room) % _ALIGNMENT_OF_MAP)
        self._call(
            "cuTensorMapEncodeTiled",
            ctypes.byref(aligned), _FLOAT16, 3, ctypes.c_void_p(planes.address),
            (ctypes.c_uint64 * 3)(planes.depth, planes.planes, planes.rows),
            (ctypes.c_uint64 * 2)(planes.plane_stride, planes.row_stride),
            (ctypes.c_uint32 * 3)(DEPTH_OF_STEP, 1, box_rows), (ctypes.c_uint32 * 3)(1, 1, 1),
            0, _SWIZZLE_128, _PROMOTE_TO_256, 0,
        )  # fmt: skip
        return TensorMap.from_buffer_copy(aligned)

    def launch(self, kernel: ctypes.c_void_p, blocks: int, stream: int, arguments: Arguments) -> None:
        """Launch a kernel on a stream; the arguments are copied."""
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
        self._call(
            "cuLaunchKernel", kernel, blocks, 1, 1, THREADS, 1, 1, SHARED_BYTES, ctypes.c_void_p(stream), pointers, None
        )

    def _call(self, name: str, *args: object) -> None:
        status = getattr(self._library, name)(*args)
        if status:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(status, ctypes.byref(text))
            msg = f"{name} fails with {status}: {(text.value or b'unknown').decode()}"
            raise DeviceError(msg)


class DriverKernels:
    """The kernels of the current device, each compiled and loaded when it is first launched."""

    def __init__(self, driver: Driver, source: Path, multiprocessors: int) -> None:
        self.multiprocessors, self._driver, self._source = multiprocessors, driver, source
        self._loaded: dict[tuple[str, ...], ctypes.c_void_p] = {}

    def tensor_map(self, planes: Planes, box_rows: int) -> TensorMap:
        """See Driver."""
        return self._driver.tensor_map(planes, box_rows)

    def launch(self, shape: Shape, arguments: Arguments, stream: int) -> None:
        """Launch the kernel of that shape; the arguments are copied. Raises DeviceError."""
        if shape.defines not in self._loaded:
            self._loaded[shape.defines] = self._driver.load(cubin(self._source, shape.defines))
        self._driver.launch(self._loaded[shape.defines], shape.blocks, stream, arguments)


def cubin(source: Path, defines: Sequence[str], cache: Path | None = None) -> bytes:
    """Return a source compiled for sm_90a, from the cache where it has been compiled before. Raises DeviceError."""
    compiler = Compiler()
    path = (cache or default_cache()) / f"{_name(source, compiler, defines)}.cubin"
    if path.exists():
        return path.read_bytes()
    made, _ = compiler.compile(source, defines)
    keep(path, made)
    return made


def trial_mark(source: Path, device: str, cache: Path | None = None) -> Path:
    """Return the file that says that a source's kernels did well on a device. Raises DeviceError without a compiler."""
    return (cache or default_cache()) / f"{_name(source, Compiler(), [device])}.passed"


def _name(source: Path, compiler: Compiler, settings: Sequence[str]) -> str:
    """Return what a source, its headers, its compiler and its settings are known by."""
    texts = [file.read_bytes() for file in sorted(source.parent.glob("*.cuh"))]
    parts = [source.read_bytes(), *texts, " ".join(settings).encode(), compiler.version.encode()]
    return f"{source.stem}-{hashlib.sha256(bytes(1).join(parts)).hexdigest()[:24]}"


def default_cache() -> Path:
    """Return where cubins are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gapsel" / "cubin"


def keep(path: Path, content: bytes) -> None:
    """Write a file that appears when it is whole. Where nothing can be written, the next run does it once more."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as part:
            part.write(content)
        Path(part.name).replace(path)


class Compiler:
    """NVRTC, the run-time compiler."""

    def __init__(self) -> None:
        """Load the library. Raises DeviceError where there is none."""
        self._library = _first_loaded([*_wheel_libraries(), *_NVRTC])
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def compile(self, source: Path, defines: Sequence[str]) -> tuple[bytes, str]:
        """Return a cubin for sm_90a and the compiler's log. Raises DeviceError with the log if it does not compile."""
        options = [f"-arch={ARCHITECTURE}", "-std=c++17", f"-I{source.parent}", "--ptxas-options=-v", *defines]
        encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        program = ctypes.c_void_p()
        self._library.nvrtcCreateProgram(
            ctypes.byref(program), source.read_bytes(), source.name.encode(), 0, None, None
        )
        try:
            failed = self._library.nvrtcCompileProgram(program, len(options), encoded)
            log = self._text(program, "ProgramLog").decode(errors="replace").rstrip("\0")
            if failed:
                msg = f"{source.name} does not compile for {ARCHITECTURE} with NVRTC {self.version}:\n{log}"
                raise DeviceError(msg)
            return self._text(program, "CUBIN"), log
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _text(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        room = ctypes.create_string_buffer(size.value)
        getattr(self._library, f"nvrtcGet{what}")(program, room)
        return room.raw


def _wheel_libraries() -> list[str]:
    """Return NVRTC as NVIDIA's wheels bring it, the newest first."""
    folders = [Path(entry) / "nvidia" for entry in sys.path]
    found = [path for folder in folders for path in folder.glob("*/lib/libnvrtc.so.*") if "builtins" not in path.name]
    return [str(path) for path in sorted(found, key=lambda path: path.name, reverse=True)]


def _first_loaded(names: Sequence[str]) -> ctypes.CDLL:
    """Return the first compiler that can be loaded; the one of CUDA 13.0's wheel does not find its builtins."""
    for name in names:
        with contextlib.suppress(OSError):
            for builtins in Path(name).parent.glob("libnvrtc-builtins.so.*"):
                ctypes.CDLL(str(builtins))
            return ctypes.CDLL(name)
    msg = "NVIDIA's run-time compiler NVRTC is missing: python -m pip install 'gapsel[gpu]' brings it"
    raise DeviceError(msg)
