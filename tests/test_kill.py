"""A command killed at any instant, again and again, and then left alone: the files of one that was never killed."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from faults import POOL, TARGET
from gapsel import model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Command = Callable[[int, list[str]], int]

TEXTS = ["--pool=pool.jsonl", "--pool-vectors=pool.npy", "--target=target.jsonl", "--target-vectors=target.npy"]
RUN = ["run", *TEXTS, "-k=5", "--tolerance=0.01", "--quiet", "-o"]
# What tells the time, and how much memory there was, differs from run to run.
# Stamps tell times of files, and none of files that were written a moment ago.
TIMES = ("seconds", "peak_memory_bytes", "stamps")
NEVER, KILLED = 10**9, -9


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs a command that is killed at an instant, in a folder with a pool and a target."""
    monkeypatch.chdir(tmp_path)
    for side, vectors in {"pool": POOL, "target": TARGET}.items():
        np.save(f"{side}.npy", vectors)
        lines = [json.dumps({"id": f"{side}-{at}", "text": f"{side} {at}"}) for at in range(len(vectors))]
        Path(f"{side}.jsonl").write_text("\n".join([*lines, "{broken", ""]))
    script = Path(__file__).with_name("kill_points.py")
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdin is not None
        stdin, stdout = server.stdin, server.stdout
        assert stdout is not None

        def run(count: int, arguments: list[str]) -> int:
            stdin.write(json.dumps([count, arguments]) + "\n")
            stdin.flush()
            while not (line := stdout.readline()).strip().lstrip("-").isdigit():
                assert line, "the server has ended"
            return int(line)

        yield run
        stdin.close()


def kill_until_done(command: Command, arguments: list[str], seed: int) -> int:
    """Give the command again and again, killed at random instants, until it ends by itself; return the kills."""
    instants = random.Random(seed)  # noqa: S311 - which instants is all that hangs on it
    for died in range(400):
        code = command(instants.randrange(1, 60), arguments)
        if code != KILLED:
            assert code == 0
            return died
    raise AssertionError(arguments)


def state(folder: str) -> dict[str, Any]:
    """Return the contents of all files but for the times they tell: of a model its numbers, of the report nothing."""
    found: dict[str, Any] = {}
    for file in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        name = str(file.relative_to(folder))
        if file.suffix == ".json":
            found[name] = without_times(json.loads(file.read_text()))
        elif file.suffix == ".safetensors":
            p = model.load(file).potentials
            found[name] = p.g.tobytes(), p.target.y.tobytes(), p.eps
        else:
            found[name] = file.suffix == ".html" or file.read_bytes()
    return found


def without_times(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {name: without_times(one) for name, one in value.items() if name not in TIMES}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def test_a_run_killed_at_random_instants_ends_as_one_that_was_not(command: Command) -> None:
    assert command(NEVER, [*RUN, "whole"]) == 0
    expected = state("whole")
    assert kill_until_done(command, [*RUN, "out"], seed=1) > 10
    assert state("out") == expected
    # And so does another k, which goes on from the fit that it takes the place of.
    again = ["select", "-k=9", "--quiet", "-o"]
    assert command(NEVER, [*again, "whole"]) == 0
    assert kill_until_done(command, [*again, "out"], seed=2) > 5
    assert state("out") == state("whole") != expected


def test_a_fit_killed_at_each_instant_of_its_end_ends_the_same(command: Command) -> None:
    """Where the new model takes the old one's place, whichever comes first is not enough to go by."""
    assert command(NEVER, [*RUN, "begun"]) == 0
    fit = ["fit", "-k=9", "--quiet", "-o"]
    shutil.copytree("begun", "whole")
    assert command(NEVER, [*fit, "whole"]) == 0
    expected, instants, code = state("whole"), 0, KILLED
    low, high = 1, 4000
    while low < high:
        middle = (low + high) // 2
        shutil.copytree("begun", "tried")
        low, high = (middle + 1, high) if command(middle, [*fit, "tried"]) == KILLED else (low, middle)
        shutil.rmtree("tried")
    # Just after one change of the disk is just before the next.
    for count in range(low - 40, low, 2):
        shutil.copytree("begun", "out")
        code = command(count, [*fit, "out"])
        assert code == KILLED
        assert command(NEVER, [*fit, "out"]) == 0
        assert state("out") == expected
        shutil.rmtree("out")
        instants += 1
    assert instants == 20
