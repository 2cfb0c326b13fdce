"""A disk that is full or cannot be written, bits that flipped: named, nothing lost, and repaired by a rerun."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faults import DATA, POOL, RESOURCE, TARGET, assert_says, command, snapshot
from gapsel.cli import main
from gapsel.pipeline.folder import journal, parts
from gapsel.pipeline.vectors import sides as vectors
from streams import SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TEXTS = ["--pool=pool.jsonl", "--pool-vectors=pool.npy", "--target=target.jsonl", "--target-vectors=target.npy"]
RUN = ["run", *TEXTS, "-k=5", "--tolerance=0.05", "--quiet", "-o"]
# Of mount(2).
REMOUNT, READ_ONLY, DETACH = 32, 1, 2


@pytest.fixture(autouse=True)
def _inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vectors, "_SHARD_ROWS", 16)
    monkeypatch.setattr(vectors, "_BATCH_ROWS", 16)
    monkeypatch.setattr(parts, "PART_ROWS", 16)
    for side, array in {"pool": POOL, "target": TARGET}.items():
        np.save(f"{side}.npy", array)
        lines = [json.dumps({"id": f"{side}-{at}", "text": f"{side} {at}"}) for at in range(len(array))]
        Path(f"{side}.jsonl").write_text("\n".join([*lines, "{broken", ""]))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """A small disk at ./disk, and a function that mounts it anew with another size (bytes) and flags."""
    place = tmp_path / "disk"
    place.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(size: int, flags: int = REMOUNT) -> int:
        return int(libc.mount(b"tmpfs", str(place).encode(), b"tmpfs", flags, f"size={size}".encode()))

    if sys.platform != "linux" or mount(1 << 14, 0):
        pytest.skip("needs the right to mount a small file system")

    def remount(size: int, flags: int = REMOUNT) -> None:
        assert mount(size, flags) == 0

    yield remount
    # Maps of files may be open still.
    assert libc.umount2(str(place).encode(), DETACH) == 0


def results(folder: str) -> dict[str, bytes]:
    return {file: Path(folder, file).read_bytes() for file in ("selection.json", "selected.jsonl", "rejected.jsonl")}


@pytest.mark.filterwarnings("ignore:.* will not go on from this sweep:RuntimeWarning")
@pytest.mark.parametrize("long_seconds", [0.0, 1.0])
def test_a_disk_that_is_full_again_and_again(
    disk: Callable[..., None],
    long_seconds: float,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal, "LONG_SECONDS", long_seconds)
    assert main([*RUN, "whole"]) == 0
    failed, size = set(), 1 << 14
    while (code := main([*RUN, "disk/out"])) != 0:
        said = capsys.readouterr().err
        assert code == RESOURCE, said
        assert_says(said, ("disk/out", "No space left on device", "free some space", "the same command again"))
        assert not list(Path("disk").rglob(".*.tmp"))
        failed.add(said.split(":")[1])
        size += 1 << (13 if long_seconds else 15)
        disk(size)
    # Full at texts, vectors, model, scores, choice and report.
    assert len(failed) > (5 if long_seconds else 2), failed
    assert results("disk/out") == results("whole")


def test_a_disk_that_cannot_be_written(disk: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    disk(1 << 22)
    assert main([*RUN, "disk/out"]) == 0
    expected = results("disk/out")
    Path("disk/out/selected.jsonl").unlink()
    before = snapshot("disk/out")
    disk(1 << 22, REMOUNT | READ_ONLY)
    capsys.readouterr()
    for arguments in (["select", "--quiet", "-o", "disk/out"], [*RUN, "disk/out"], [*RUN, "disk/new"]):
        code, said = command(arguments, capsys)
        assert code == RESOURCE
        assert_says(said, ("disk", "cannot be written", "change its permissions, or mount it writable"))
    assert snapshot("disk/out") == before
    disk(1 << 22)
    assert main([*RUN, "disk/out"]) == 0
    assert results("disk/out") == expected


FULL = Path("/dev/full")
needs_a_full_device = pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")


@needs_a_full_device
@pytest.mark.parametrize("form", ["jsonl", "arrow"])
def test_a_stream_that_cannot_be_sent(with_vectors: Path, form: str) -> None:
    command = [*SOURCE, "score", "--model", str(with_vectors / "out"), "--quiet", f"--format={form}", "pool.npy"]
    np.save("pool.npy", np.ones((100, 6), np.float32))
    with FULL.open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == RESOURCE, done.stderr
    assert_says(done.stderr, ("standard output: cannot be written (No space left on device)", "free some space"))
    assert done.stderr.count("\n") == 1


@needs_a_full_device
def test_rows_that_cannot_be_noted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where temporary files go there is no room, while there is some at the run folder."""
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", lambda **_: FULL.open("r+b", buffering=0))
    code, said = command([*RUN, "out"], capsys)
    assert code == RESOURCE
    assert_says(said, (tempfile.gettempdir(), "cannot be noted there (No space left on device)", "TMPDIR"))
    assert not Path("out").exists()


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)


HARM: dict[str, Callable[[Path], object]] = {
    "a bit flipped": _flip,
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-4]),
    "missing": Path.unlink,
    "one shard twice": lambda file: shutil.copy(file.with_name("00000.npy"), file),
    "of another d": lambda file: np.save(file, np.load(file)[:, :3].copy()),
    "of another dtype": lambda file: np.save(file, np.load(file).astype(np.float64)),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_shard_of_vectors_that_is_not_what_was_written(harm: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "out"]) == 0
    expected, shard = results("out"), Path("out/vectors/pool/00001.npy")
    HARM[harm](shard)
    shutil.rmtree("out/scores")
    capsys.readouterr()
    if harm != "missing":
        code, said = command(["score", "--quiet", "-o", "out"], capsys)
        assert code == DATA
        assert_says(said, (str(shard), "damaged", "delete it"))
        shard.unlink()
    assert main([*RUN, "out"]) == 0
    assert results("out") == expected


def test_a_table_of_a_shard_that_is_not_what_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows and columns as they were, and one document named otherwise."""
    assert main([*RUN, "out"]) == 0
    expected, file = results("out"), Path("out/vectors/pool/00001.parquet")
    table = pq.read_table(file)
    ids = ["another", *table["id"].to_pylist()[1:]]
    pq.write_table(table.set_column(0, "id", pa.array(ids)), file)
    shutil.rmtree("out/scores")
    capsys.readouterr()
    code, said = command(["score", "--quiet", "-o", "out"], capsys)
    assert code == DATA
    assert_says(said, (str(file), "do not match their hash", "delete it"))
    file.unlink()
    assert main([*RUN, "out"]) == 0
    assert results("out") == expected
