"""`gapsel mix` and `gapsel.mix`: in a run folder or a new one, by labels or clusters, with documents chosen by it."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gapsel
from gapsel.cli import main
from gapsel.errors import MissingDependencyError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

N, M, D = 300, 20, 6
SEA, BREAD, LAW = "sea", "bread", "law"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts with vectors beside them: a pool of three topics, some rows without one, and a target of two."""
    home = tmp_path_factory.mktemp("mix")
    rng = np.random.default_rng(0)
    of_pool, of_target = np.arange(N) % 3, np.repeat([0, 1], [M // 4, M - M // 4])
    for side, topic in (("pool", of_pool), ("target", of_target)):
        np.save(home / f"{side}.npy", (np.eye(3, D)[topic] + 0.2 * rng.normal(size=(len(topic), D))).astype(np.float32))
        labels: list[str | None] = [(SEA, BREAD, LAW)[at] for at in topic]
        if side == "pool":
            labels[2::30] = [None] * 10
        records = [
            {"id": f"{side}-{at}", "text": f"text {at} of {side}", "topic": label, "all": "one", "own": at}
            for at, label in enumerate(labels)
        ]
        (home / f"{side}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return home


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Path:
    """A folder that has vectors and nothing else."""
    if not (home / "run").exists():
        assert main(["embed", *given(home), "-o", str(home / "run"), "--quiet"]) == 0
    shutil.copytree(home / "run", tmp_path / "run")
    return tmp_path / "run"


def given(home: Path) -> list[str]:
    kinds = (("", ".jsonl"), ("-vectors", ".npy"))
    return [f"--{side}{kind}={home / side}{end}" for side in ("pool", "target") for kind, end in kinds]


def mixed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["mix", "--quiet", "--json", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_shares_of_the_target_are_found(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = mixed(capsys, "-o", str(run), "--label-field=topic")
    assert found.pop("folder") == str(run)
    assert found == json.loads((run / "mixture.json").read_text())
    assert found["field"] == "topic"
    assert {one["domain"] for one in found["domains"]} == {SEA, BREAD, LAW, "(none)"}
    weight = {one["domain"]: one["weight"] for one in found["domains"]}
    assert weight[BREAD] == pytest.approx(0.75, abs=0.05)
    assert weight[SEA] == pytest.approx(0.25, abs=0.05)
    assert found["mixture"]["upper"] < found["natural"]["lower"]


def test_it_is_remembered_and_changes_nothing_else(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = json.loads((run / "run.json").read_text())
    found = mixed(capsys, "-o", str(run), "--label-field=topic", "--seed=3")
    after = json.loads((run / "run.json").read_text())
    told = after.pop("mixture")
    assert after | {"stamps": None} == before | {"stamps": None}
    assert (told["settings"]["label_field"], told["settings"]["seed"]) == ("topic", 3)
    with monkeypatch.context() as patch:
        patch.setattr("gapsel.pipeline.studies.mixing.mix", None)
        assert mixed(capsys, "-o", str(run), "--label-field=topic", "--seed=3", "-k=7") == found
    assert mixed(capsys, "-o", str(run), "--label-field=topic", "--eps=2")["eps"] != found["eps"]


def test_documents_are_chosen_by_the_weights(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = mixed(capsys, "-o", str(run), "--label-field=topic", "--choose", "-k=40")
    lines = [json.loads(line) for line in (run / found["file"]).read_text().splitlines()]
    counts = Counter(line["topic"] or "(none)" for line in lines)
    assert counts == {one["domain"]: one["chosen"] for one in found["domains"] if one["chosen"]}
    assert sum(counts.values()) == found["k"] == 40
    assert all(abs(one["chosen"] - 40 * one["weight"]) < 1.001 for one in found["domains"])
    assert sorted(line["gapsel_rank"] for line in lines) == list(range(1, 41))
    ranked = sorted(lines, key=lambda line: line["gapsel_rank"])
    assert [line["gapsel_score"] for line in ranked] == sorted(line["gapsel_score"] for line in lines)
    own = {topic: [line["gapsel_nearest"] for line in lines if line["topic"] == topic] for topic in (SEA, BREAD)}
    assert all(int(name.removeprefix("target-")) < M // 4 for name in own[SEA])


def test_no_document_is_wanted_twice(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = mixed(capsys, "-o", str(run), "--label-field=topic", "--choose", "-k=180")
    share = {one["domain"]: one for one in found["domains"]}
    assert share[BREAD]["chosen"] == share[BREAD]["rows"] == 100
    assert share[BREAD]["weight"] == pytest.approx(100 / 180)
    assert share[BREAD]["slope"] < 0


def test_what_is_excluded_is_not_chosen(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "not.txt").write_text("".join(f"pool-{at}\n" for at in range(1, 240, 3)))
    arguments = ["-o", str(run), "--label-field=topic", "--choose", "-k=40"]
    before = mixed(capsys, *arguments)
    after = mixed(capsys, *arguments, f"--exclude={tmp_path / 'not.txt'}")
    share = {one["domain"]: one for one in after["domains"]}
    assert {one["domain"]: one["chosen"] for one in before["domains"]}[BREAD] == 30
    assert share[BREAD]["chosen"] == 20
    assert share[BREAD]["weight"] == pytest.approx(0.5)
    lines = [json.loads(line) for line in (run / after["file"]).read_text().splitlines()]
    assert all(int(line["id"].removeprefix("pool-")) >= 240 for line in lines if line["topic"] == BREAD)


def test_clusters_stand_in_for_labels(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    found = mixed(capsys, "-o", str(run), "--label-field=topic", "--clusters=3")
    assert found["field"] is None
    assert sorted(one["rows"] for one in found["domains"]) == pytest.approx([100, 100, 100], abs=3)
    assert [one["weight"] for one in found["domains"]] == pytest.approx([0.75, 0.25, 0], abs=0.05)


def test_a_new_folder_is_begun_and_taken_up_by_run(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "new")
    assert main(["mix", *given(home), "--label-field=topic", "-o", out, "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "bread" in said
    assert "certificate: no other weights can beat these by more than" in said
    assert main(["run", *given(home), "--label-field=topic", "-k=10", "-o", out, "--quiet"]) == 0
    assert (tmp_path / "new" / "mixture.json").exists()


def test_python_says_the_same(run: Path) -> None:
    found = gapsel.mix(run, label_field="topic", choose=True, k=30)
    assert found.domains[0].domain == BREAD
    assert found.k == 30
    assert found.chosen is not None
    assert (run / str(found.file)).exists()
    assert gapsel.mix(run, label_field="topic", choose=True, k=30) == found


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--label-field=all"], 2, "label_field is 'all': one value, 'one', for all documents"),
        (["--label-field=tropic"], 3, "tropic"),
        (["--label-field=topic", "--choose", "-k=301"], 2, "k is 301"),
        (["--clusters=1"], 2, "clusters is 1"),
        (["--label-field=topic", "--max-sweeps=0"], 2, "max_sweeps"),
    ],
)
def test_what_cannot_be_is_said(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    assert main(["mix", "-o", str(run), "--quiet", *arguments]) == code
    assert says in capsys.readouterr().err
    assert not (run / "mixture.json").exists()


def test_rules_that_are_not_kept_to_are_refused(home: Path, tmp_path: Path) -> None:
    inputs: dict[str, Any] = {f"{side}_vectors": home / f"{side}.npy" for side in ("pool", "target")}
    with pytest.raises(UsageError, match=r"max_cosine is 0\.9, and documents of a mixture"):
        gapsel.mix(tmp_path / "new", **inputs, choose=True, max_cosine=0.9)


def test_a_folder_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mix", "-o", str(tmp_path), "--quiet"]) == 3
    assert "no run folder" in capsys.readouterr().err


def test_a_gap_that_stays_is_told_with_its_exit_code(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gapsel.mixture.solve.PERCENT", 0.0)
    monkeypatch.setattr("gapsel.mixture.solve.OF_DISTANCE", 0.0)
    assert main(["mix", "-o", str(run), "--label-field=topic", "--quiet", "--max-sweeps=3"]) == 4
    assert "not converged" in capsys.readouterr().err
    assert json.loads((run / "mixture.json").read_text())["full_sweeps"] == 3


def test_without_scikit_learn_it_says_what_to_install(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(MissingDependencyError, match=r"gapsel\[clusters\]"):
        gapsel.mix(run)


def test_a_selector_refuses_what_it_would_not_do() -> None:
    with pytest.raises(UsageError, match="clusters"):
        gapsel.Selector(clusters=3)
