"""What told of a choice goes with it: no file of a run folder is of a choice that the folder has no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gapsel
from faults import GOOD, POOL, TARGET, finish_run
from gapsel.cli import main
from gapsel.pipeline.studies import mixing

if TYPE_CHECKING:
    from gapsel.pipeline.work import Run

CHOICE, TOLD = {"selected.jsonl", "selection.json"}, {"findings.json", "report.html"}
STUDIES = {"mass_path.json", "error_bars.json"}
KEPT = {"run.json", "model.safetensors"}


@pytest.fixture(autouse=True)
def _inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("pool.npy", POOL)
    np.save("target.npy", TARGET)


def names() -> set[str]:
    return {file.name for file in Path("out").iterdir() if file.is_file()}


def record() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("out/run.json").read_text())
    return found


@pytest.mark.parametrize(
    ("command", "gone"),
    [
        (["fit", "--mass=0.9"], CHOICE | TOLD | STUDIES),
        # The choice and its studies are made anew by the same command, and so is the report by another.
        (["select", "-k=7"], TOLD),
        (["select", "--max-cosine=0.5"], TOLD),
        (["select", "--max-cosine=0.5", "--no-mass-path", "--no-error-bars"], TOLD | STUDIES),
        (["report", "--methods", "random"], set()),
    ],
    ids=" ".join,
)
def test_what_told_of_another_choice_is_gone_and_that_is_said(
    command: list[str], gone: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    gapsel.run("out", **GOOD, mass_path=True, error_bars=True)
    assert names() == KEPT | CHOICE | TOLD | STUDIES
    page = Path("out/report.html").read_bytes()
    capsys.readouterr()
    assert main([*command, "-o", "out"]) == 0
    assert names() == (KEPT | CHOICE | TOLD | STUDIES) - gone
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("removed, since it told of")]
    assert all(name in " ".join(said) for name in gone)
    assert bool(said) == bool(gone)
    if "report.html" in names():
        assert Path("out/report.html").read_bytes() != page


def test_scores_of_another_model_are_gone_with_it() -> None:
    finish_run()
    assert list(Path("out/scores").iterdir())
    assert main(["fit", "-o", "out", "--mass=0.9", "--quiet"]) == 0
    assert not list(Path("out/scores").iterdir())


def test_what_is_lost_and_made_again_leaves_what_told_of_it() -> None:
    """The same settings make the same choice, of which all that was said is true."""
    finish_run()
    before = Path("out/report.html").read_bytes()
    Path("out/selected.jsonl").unlink()
    assert main(["select", "-o", "out", "--quiet"]) == 0
    assert Path("out/report.html").read_bytes() == before
    # It is another command's to know that the report was of these settings; then it goes.
    assert main(["select", "-o", "out", "--quiet", "-k=4"]) == 0
    assert not names() & TOLD


def test_more_that_is_asked_about_a_choice_leaves_its_report() -> None:
    finish_run()
    assert main(["select", "-o", "out", "--quiet", "--mass-path"]) == 0
    assert names() >= TOLD


def test_a_step_that_is_refused_has_removed_nothing() -> None:
    finish_run()
    before = names()
    assert main(["select", "-o", "out", "--quiet", "--threshold=-99"]) == 2
    assert main(["fit", "-o", "out", "--quiet", "--fit-rows=20", "--mass=1"]) == 2
    assert names() == before


def test_documents_of_another_mixture_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    finish_run()
    choose = ["mix", "-o", "out", "--clusters=3", "--choose", "--quiet"]
    assert main([*choose, "-k=6"]) == 0
    first, file = record()["mixture"], Path("out/mixture/selected.jsonl")
    assert first["files"] == ["mixture.json", "mixture/selected.jsonl"]
    # Killed after the documents are written, and before the weights are.
    written = file.read_bytes()

    def killed(run: Run, *rest: Any) -> str:  # noqa: ANN401 - passed on
        real(run, *rest)
        raise KeyboardInterrupt

    real = mixing._write
    with monkeypatch.context() as patch:
        patch.setattr(mixing, "_write", killed)
        assert main([*choose, "-k=9"]) == 130
    assert file.read_bytes() != written
    assert main([*choose, "-k=6"]) == 0
    assert file.read_bytes() == written
    assert main(["mix", "-o", "out", "--clusters=3", "--no-choose", "--quiet"]) == 0
    assert not file.exists()
