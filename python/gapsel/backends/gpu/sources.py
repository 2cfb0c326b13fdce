"""Where the kernels' sources lie: in the package, or in the folder that GAPSEL_CUDA_DIR names, to edit them."""

from __future__ import annotations

import os
from pathlib import Path

from gapsel.errors import UsageError

_VARIABLE = "GAPSEL_CUDA_DIR"


def folder() -> Path:
    """Return the folder of the .cu files."""
    named = os.environ.get(_VARIABLE)
    return Path(named) if named else Path(__file__).resolve().parents[2] / "cuda"


def source(name: str) -> str:
    """Return the text of one source. Raises UsageError if it is not there."""
    path = folder() / name
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        msg = (
            f"{path}: the kernels' source cannot be read ({error.strerror}): set {_VARIABLE} to its folder, or unset it"
        )
        raise UsageError(msg) from error
