"""One command at a time in a run folder: the second is refused, and a lock is no longer than its holder's life."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from faults import GOOD, POOL, RESOURCE, TARGET, assert_says, command, finish_run, flags, snapshot
from gapsel.errors import ResourceError, UsageError
from gapsel.files import sweep_leftovers, whole
from gapsel.pipeline.folder.lock import Lock

HOLDER = """
import sys, time
from pathlib import Path
from gapsel.pipeline.folder.lock import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("pool.npy", POOL)
    np.save("target.npy", TARGET)


def hold(folder: str) -> subprocess.Popen[str]:
    """Start a process that holds the lock, and wait until it does."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, folder], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def end(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait(60)
    assert holder.stdout is not None
    holder.stdout.close()


def test_a_second_process_is_refused_until_the_first_is_dead(capsys: pytest.CaptureFixture[str]) -> None:
    finish_run()
    holder = hold("out")
    before = snapshot("out")
    for arguments in (["run", *flags(GOOD)], ["select", "-k=7"], ["report"]):
        code, said = command([*arguments, "--quiet", "-o", "out"], capsys)
        assert code == RESOURCE
        assert_says(said, ("out: is in use", f"process {holder.pid} on {os.uname().nodename}", "wait until it has"))
    assert snapshot("out") == before
    end(holder)
    assert Path("out/.run.lock").exists()
    finish_run()
    assert not Path("out/.run.lock").exists()


def test_a_second_holder_in_one_process_is_refused() -> None:
    with Lock(Path("out")), Lock(Path("out"), "other"), pytest.raises(ResourceError, match=f"process {os.getpid()} "):
        Lock(Path("out")).__enter__()
    with Lock(Path("out")):
        assert Path("out/.run.lock").exists()
    assert not Path("out").exists()


def test_of_many_at_once_each_has_it_alone() -> None:
    source = """
import sys, time
from pathlib import Path
from gapsel.errors import ResourceError, UsageError
from gapsel.pipeline.folder.lock import Lock
done = 0
while done < 20:
    try:
        with Lock(Path("deep/out")):
            inside = Path(sys.argv[1], "inside")
            inside.mkdir()
            inside.rmdir()
            done += 1
    except ResourceError as error:
        assert "is in use" in str(error)
"""
    Path("shared").mkdir()
    started = [subprocess.Popen([sys.executable, "-c", source, "shared"]) for _ in range(4)]
    assert [one.wait(120) for one in started] == [0] * 4
    assert not list(Path("deep").rglob("*.lock"))


def test_a_task_killed_before_it_has_written_is_no_hindrance() -> None:
    """All that it leaves are its locks."""
    Path("out").mkdir()
    for name in (".run.lock", ".task-0-of-4.lock"):
        Path("out", name).touch()
    finish_run()
    assert not list(Path("out").glob(".run.lock"))
    Path("other").mkdir()
    Path("other/.task.lock").touch()
    with pytest.raises(UsageError, match="other: is there already and is no run folder"):
        finish_run("other")


def test_half_files_of_the_dead_are_swept_away_and_those_of_the_living_not() -> None:
    Path("out/deep").mkdir(parents=True)
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    living = Path(f"out/.a.json.{sleeper.pid}.tmp")
    dead = [
        Path("out/deep/.00002.npy.4194304999.tmp"),
        Path(f"out/.b.{os.getpid()}.tmp"),
        Path("out/.c.99999999999999999999.tmp"),
    ]
    others = [Path("out/.hidden.tmp"), Path("out/a.json.123.tmp"), Path("out/.a.json.12x.tmp")]
    for file in (living, *dead, *others):
        file.touch()
    sweep_leftovers(Path("out"))
    assert living.exists()
    assert all(file.exists() for file in others)
    assert not any(file.exists() for file in dead)
    sleeper.kill()
    sleeper.wait(60)
    sweep_leftovers(Path("out"))
    assert not living.exists()


def test_two_that_write_one_file_do_not_meet_in_its_temporary_one() -> None:
    """As two containers do, whose processes have one number."""
    with whole("deep/out/run.json") as one:
        one.write(b"one")
        with whole("deep/out/run.json") as other:
            other.write(b"the other")
        assert Path("deep/out/run.json").read_bytes() == b"the other"
    assert Path("deep/out/run.json").read_bytes() == b"one"
    assert [file.name for file in Path("deep/out").iterdir()] == ["run.json"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells files by the numbers that Linux shows")
def test_new_folders_last_as_their_files_do(monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    sync = os.fsync

    def note(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    with whole("deep/out/run.json"):
        pass
    here = Path.cwd()
    assert synced[:2] == [here, here / "deep"]
    assert synced[2].name.endswith(".tmp")
    assert synced[3:] == [here / "deep/out"]


def test_where_nothing_can_be_written_nothing_is_locked() -> None:
    Path("file").touch()
    with pytest.raises(ResourceError, match="file/out: cannot be written"):
        Lock(Path("file/out")).__enter__()
