"""A small pool and target that are good, and how a fault is looked at, for the tests of bad input."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import gapsel
from gapsel.cli import main

if TYPE_CHECKING:
    import pytest

N, M, D = 60, 6, 4
USAGE, DATA, RESOURCE = 2, 3, 5

POOL = np.random.default_rng(1).normal(size=(N, D)).astype(np.float32)
TARGET = POOL[:M] + np.float32(0.25)
GOOD: dict[str, Any] = {"pool_vectors": "pool.npy", "target_vectors": "target.npy", "k": 5, "tolerance": 0.05}


def flags(settings: dict[str, Any]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


def command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command in this process; return its exit code and stderr."""
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = int(str(ended.code))
    said = capsys.readouterr()
    assert not said.out, "a fault is no result"
    return code, said.err


def snapshot(folder: str) -> dict[str, bytes] | None:
    """Return the contents of all files in a folder, None where there is none."""
    if not Path(folder).exists():
        return None
    return {str(file): file.read_bytes() for file in sorted(Path(folder).rglob("*")) if file.is_file()}


def assert_says(message: str, words: tuple[str, ...]) -> None:
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in: {message}"
    assert "Traceback" not in message


def finish_run(out: str = "out") -> None:
    gapsel.run(out, **GOOD)
