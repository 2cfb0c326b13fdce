"""Memory: what is said to be needed is what a run holds, too little is refused, and no result depends on it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from faults import DATA, GOOD, POOL, TARGET, assert_says, command, finish_run, flags, snapshot
from gapsel import memory
from gapsel.errors import ResourceError
from gapsel.potentials import gather

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

ENVIRONMENT = 5
GB = 10**9
# Runs gapsel and prints the most that the process held beyond mapped files, looked at every 5 ms.
WATCHED = """
import sys, threading, time
import gapsel
def held():
    with open("/proc/self/status") as status:
        return 1024 * int(status.read().partition("RssAnon:")[2].split()[0])
peak, done = [0], threading.Event()
def watch():
    while not done.wait(0.005):
        peak[0] = max(peak[0], held())
watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
gapsel.run("out", pool_vectors="pool.npy", target_vectors="target.npy", k="1%", mass=0.5, memory="600MB", threads=2)
done.set()
watcher.join()
print(peak[0])
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    np.save("pool.npy", POOL)
    np.save("target.npy", TARGET)
    yield
    memory.allow(None)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_run_holds_no_more_than_is_said(tmp_path: Path) -> None:
    n, m, d = 400_000, 8, 4
    rng = np.random.default_rng(0)
    np.save("pool.npy", rng.standard_normal((n, d)).astype(np.float16))
    np.save("target.npy", rng.standard_normal((m, d)).astype(np.float32) + 1)
    said = subprocess.run([sys.executable, "-c", WATCHED], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert memory.needed(n, m, d) / 5 < int(said.stdout) < memory.needed(n, m, d)
    assert len(Path("out/selected.jsonl").read_text(encoding="utf-8").splitlines()) == n // 100


def test_what_is_too_little_is_refused_with_what_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = command(["run", *flags(GOOD), "--memory=100MB", "-o", "out"], capsys)
    assert code == ENVIRONMENT
    assert_says(said, ("60 documents", "6 targets", "--memory allows 100 MB", "--memory 0.5GB"))
    assert snapshot("out") is None, "nothing was begun"
    assert command(["run", *flags(GOOD), "--memory=plenty", "-o", "out"], capsys)[0] == 2


def test_a_run_goes_on_with_more_memory(capsys: pytest.CaptureFixture[str]) -> None:
    finish_run()
    before = json.loads(Path("out/run.json").read_text(encoding="utf-8"))["steps"]
    assert command(["select", "-o", "out", "-k", "7", "--memory=1MB"], capsys)[0] == ENVIRONMENT
    from gapsel.cli import main

    assert main(["run", *flags(GOOD), "--memory=3GB", "--quiet", "-o", "out"]) == 0
    capsys.readouterr()
    after = json.loads(Path("out/run.json").read_text(encoding="utf-8"))["steps"]
    assert after == before, "memory is no part of what a result depends on"


def test_large_gathers_go_through_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    shards: list[NDArray[np.floating]] = [
        rng.standard_normal((50, 7)).astype(np.float16),
        rng.standard_normal((30, 7)).astype(np.float32),
    ]
    rows = np.sort(rng.choice(80, 40, replace=False))
    held = gather(shards, rows)
    monkeypatch.setattr("gapsel.potentials.gathering._HELD_AT_LEAST", 1)
    monkeypatch.setattr("gapsel.potentials.gathering._BLOCK_ROWS", 9)
    memory.allow(1000)
    spilled = gather(shards, rows)
    assert isinstance(spilled, np.memmap)
    assert not isinstance(held, np.memmap)
    np.testing.assert_array_equal(spilled, held)
    np.testing.assert_array_equal(held, np.concatenate([shard.astype(np.float32) for shard in shards])[rows])


def test_a_container_has_less_than_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    physical = memory.machine()
    monkeypatch.setattr(memory, "_containers", lambda: [physical // 4, 10**18])
    assert memory.machine() == physical // 4
    assert memory.limit() == physical // 8
    memory.allow(2 * GB)
    assert memory.limit() == 2 * GB
    assert memory.share(0.25, least=1) == GB // 2
    assert memory.share(0.25, least=GB) == GB
    assert memory.share(0.25, least=1, most=1000) == 1000


def test_many_targets_need_memory_of_their_own() -> None:
    memory.allow(GB)
    memory.check(1_000_000, 1000, 384)
    with pytest.raises(ResourceError, match="20,000 targets need about"):
        memory.check(1_000_000, 20_000, 384)


def test_bad_data_is_said_before_memory(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("pool.npy", np.where(np.arange(60)[:, None] == 7, np.nan, POOL).astype(np.float32))
    assert command(["run", *flags(GOOD), "--memory=1MB", "-o", "out"], capsys)[0] == DATA
