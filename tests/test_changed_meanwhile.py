"""Inputs that change while a run reads them: it ends, keeps nothing of both, and is right once they are back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from faults import DATA, GOOD, POOL, TARGET, assert_says, command, flags
from gapsel.cli import main
from gapsel.pipeline.folder import journal, parts
from gapsel.pipeline.steps import order, score
from gapsel.pipeline.vectors import given

if TYPE_CHECKING:
    from collections.abc import Callable

RUN = ["run", "--quiet", *flags(GOOD), "-o"]
TASK = ["score", "--quiet", "--task-index=0", "--task-count=1", "-o"]


@pytest.fixture(autouse=True)
def _inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parts, "PART_ROWS", 16)
    monkeypatch.setattr(journal, "LONG_SECONDS", 0.0)
    np.save("target.npy", TARGET)


def changed() -> None:
    """Another pool, in the same file."""
    np.save("pool.npy", POOL[::-1].astype(np.load("pool.npy", mmap_mode="r").dtype))


def once(change: Callable[[], object], inner: Callable[..., object]) -> Callable[..., object]:
    """Do something before the first call of a function."""
    left = [change]

    def outer(*arguments: object, **more: object) -> object:
        if left:
            left.pop()()
        return inner(*arguments, **more)

    return outer


def results(folder: str) -> list[bytes]:
    files = [*Path(folder, "scores").iterdir(), Path(folder, "selection.json"), Path(folder, "selected.jsonl")]
    return [file.read_bytes() for file in sorted(files)]


# Where it changes: the function before which it does, the command, and the steps that are done by then.
PLACES = {
    "bring": (given, "check_block", RUN, []),
    "fit": (order, "fit", RUN, ["embed"]),
    "score": (score, "write_part", RUN, ["embed", "fit"]),
    "select": (order, "select", RUN, ["embed", "fit", "score"]),
    "report": (order, "report", RUN, ["embed", "fit", "score", "select"]),
    "a task's score": (score, "write_part", TASK, ["embed", "fit"]),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_of_two_pools_is_let_go(
    place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = POOL.astype(np.float64 if place == "bring" else np.float32)
    np.save("pool.npy", pool)
    assert main([*RUN, "whole"]) == 0
    owner, name, door, done = PLACES[place]
    if door is TASK:
        assert main(["embed", "--quiet", *flags(GOOD)[:2], "-o", "out"]) == 0
        assert main(["fit", "--quiet", *flags(GOOD)[2:], "-o", "out"]) == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        if owner is order:
            patch.setitem(order.DOORS, name, once(changed, order.DOORS[name]))
        else:
            patch.setattr(owner, name, once(changed, getattr(owner, name)))
        code, said = command([*door, "out"], capsys)
    assert code == DATA
    assert_says(said, ("pool_vectors", "the files have changed since the run", "put them back"))
    assert list(json.loads(Path("out/run.json").read_text())["steps"]) == done
    told = {"model.safetensors": "fit", "selection.json": "select", "selected.jsonl": "select", "report.html": "report"}
    assert {file for file in told if Path("out", file).exists()} == {file for file in told if told[file] in done}
    np.save("pool.npy", pool)
    assert main([*RUN, "out"]) == 0
    assert results("out") == results("whole")


def test_a_file_that_is_only_touched_or_copied_back_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("pool.npy", POOL)
    touched = once(lambda: os.utime("pool.npy"), order.DOORS["fit"])
    monkeypatch.setitem(order.DOORS, "fit", touched)
    monkeypatch.setitem(order.DOORS, "select", once(lambda: np.save("pool.npy", POOL), order.DOORS["select"]))
    assert main([*RUN, "out"]) == 0
