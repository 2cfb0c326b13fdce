"""Files taken for what they were: by whom, and what is noticed all the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from faults import DATA, GOOD, POOL, TARGET, assert_says, command, flags
from gapsel import store
from gapsel.cli import main
from gapsel.errors import DataError
from gapsel.pipeline import work
from gapsel.pipeline.folder import stamps
from gapsel.pipeline.steps import order as steps
from gapsel.pipeline.vectors import fingerprints
from gapsel.pipeline.vectors import sides as vectors

if TYPE_CHECKING:
    from collections.abc import Callable

RUN = ["run", "--quiet", *flags({**GOOD, "mass": 0}), "-o", "out"]
SELECT = ["select", "--quiet", "-k", "7", "-o", "out"]


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stamps, "SETTLED", -1.0)
    np.save("pool.npy", POOL)
    np.save("target.npy", TARGET)


def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by a word whenever contents are read to be compared."""
    found = list[str]()

    def noting(name: str, inner: Callable[..., object]) -> Callable[..., object]:
        def outer(*given: object, **more: object) -> object:
            if more.get("check", True):
                found.append(name)
            return inner(*given, **more)

        return outer

    monkeypatch.setattr(steps, "input_fingerprints", noting("inputs", fingerprints.input_fingerprints))
    monkeypatch.setattr(work, "open_side", noting("vectors", vectors.open_side))
    return found


def flip(file: str) -> None:
    """Change one bit, and put the time of the change back."""
    there = Path(file).stat()
    data = bytearray(Path(file).read_bytes())
    data[-3] ^= 1
    Path(file).write_bytes(data)
    os.utime(file, ns=(there.st_atime_ns, there.st_mtime_ns))


def test_a_selection_reads_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(RUN) == 0
    found = readings(monkeypatch)
    assert main(SELECT) == 0
    assert not found
    assert main(["fit", "--quiet", "--eps", "0.4", "-o", "out"]) == 0
    assert found == ["inputs", "vectors", "vectors"]
    found.clear()
    assert main(["score", "--quiet", "-o", "out"]) == 0
    assert found[0] == "inputs"


def test_what_was_just_written_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamps, "SETTLED", 60.0)
    assert stamps.stamp(["pool.npy"]) is None
    assert main(RUN) == 0
    found = readings(monkeypatch)
    assert main(SELECT) == 0
    assert "inputs" in found
    assert "vectors" in found


def test_a_changed_file_is_noticed_though_its_size_and_time_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(RUN) == 0
    flip("pool.npy")
    capsys.readouterr()
    code, said = command(SELECT, capsys)
    assert code == DATA
    assert_says(said, ("pool_vectors", "the files have changed since"))


def test_bits_that_no_stamp_shows_are_noticed_before_a_sweep(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that gives back other bits: the stamp is the same."""
    before = stamps.stamp(["pool.npy"])
    for module in (steps, work):
        monkeypatch.setattr(module, "stamp", lambda _files: before)
    assert main(RUN) == 0
    flip("pool.npy")
    assert main(SELECT) == 0
    capsys.readouterr()
    code, said = command(["fit", "--quiet", "--eps", "0.4", "-o", "out"], capsys)
    assert code == DATA
    assert_says(said, ("pool_vectors", "the files have changed since"))


def test_what_has_no_stamp() -> None:
    assert stamps.stamp(["pool.npy", "missing.npy"]) is None
    assert stamps.stamp(["s3://bucket/pool.npy"]) is None
    one = stamps.stamp(["pool.npy", "target.npy"])
    assert one == stamps.stamp(["pool.npy", "target.npy"])
    assert one != stamps.stamp(["target.npy", "pool.npy"])
    os.utime("target.npy")
    assert one != stamps.stamp(["pool.npy", "target.npy"])


def test_vectors_in_the_run_folder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Converted on the way there, so that the run folder holds them."""
    np.save("pool.npy", POOL.astype(np.float64))
    assert main(RUN) == 0
    found = readings(monkeypatch)
    assert main(SELECT) == 0
    assert not found
    shard = next(Path("out/vectors/pool").glob("*.npy"))
    flip(str(shard))
    with pytest.raises(DataError, match="do not match"):
        store.verify(store.open("out/vectors/pool"), 0)
    capsys.readouterr()
    code, said = command(["select", "--quiet", "-k", "6", "-o", "out"], capsys)
    assert code == DATA
    assert_says(said, (str(shard), "do not match their hash"))
