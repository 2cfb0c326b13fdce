"""The page is up to date whichever door came last: mixtures and evaluations beside the findings, and rules among them.

What follows from something that the folder has no more is not shown, and nothing is measured again for a new page.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gapsel
from gapsel.cli import main
from gapsel.pipeline.folder.run_folder import RunFolder
from gapsel.pipeline.steps.page import EVALUATION, remember_study
from gapsel.report.numbers import number
from sample_run import EVALUATION as EVALUATED
from sample_run import read

N, M, D, K = 240, 12, 6, 24
DOMAINS = ("sea", "bread", "law")
MIX = ["mix", "--quiet", "--label-field=domain"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of three domains, a target of two tasks, and a run under rules."""
    home = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    for side, of in (("pool", np.arange(N) % 3), ("one", np.zeros(M, int)), ("two", np.ones(M, int))):
        np.save(home / f"{side}.npy", (np.eye(3, D)[of] + 0.2 * rng.normal(size=(len(of), D))).astype(np.float32))
        rows = [{"id": f"{side}-{i}", "text": f"text {i}", "domain": DOMAINS[at]} for i, at in enumerate(of)]
        (home / f"{side}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "not.txt").write_text("pool-0\npool-3\nnobody\n")
    gapsel.run(home / "run", **settings(home))
    return home


def settings(home: Path) -> dict[str, Any]:
    sides: dict[str, Any] = {"pool": home / "pool.jsonl", "pool_vectors": home / "pool.npy"}
    tasks = {f"target{kind}": [[home / f"{name}{end}"] for name in ("one", "two")] for kind, end in KINDS}
    rules = {"at_most": ["domain=50%"], "exclude": [home / "not.txt"], "max_cosine": 0.9999}
    return {
        **sides,
        **tasks,
        **rules,
        "k": K,
        "label_field": "domain",
        "methods": ["random"],
        "backend": "cpu",
        "balance": "tasks",
    }


KINDS = (("", ".jsonl"), ("_vectors", ".npy"))


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(home / "run", tmp_path / "run"))


def text(run: Path) -> str:
    return read((run / "report.html").read_text()).text


def times(run: Path) -> dict[str, float]:
    steps = json.loads((run / "run.json").read_text())["steps"]
    return {name: facts["seconds"] for name, facts in steps.items()}


def test_rules_and_tasks_are_told_as_the_choice_has_them(run: Path) -> None:
    found = json.loads((run / "findings.json").read_text())
    lines = [json.loads(line) for line in (run / "selected.jsonl").read_text().splitlines()]
    (quota,) = found["rules"]["at_most"]
    shares = {one["name"]: one["chosen"] for one in quota["largest"]}
    assert shares == {name: count / K for name in DOMAINS if (count := sum(line["domain"] == name for line in lines))}
    assert max(shares.values()) <= quota["share"] == 0.5
    assert [one["pool"] for one in quota["largest"]] == pytest.approx([1 / 3] * len(shares))
    assert {one["name"] for one in quota["largest"] if one["full"]} == set(quota["names"])
    nearest = [line["gapsel_nearest"].partition("-")[0] for line in lines]
    assert [task["chosen"] for task in found["tasks"]] == pytest.approx([nearest.count(t) / K for t in ("one", "two")])
    said = text(run)
    assert "Rules of the choice" in said
    assert "not.txt: 2 of its 3 entries are in the pool, 2 documents left out." in said
    assert "Each task by itself" in said


def test_a_mixture_comes_onto_the_page_without_a_new_measurement(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, done = text(run), times(run)
    monkeypatch.setattr("gapsel.pipeline.steps.report.gather_findings", None)
    assert main([*MIX, "-o", str(run)]) == 0
    assert "How much of each domain" in text(run)
    assert "How much of each domain" not in before
    assert times(run) == done
    weights = {one["domain"]: one["weight"] for one in json.loads((run / "mixture.json").read_text())["domains"]}
    assert f"{100 * weights['sea']:.0f}" in text(run).partition("How much of each domain")[2]
    # Another mixture takes the place of this one, and the page follows.
    assert main([*MIX, "-o", str(run), "--eps=2"]) == 0
    assert f"at eps {number(json.loads((run / 'mixture.json').read_text())['eps'])}" in text(run)
    assert times(run) == done


def test_a_mixture_that_came_first_is_in_the_first_report(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = settings(home)
    assert gapsel.mix(out, **given).domains
    assert not (out / "report.html").exists()
    gapsel.run(out, **given)
    assert "How much of each domain" in text(out)
    # A choice that is made anew leaves the mixture what it is.
    assert main(["select", "-o", str(out), "--quiet", "-k=12"]) == 0
    assert main(["report", "-o", str(out), "--quiet"]) == 0
    assert "How much of each domain" in text(out)


def test_a_page_that_a_killed_command_left_behind_is_made_up_for(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("gapsel.pipeline.studies.mixing.renew_page", lambda _: None)
        assert main([*MIX, "-o", str(run)]) == 0
    assert "How much of each domain" not in text(run)
    assert main(["report", "-o", str(run), "--quiet"]) == 0
    assert "How much of each domain" in text(run)
    # What somebody deletes is gone from the page too.
    (run / "mixture.json").unlink()
    assert main(["report", "-o", str(run), "--quiet"]) == 0
    assert "How much of each domain" not in text(run)


def test_an_evaluation_is_shown_as_long_as_the_choice_is_that_one(run: Path) -> None:
    found = replace(EVALUATED, k=K)
    (run / EVALUATION).write_text(json.dumps(asdict(found)))
    remember_study(RunFolder.open(run), "evaluation", "as it is", {})
    for arguments in ([], ["--methods", "nearest"]):
        assert main(["report", "-o", str(run), "--quiet", *arguments]) == 0
        assert "Does it help?" in text(run)
    assert main(["select", "-o", str(run), "--quiet", "-k=12"]) == 0
    assert main(["report", "-o", str(run), "--quiet"]) == 0
    assert "Does it help?" not in text(run)


@pytest.mark.parametrize("content", ["{", "[]", '{"k": 1}'])
def test_a_damaged_mixture_is_named(run: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*MIX, "-o", str(run)]) == 0
    (run / "mixture.json").write_text(content)
    (run / "findings.json").unlink()
    assert main(["report", "-o", str(run), "--quiet"]) == 3
    said = capsys.readouterr().err
    assert "mixture.json" in said
    assert "delete it, and give the same command again" in said
    (run / "mixture.json").unlink()
    assert main(["report", "-o", str(run), "--quiet"]) == 0
