"""cuda/sweep_sm90.cu on the CPU: a library that stands in for libcuda and runs the kernel by fibers.

It is built from the kernel's own sources, with hopper.h in place of cuda/hopper.cuh, so that what differs from the
device is the letters of single instructions and nothing else. What is built is kept in target/, by all that went in.
"""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from cuda_emulator.build import CACHE, compiler
from gapsel.backends.gpu.sources import source
from gapsel.backends.hopper.driver import Driver

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).resolve().parent
# What the emulated driver takes for a cubin.
CUBIN = b"\x7fELF"
SOURCE = HERE.parent.parent / "cuda" / "sweep_sm90.cu"
VECTORS = HERE.parent / "cuda_emulator" / "include"
OPTIONS = ("-std=c++17", "-O1", "-fPIC", "-shared", "-U_FORTIFY_SOURCE", "-Wall", "-Wextra", "-Wno-psabi",
           "-Wno-unknown-pragmas", "-Werror", "-ffp-contract=off", "-fno-strict-aliasing",
           "-fno-gnu-unique")  # fmt: skip
DYNAMIC = "extern __shared__ char memory[];"


def library(defines: Sequence[str], change: tuple[str, str] | None = None) -> Path:
    """Return the library for these settings; ``change`` puts one text of the source in place of another."""
    text = source(SOURCE.name)
    edits = [(DYNAMIC, "char* const memory = emulated::window(emulated::me->rank());"), *([change] if change else [])]
    for before, after in edits:
        assert text.count(before) == 1, f"the source has {text.count(before)} times {before!r}"
        text = text.replace(before, after)
    headers = b"".join(path.read_bytes() for path in sorted([*HERE.glob("*"), VECTORS / "vectors.h"]) if path.is_file())
    name = hashlib.sha256(b"\0".join([text.encode(), headers, " ".join(defines).encode()])).hexdigest()[:16]
    path = CACHE / f"hopper-{name}.so"
    if not path.exists():
        _build(path, f'#line 1 "{SOURCE}"\n{text}\n#include "launch.h"\n', defines)
    return path


def _build(path: Path, text: str, defines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    program = compiler()
    assert program is not None
    command = [
        program,
        *OPTIONS,
        *(f"-I{folder}" for folder in (HERE, VECTORS)),
        "-include",
        "hopper.h",
        *defines,
        "-x",
        "c++",
        "-",
    ]
    subprocess.run([*command, "-o", str(part)], input=text, text=True, check=True)
    part.replace(path)


class EmulatedDriver(Driver):
    """The package's driver, on that library in place of libcuda."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))

    def seed(self, seed: int) -> None:
        """Draw other turns and delays."""
        self._library.emulator_seed(seed)

    def layout(self) -> list[int]:
        """Return the offsets of the argument's fields in C++, and its size."""
        return list((ctypes.c_size_t * 34).in_dll(self._library, "emulator_layout"))
