"""From a .cu file to a library: g++ with the emulator's header before it, and what differs from C++ rewritten.

What is built is kept in target/, by the content of all that went into it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / "target" / "cuda_emulator"
OPTIONS = ("-std=c++17", "-g", "-fPIC", "-U_FORTIFY_SOURCE", "-Wall", "-Wextra", "-Wno-unknown-pragmas")
RUNTIME_OPTIONS = (*OPTIONS, "-O2", "-Werror")
KERNEL_OPTIONS = (
    *OPTIONS,
    "-O1",
    "-ffp-contract=off",
    "-fno-strict-aliasing",  # device code reads vectors from arrays of scalars, as CUDA allows
    "-fno-gnu-unique",
    "-fvisibility=hidden",
    "-Wno-unused-parameter",
    "-Wno-attributes",
    "-fsanitize=thread,bounds-strict,alignment,null,shift,signed-integer-overflow,integer-divide-by-zero",
    f"-I{HERE / 'include'}",
    "-include",
    "emulator.h",
)

KERNEL = re.compile(
    r"(?P<template>template\s*<[^;{]*>\s*)?(?:extern\s+\"C\"\s+)?__global__\s+(?:void\s+)?"
    r"(?:__launch_bounds__\s*\(\s*(?P<threads>[^(),]+)[^()]*\)\s*)?(?:void\s+)?(?P<name>\w+)\s*\("
)
DYNAMIC = re.compile(
    r"extern\s+__shared__\s+(?:(?:__align__|alignas)\s*\([^()]*\)\s*)?(?P<type>[\w:\s]+?)\s+(?P<name>\w+)\s*\[\s*\]\s*;"
)
LOCAL_INCLUDE = re.compile(r'^\s*#\s*include\s+"(?P<name>[^"]+)"', re.MULTILINE)


class EmulationError(AssertionError):
    """The kernel does what a device would not forgive, or cannot be compiled or called."""


@dataclass(frozen=True)
class Built:
    """The libraries of one source, and the kernels in it."""

    library: Path
    runtime: Path
    names: tuple[str, ...]


def compiler() -> str | None:
    """Return the g++ to use, or None where there is none; on macOS the command of that name is another."""
    return shutil.which("g++") if sys.platform == "linux" else None


def build(path: Path, names: tuple[str, ...], defines: dict[str, str]) -> Built:
    """Compile a source for this machine, or take what was compiled before."""
    source = _Source(path.resolve(), names, tuple(f"-D{key}={value}" for key, value in sorted(defines.items())))
    own = b"".join(file.read_bytes() for file in sorted(HERE.rglob("*")) if file.suffix in {".h", ".cpp", ".py"})
    runtime = CACHE / _digest(own) / "libcuda_emulator.so"
    if not runtime.exists():
        files = [str(HERE / "runtime.cpp"), str(HERE / "memory.cpp")]
        _into(runtime, [*RUNTIME_OPTIONS, "-shared", *files])
    library = runtime.parent / f"{path.stem}-{source.digest()}" / f"{path.stem}.so"
    if not library.exists():
        _compile(source, library)
    return Built(library, runtime, tuple(source.kernels))


class _Source:
    """A .cu file, what it includes from its own folder, and all their kernels, each with the most threads it allows."""

    def __init__(self, path: Path, names: tuple[str, ...], macros: tuple[str, ...]) -> None:
        self.path, self.macros = path, macros
        self.texts = _texts(path)
        self.kernels = _kernels("\n".join(self.texts.values()), names)

    def digest(self) -> str:
        texts = [f"{file}\0{text}" for file, text in self.texts.items()]
        return _digest("\0".join([*self.macros, *self.kernels, *texts]).encode())


def _compile(source: _Source, library: Path) -> None:
    folder, path = library.parent, source.path
    for file, text in source.texts.items():
        table = _table(source.kernels) if file == path else ""
        place = folder / file.relative_to(path.parent)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f'#line 1 "{file}"\n{_rewritten(text)}\n{table}', encoding="utf-8")
    compiled = folder / f"{path.stem}.{os.getpid()}.o"
    _run([*KERNEL_OPTIONS, *source.macros, "-c", "-x", "c++", str(folder / path.name), "-o", str(compiled)])
    # Linked without -fsanitize: its runtime is the emulator's own.
    _into(library, ["-shared", str(compiled), str(folder.parent / "libcuda_emulator.so"), "-Wl,-rpath,$ORIGIN/.."])
    compiled.unlink()


def _into(target: Path, arguments: list[str]) -> None:
    """Link to a name that appears when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(f".{os.getpid()}.part")
    _run([*arguments, "-o", str(part)])
    part.replace(target)


def _run(arguments: list[str]) -> None:
    program = compiler()
    if program is None:
        msg = "no g++ on the PATH"
        raise EmulationError(msg)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"g++ {' '.join(arguments)}\n{done.stderr}"
        raise EmulationError(msg)


def _texts(path: Path) -> dict[Path, str]:
    """Return the file and what it includes from its own folder, by path."""
    found: dict[Path, str] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file not in found and file.is_file():
            found[file] = file.read_text(encoding="utf-8")
            waiting += [file.parent / match["name"] for match in LOCAL_INCLUDE.finditer(found[file])]
    return found


def _kernels(text: str, names: tuple[str, ...]) -> dict[str, str]:
    """Return each kernel's name and the most threads it may be launched on, "0" where that is not said."""
    code = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    found = {match["name"]: match for match in KERNEL.finditer(code)}
    plain = [name for name, match in found.items() if not match["template"]]
    return {name: _threads(found.get(name.partition("<")[0])) for name in [*plain, *names]}


def _threads(match: re.Match[str] | None) -> str:
    return "0" if match is None or match["template"] or not match["threads"] else match["threads"].strip()


def _table(kernels: dict[str, str]) -> str:
    rows = "".join(f'    EMULATED_KERNEL("{name}", {most}, &{name}),\n' for name, most in kernels.items())
    return f'#include "table.h"\nEMULATED_TABLE = {{\n{rows}}};\n'


def _rewritten(text: str) -> str:
    """Make a pointer of each array of dynamic shared memory, which C++ has no word for."""
    return DYNAMIC.sub(
        lambda match: (
            f"{match['type']}* const {match['name']} = static_cast<{match['type']}*>(cuda_emulator::dynamic_shared());"
        ),
        text,
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
