"""`gapsel evaluate` on planted topics: what is known beforehand comes out, and what is done is not done again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gapsel
from gapsel import evaluation, pipeline
from gapsel.cli import main
from gapsel.errors import UsageError
from gapsel.pipeline.studies.trials import train_and_judge

WORDS = {"sea": ["ship", "sail", "mast", "tide", "gull"], "bread": ["loaf", "oven", "flour", "yeast", "crust"]}
N, M, D, K = 200, 8, 8, 24
FAST = {
    "warm_tokens": 1536, "tune_tokens": 128, "context": 16, "seeds": 2, "threads": 1, "learning_rate": 3e-3,
    "masses": ("0",), "methods": ("random", "nearest"),
}  # fmt: skip


def rows(topic: str, count: int, seed: int) -> list[dict[str, str]]:
    rng = np.random.default_rng([seed, len(topic)])
    return [{"text": " ".join(rng.choice(WORDS[topic], size=12)), "topic": topic} for _ in range(count)]


def write(file: Path, records: list[dict[str, str]]) -> Path:
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of which a fifth is about the sea, a target that is about nothing else, and a tiny GPT that knows both."""
    home = tmp_path_factory.mktemp("evaluate")
    rng = np.random.default_rng(0)
    topics = np.where(np.arange(N) % 5 == 0, "sea", "bread")
    texts = {topic: iter(rows(topic, N, 0)) for topic in WORDS}
    pool = [next(texts[topic]) for topic in topics]
    write(home / "pool.jsonl", pool)
    write(home / "target.jsonl", rows("sea", M, 1))
    write(home / "held_out.jsonl", rows("sea", 12, 2))
    for name, of in (("pool", topics), ("target", np.array(["sea"] * M))):
        x = np.eye(2, D)[(of == "sea").astype(int)] + 0.2 * rng.normal(size=(len(of), D))
        np.save(home / f"{name}.npy", x.astype(np.float32))
    size = evaluation.Size(16, layers=1, width=32, heads=2, vocabulary=300)
    evaluation.make(home / "lm", [one["text"] for one in pool], size, 4096, seed=0, threads=1)
    inputs: dict[str, Any] = {name: home / f"{name}.jsonl" for name in ("pool", "target")}
    vectors: dict[str, Any] = {f"{name}_vectors": home / f"{name}.npy" for name in ("pool", "target")}
    gapsel.run(home / "run", **inputs, **vectors, k=K, label_field="topic", methods=())
    return home


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(home / "run", tmp_path / "run"))


def evaluate(home: Path, run: Path, **changed: object) -> dict[str, Any]:
    given: dict[str, Any] = {**FAST, "test": home / "held_out.jsonl", "lm": home / "lm", **changed}
    return gapsel.evaluate(run, **given)


def lines(home: Path, run: Path) -> list[str]:
    """Return the same as a command."""
    flags = {**FAST, "test": home / "held_out.jsonl", "lm": home / "lm"}
    given = [[f"--{name.replace('_', '-')}", *(v if isinstance(v, tuple) else [v])] for name, v in flags.items()]
    return ["evaluate", "-o", str(run), "--quiet", *(str(one) for pair in given for one in pair)]


@pytest.fixture(scope="module")
def found(home: Path) -> dict[str, Any]:
    """An evaluation from end to end, in the run folder of all."""
    return evaluate(home, home / "run")


def by_name(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in found["methods"]}


def test_the_topic_of_the_target_beats_random(found: dict[str, Any]) -> None:
    methods = by_name(found)
    assert list(methods) == ["no warm-up", "random", "nearest neighbours", "gapsel, mass 0", "gapsel, mass 0.5"]
    for name in ("nearest neighbours", "gapsel, mass 0", "gapsel, mass 0.5"):
        one = methods[name]
        assert one["precision"] == 1
        assert one["warmed"]["mean"] < methods["random"]["warmed"]["mean"] - 0.2
        assert one["tuned"]["mean"] < methods["random"]["tuned"]["mean"]
        assert one["against"]["mean"] < 0
        assert one["rank"] < methods["random"]["rank"] == 4
    assert methods["random"]["precision"] == pytest.approx(0.2, abs=0.15)
    assert methods["random"]["verdict"] is None
    assert methods["no warm-up"]["rank"] is None
    assert methods["no warm-up"]["warmed"]["mean"] == pytest.approx(found["lm"]["loss"])


def test_what_is_told_of_a_method_follows_from_its_trials(found: dict[str, Any]) -> None:
    random = by_name(found)["random"]["trials"]
    for one in found["methods"]:
        tuned = [trial["tuned"] for trial in one["trials"]]
        assert len(tuned) == 2
        assert one["tuned"]["mean"] == pytest.approx(np.mean(tuned))
        # Two seeds: t with one degree of freedom.
        half = 12.7062 * np.std(tuned, ddof=1) / np.sqrt(2)
        assert one["tuned"]["upper"] - one["tuned"]["mean"] == pytest.approx(half, rel=1e-4)
        if one["against"]:
            pairs = [a["tuned"] - b["tuned"] for a, b in zip(one["trials"], random, strict=True)]
            assert one["against"]["mean"] == pytest.approx(np.mean(pairs))


def test_the_run_record_and_the_summary_tell_the_same(home: Path, found: dict[str, Any]) -> None:
    assert json.loads((home / "run" / "evaluation.json").read_text()) == found
    record = json.loads((home / "run" / "run.json").read_text())
    assert record["settings"]["warm_tokens"] == FAST["warm_tokens"]
    told = record["evaluation"]
    assert (told["file"], told["methods"]) == ("evaluation.json", ["random", "nearest"])
    assert record["settings"]["methods"] == [], "the report is still of those that it was made of"
    assert not (home / "run" / ".sweeps").exists()
    assert {"embed", "fit", "score", "select"} <= set(record["steps"])
    assert found["held_out"]["documents"] == 12
    assert found["held_out"]["in_target"] == 0


@pytest.mark.usefixtures("found")
def test_nothing_is_trained_or_chosen_twice(
    home: Path, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "trial", None)
    assert main(lines(home, run)) == 0
    said = capsys.readouterr().out
    for word in ("nearest neighbours", "gapsel, mass 0.5", "after fine-tuning", "2 seeds", "lm: "):
        assert word in said
    assert main([*lines(home, run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((home / "run" / "evaluation.json").read_text())


@pytest.mark.usefixtures("found")
def test_the_report_tells_it_as_long_as_the_choice_is_that_one(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "Does it help?" in page
    assert page.index("rank ") < page.index("Scores"), "what came of it is part of the answer"
    assert main(["report", "-o", str(run), "--quiet", "--methods", "random"]) == 0
    assert "Does it help?" in (run / "report.html").read_text()
    assert main(["select", "-o", str(run), "--quiet", "-k=9"]) == main(["report", "-o", str(run), "--quiet"]) == 0
    assert "Does it help?" not in (run / "report.html").read_text(), "models were trained on another choice"


def test_a_stopped_evaluation_goes_on_to_the_same_numbers(
    home: Path, run: Path, found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(run / "evaluation")
    real, left = evaluation.trial, [4, 6]

    def trial(*given: Any, **more: Any) -> evaluation.Trial:  # noqa: ANN401 - passed on
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(*given, **more)

    monkeypatch.setattr(evaluation, "trial", trial)
    with pytest.raises(KeyboardInterrupt):
        evaluate(home, run)
    assert len(json.loads((run / "evaluation" / "trainings.json").read_text())) == 4
    left.pop(0)
    again = by_name(evaluate(home, run))
    assert left == [0], "six of the ten trainings were left"
    for name, one in by_name(found).items():
        assert again[name]["trials"] == one["trials"]


@pytest.mark.usefixtures("found")
def test_another_seed_and_another_rate_train_what_is_new(
    home: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []

    def trial(*_given: object, seed: int, **_more: object) -> evaluation.Trial:
        trained.append(seed)
        return evaluation.Trial(2.0, 1.0 + seed)

    monkeypatch.setattr(evaluation, "trial", trial)
    evaluate(home, run, seeds=3)
    assert trained == [2] * 5
    evaluate(home, run, seeds=1, learning_rate=1e-4)
    assert trained == [2] * 5 + [0] * 5


def test_the_small_gpt_is_made_of_the_pool_once(home: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few: dict[str, Any] = {
        "lm": None,
        "pretrain_tokens": 256,
        "warm_tokens": 128,
        "tune_tokens": 128,
        "seeds": 1,
        "methods": (),
    }
    one = evaluate(home, run, **few)
    assert one["lm"]["model"] == "a small GPT, trained on 256 tokens of the pool's text"
    assert one["lm"]["parameters"] > 800_000
    monkeypatch.setattr(evaluation, "make", None)
    assert evaluate(home, run, **few)["lm"] == one["lm"]


def test_held_out_texts_that_were_seen_are_counted_and_warned_of(
    home: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [json.loads(line) for line in (home / "target.jsonl").read_text().splitlines()]
    chosen = [json.loads(line) for line in (run / "selected.jsonl").read_text().splitlines()]
    seen = write(tmp_path / "seen.jsonl", [*rows("sea", 5, 3), *own[:2], {"text": chosen[0]["text"]}])
    monkeypatch.setattr(evaluation, "trial", lambda *_given, **_more: evaluation.Trial(2.0, 1.0))
    monkeypatch.setattr(evaluation.Lm, "loss", lambda *_given: 21.0)
    with pipeline.reopen(run, {**FAST, "test": seen, "lm": home / "lm"}, quiet=False) as opened:
        pipeline.advance(opened, "select")
        found = train_and_judge(opened)
    assert (found["held_out"]["documents"], found["held_out"]["in_target"]) == (8, 2)
    assert by_name(found)["gapsel, mass 0.5"]["held_out_chosen"] == 1
    said = capsys.readouterr().err
    assert "warning: 2 of 8 held-out texts are in the target too" in said
    assert "warning: 1 of 8 held-out texts are also among what some method chose from the pool" in said
    assert "warning: lm loses 21.0 nats per token of the held-out texts, and guessing 5.7" in said


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"test": ()}, "test is empty: name held-out examples of the task"),
        ({"methods": ("curated",), "label_field": None}, "curated goes by labels"),
    ],
)
def test_what_cannot_be_evaluated_is_said_before_the_work(
    home: Path, run: Path, changed: dict[str, Any], words: str
) -> None:
    shutil.rmtree(run / "evaluation", ignore_errors=True)
    with pytest.raises(UsageError, match=words):
        evaluate(home, run, **changed)
    assert not (run / "evaluation").exists()


def test_what_is_avoided_is_avoided_at_every_mass(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the documents about the sea, and all of the target, lie aside in one more dimension: that is avoided."""
    x, aside = np.load(home / "pool.npy"), 0.6 * np.eye(1, D, D - 1, dtype=np.float32)
    x[::10] += aside
    np.save(tmp_path / "pool.npy", x)
    np.save(tmp_path / "avoid.npy", np.load(home / "target.npy")[:4] + 3 * aside)
    inputs: dict[str, Any] = {name: home / f"{name}.jsonl" for name in ("pool", "target")}
    inputs |= {"pool_vectors": tmp_path / "pool.npy", "target_vectors": home / "target.npy"}
    monkeypatch.setattr(evaluation, "trial", lambda *_given, **_more: evaluation.Trial(2.0, 1.0))
    ways: dict[str, dict[str, Any]] = {"plain": {}, "kept off": {"avoid_vectors": tmp_path / "avoid.npy"}}
    taken = {}
    for name, more in ways.items():
        chosen = gapsel.run(tmp_path / name, **inputs, **more, k=K, label_field="topic", methods=()).rows
        found = by_name(evaluate(home, tmp_path / name, masses=("0", "1")))
        kept = json.loads((tmp_path / name / "evaluation" / "choices.json").read_text()).values()
        rows = {one["name"]: np.array(one["rows"]) for one in kept}
        assert list(found)[-3:] == ["gapsel, mass 0", "gapsel, mass 0.5", "gapsel, mass 1"]
        assert np.array_equal(rows["gapsel, mass 0.5"], chosen)
        taken[name] = [int((rows[f"gapsel, mass {mass}"] % 10 == 0).sum()) for mass in ("0", "0.5", "1")]
        assert "Does it help?" in (tmp_path / name / "report.html").read_text()
    assert all(off < plain for off, plain in zip(taken["kept off"], taken["plain"], strict=True)), taken


def test_vectors_alone_cannot_be_evaluated(home: Path, tmp_path: Path) -> None:
    vectors: dict[str, Any] = {f"{name}_vectors": home / f"{name}.npy" for name in ("pool", "target")}
    gapsel.run(tmp_path / "run", **vectors, k=3, methods=())
    with pytest.raises(UsageError, match="the pool was given as vectors alone, and a model is trained on texts"):
        evaluate(home, tmp_path / "run")
