"""Methods beside gapsel's choice: which can be had, what is measured of each, and what the command says."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from corridor import state
from gapsel import baselines
from gapsel.cli import main
from gapsel.config import METHODS
from gapsel.cost import cost_matrix
from gapsel.records import Cost

if TYPE_CHECKING:
    from pathlib import Path

N, M, D, K = 120, 12, 8, 10


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts with labels and vectors beside them, two topics, and a run over them."""
    home = tmp_path_factory.mktemp("compare")
    rng = np.random.default_rng(0)
    for side, rows in (("pool", N), ("target", M)):
        topic = rng.integers(2, size=rows) if side == "pool" else np.zeros(rows, int)
        np.save(home / f"{side}.npy", (np.eye(2, D)[topic] + 0.3 * rng.normal(size=(rows, D))).astype(np.float32))
        words = np.array([["sea", "ship", "sail"], ["loaf", "oven", "flour"]])[topic]
        texts = [" ".join(rng.choice(one, size=120)) for one in words]
        records = [{"text": text, "topic": int(one)} for text, one in zip(texts, topic, strict=True)]
        (home / f"{side}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    given = [f"--{side}{kind}={home / side}{end}" for side in ("pool", "target") for kind, end in
             (("", ".jsonl"), ("-vectors", ".npy"))]  # fmt: skip
    assert main(["run", *given, "-k", str(K), "--label-field=topic", "-o", str(home / "run"), "--quiet"]) == 0
    return home


def compared(home: Path, capsys: pytest.CaptureFixture[str], *more: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["compare", "-o", str(home / "run"), "--quiet", "--json", *more]) == 0
    methods: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["methods"]
    return methods


def test_the_settings_know_every_method() -> None:
    assert tuple(baselines.BY_KEY) == METHODS


def test_all_that_can_be_had_are_compared(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = compared(home, capsys)
    assert [one["name"] for one in methods] == [*(baselines.BY_KEY[key].name for key in METHODS), "gapsel"]
    for one in methods:
        assert one["mixture"]["lower"] <= one["mixture"]["upper"]
        assert 0 <= one["coverage"] <= 1
        assert one["seconds"] > 0
        assert one["tokens"] is None, "with vectors given none are counted"
        assert sum(one["mix"].values()) == pytest.approx(1)
    by_name = {one["name"]: one for one in methods}
    assert by_name["gapsel"]["overlap"] == 1
    for name in ("DSIR", "curated"):
        assert by_name[name]["mix"] == {"0": 1.0}, "the target is of one topic, and both see that"
    assert by_name["random"]["precision"] < 1


def test_coverage_is_the_share_of_targets_with_a_chosen_row_among_their_ten_nearest(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = compared(home, capsys, "--methods", "random")[-1]
    x, y = np.load(home / "pool.npy"), np.load(home / "target.npy")
    nearest = np.argsort(cost_matrix(x, y, Cost()), axis=0)[:10].T
    chosen = json.loads((home / "run" / "selection.json").read_text())["rows"]
    assert ours["coverage"] == pytest.approx(np.isin(nearest, chosen).any(axis=1).mean())


def test_the_table_and_the_report_show_each_method(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "-o", str(home / "run"), "--quiet", "--methods", "dsir", "centroid"]) == 0
    said, page = capsys.readouterr().out, (home / "run" / "report.html").read_text()
    for name in ("DSIR", "centroid", "gapsel"):
        assert name in said
        assert name in page
    assert "random" not in said
    assert "coverage" in page


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--methods", "dsri"], "methods is 'dsri': give names among random, nearest"),
        (["--methods", "dsir"], "dsir reads texts, and there are only vectors"),
        (["--methods", "curated"], "curated goes by labels"),
    ],
)
def test_what_cannot_be_had_is_said_before_the_work(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    given = [f"--{side}-vectors={home / side}.npy" for side in ("pool", "target")]
    assert main(["run", *given, "-k", "3", "-o", str(tmp_path / "out"), "--quiet", *more]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out" / "run.json").exists()


def test_vectors_alone_are_compared_by_vectors(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"--{side}-vectors={home / side}.npy" for side in ("pool", "target")]
    assert main(["run", *given, "-k", "3", "-o", str(tmp_path / "run"), "--quiet"]) == 0
    names = [one["name"] for one in compared(tmp_path, capsys)]
    assert names == [*(one.name for one in baselines.BY_VECTORS), "gapsel"]
    shutil.rmtree(tmp_path / "run")


def test_a_target_without_labels_has_nothing_curated(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pool's labels are enough to judge by, and the one method that needs the target's is left out."""
    texts = (json.loads(line)["text"] for line in (home / "target.jsonl").read_text().splitlines())
    (tmp_path / "target.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    given = [f"--pool={home}/pool.jsonl", f"--pool-vectors={home}/pool.npy", f"--target-vectors={home}/target.npy"]
    given += [f"--target={tmp_path}/target.jsonl", "--label-field=topic", "-k", str(K), "--quiet"]
    assert main(["run", *given, "-o", str(tmp_path / "run")]) == 0
    names = [one["name"] for one in compared(tmp_path, capsys)]
    assert names == [*(baselines.BY_KEY[key].name for key in METHODS if key != "curated"), "gapsel"]


def test_the_run_goes_on_as_it_was_told_and_the_report_stays_as_compared(home: Path, tmp_path: Path) -> None:
    given = [f"--{side}-vectors={home / side}.npy" for side in ("pool", "target")]
    again = ["run", *given, "-k", "3", "-o", str(tmp_path / "run"), "--quiet"]
    assert main(again) == 0
    for methods in (["kde", "centroid"], ["kde"]):
        assert main(["compare", "-o", str(tmp_path / "run"), "--quiet", "--methods", *methods]) == 0
    before = state(tmp_path / "run")
    for same in (again, [*again, "--methods=kde"]):
        assert main(same) == 0
        assert state(tmp_path / "run") == before
    assert main([*again, "--methods=centroid"]) == 2, "nobody has asked for that"
    assert main(["report", "-o", str(tmp_path / "run"), "--quiet", "--methods=random"]) == 0
    assert main(again) == 2, "the report was changed knowingly"
