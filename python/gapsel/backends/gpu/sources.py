"""The kernels' sources: in the package, or in the folder that GAPSEL_CUDA_DIR names, to edit them.

A source is handed on with its headers in their places: CuPy keeps what it has compiled by the text alone, and would not
notice another header.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from gapsel.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARIABLE = "GAPSEL_CUDA_DIR"
_INCLUDE = re.compile(r'#include "(.+)"')


def folder() -> Path:
    """Return the folder of the .cu and .cuh files."""
    named = os.environ.get(_VARIABLE)
    return Path(named) if named else Path(__file__).resolve().parents[2] / "cuda"


def source(name: str) -> str:
    """Return the text of one source with those of its headers, each once. Raises UsageError if one is not there."""
    return "\n".join(_lines(name, set()))


def _lines(name: str, seen: set[str]) -> Iterator[str]:
    seen.add(name)
    for number, line in enumerate(_text(folder() / name).split("\n"), 1):
        header = _INCLUDE.fullmatch(line)
        if header is None:
            yield line
        elif header[1] in seen:
            yield ""
        else:
            yield f'#line 1 "{header[1]}"'
            yield from _lines(header[1], seen)
            yield f'#line {number + 1} "{name}"'


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        msg = (
            f"{path}: the kernels' source cannot be read ({error.strerror}): set {_VARIABLE} to its folder, or unset it"
        )
        raise UsageError(msg) from error
