"""NVRTC on a machine without a GPU: from a .cu file to machine code, and what the assembler says of each kernel.

What was compiled before is taken from target/, by the content of the folder, the options and the compiler.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
CUDA = ROOT / "cuda"
CACHE = ROOT / "target" / "nvrtc"

ENTRY = re.compile(r"Compiling entry function '(?P<name>\w+)'")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


@dataclass(frozen=True)
class Resources:
    """What a kernel takes: registers of a thread; bytes of its stack, of what it spills, and of shared memory."""

    kernel: str
    registers: int
    stack: int
    spilled: int
    shared: int


@dataclass(frozen=True)
class Compiled:
    """The kernels of one source for one architecture, and what the compiler had to say besides."""

    kernels: tuple[Resources, ...]
    remarks: tuple[str, ...]


# What was compiled in a session: source and settings, then architecture, then kernels.
TABLE = pytest.StashKey[dict[str, dict[str, tuple[Resources, ...]]]]()


class CompileError(AssertionError):
    """What the compiler said."""


def compiled(path: Path, architecture: str, options: tuple[str, ...] = ()) -> Compiled:
    """Compile a file for ``sm_<architecture>``."""
    flags = [f"-arch=sm_{architecture}", "-std=c++17", f"-I{path.parent}", "--ptxas-options=-v", *options]
    record = CACHE / f"{path.stem}-{architecture}-{_digest(path, flags)}.json"
    if not record.exists():
        log = _compile(path, flags)
        CACHE.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({"log": log}), encoding="utf-8")
    log = json.loads(record.read_text(encoding="utf-8"))["log"]
    return Compiled(tuple(resources(log)), tuple(remarks(log)))


def resources(log: str) -> list[Resources]:
    """Read what the assembler says of each kernel."""
    found = []
    for part in log.split("Compiling entry function")[1:]:
        name = ENTRY.search("Compiling entry function" + part)
        frame, used = FRAME.search(part), USED.search(part)
        assert name, part
        assert frame, part
        assert used, part
        stack, stores, loads = map(int, frame.groups())
        found.append(Resources(name["name"], int(used[1]), stack, stores + loads, int(used[2] or 0)))
    return sorted(found, key=lambda kernel: kernel.kernel)


def remarks(log: str) -> list[str]:
    """Return the lines that warn: of registers that were not to be had, of products that wait for one another."""
    return [line for line in log.splitlines() if re.search(r"warning|advisory|\(C\d+\)", line, re.IGNORECASE)]


def table_lines(table: dict[str, dict[str, tuple[Resources, ...]]]) -> Iterator[str]:
    """Say of each kernel what it takes, an entry for each architecture."""
    for source, compiled_for in table.items():
        yield f"{source} on sm_{' '.join(compiled_for)}"
        for same in zip(*compiled_for.values(), strict=True):
            registers = " ".join(f"{kernel.registers:3}" for kernel in same)
            shared, spilled = (max(getattr(kernel, name) for kernel in same) for name in ("shared", "spilled"))
            yield f"    {same[0].kernel:16} registers {registers}   shared {shared:6} B   spilled {spilled:3} B"


def _compile(path: Path, flags: list[str]) -> str:
    from cuda.bindings import nvrtc

    _, program = nvrtc.nvrtcCreateProgram(path.read_bytes(), path.name.encode(), 0, [], [])
    (failed,) = nvrtc.nvrtcCompileProgram(program, len(flags), [flag.encode() for flag in flags])
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = bytearray(size)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcDestroyProgram(program)
    text = log.decode(errors="replace").rstrip("\0")
    if failed != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        msg = f"{path.name} {' '.join(flags)}: {failed.name}\n{text}"
        raise CompileError(msg)
    return text


def _digest(path: Path, flags: list[str]) -> str:
    from cuda.bindings import nvrtc

    hashed = hashlib.sha256(f"{nvrtc.nvrtcVersion()} {flags}".encode())
    for file in sorted(path.parent.glob("*.cu*")):
        if file == path or file.suffix == ".cuh":
            hashed.update(file.read_bytes())
    return hashed.hexdigest()[:16]
