"""The trial of a kernel in a process of its own: what passes is noted, and nothing that happens there happens here."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from gapsel.backends.gpu import trial
from gapsel.errors import DeviceError

if TYPE_CHECKING:
    from pathlib import Path


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_what_passes_is_tried_once(tmp_path: Path) -> None:
    mark, count = tmp_path / "kept" / "one.passed", tmp_path / "count"
    command = python(f"open({str(count)!r}, 'a').write('x')")
    trial.pass_once(mark, command)
    trial.pass_once(mark, command)
    assert count.read_text(encoding="utf-8") == "x"


@pytest.mark.parametrize(
    ("code", "seconds", "told"),
    [
        ("import os; os.abort()", 60.0, "its trial ended with -6: without a word"),
        (
            "import sys; print('first', file=sys.stderr); sys.exit('the last words')",
            60.0,
            "ended with 1: the last words",
        ),
        ("import time; time.sleep(60)", 0.5, "did not end within 0.5 seconds"),
    ],
)
def test_what_fails_is_told_and_not_noted(tmp_path: Path, code: str, seconds: float, told: str) -> None:
    mark = tmp_path / "one.passed"
    with pytest.raises(DeviceError, match=told):
        trial.pass_once(mark, python(code), seconds)
    assert not mark.exists()


def test_a_process_that_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="cannot be started"):
        trial.pass_once(tmp_path / "one.passed", [str(tmp_path / "no such program")])


def test_the_trial_finds_the_same_packages(tmp_path: Path) -> None:
    """A process with this one's path looks for device 99, and says that there is none or no CuPy."""
    with pytest.raises(DeviceError, match=r"cupy|CUDA"):
        trial.pass_once(tmp_path / "one.passed", trial.command(99))
