"""The page, report.html: drawn of what the run folder keeps as JSON, and drawn anew when any of it is new.

findings.json is the report's own. mixture.json and evaluation.json come from doors beside the steps, before the report
or after it. Each is on the page as long as the folder has what it follows from: of a mixture the vectors, of an
evaluation the choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapsel import report
from gapsel.findings import Evaluation, Findings, Mixture
from gapsel.pipeline.folder.results import FINDINGS, REPORT
from gapsel.pipeline.folder.run_folder import read_as

if TYPE_CHECKING:
    from gapsel.pipeline.folder.run_folder import RunFolder
    from gapsel.pipeline.work import Run

MIXTURE, EVALUATION = "mixture.json", "evaluation.json"
# The name of the record that says what is on the page beside the findings.
PAGE = "page"
# The doors beside the steps, by the names of their records: what each writes, and the step that this follows from.
_STUDIES: dict[str, tuple[str, type[Any], str]] = {
    "mixture": (MIXTURE, Mixture, "embed"),
    "evaluation": (EVALUATION, Evaluation, "select"),
}


def remember_study(folder: RunFolder, name: str, signature: str, facts: dict[str, Any]) -> None:
    """Record what came of a door beside the steps, and what it follows from."""
    follows = folder.facts(_STUDIES[name][2])["signature"]
    folder.remember(name, {"signature": signature, "follows": follows, **facts})


def draw_page(run: Run, findings: Findings) -> None:
    """Write report.html: the findings, and what else the folder has that belongs to them."""
    beside = _beside(run.folder)
    found = {name: read_as(run.path / _STUDIES[name][0], _STUDIES[name][1], f"a {name}") for name in beside}
    report.write(findings, run.path / REPORT, **found)
    run.folder.remember(PAGE, beside)


def renew_page(run: Run) -> None:
    """Draw the page anew where there is one, and what stands beside its findings has changed."""
    there = "report" in run.folder.record["steps"] and (run.path / FINDINGS).exists()
    if there and run.folder.record.get(PAGE, {}) != _beside(run.folder):
        draw_page(run, read_as(run.path / FINDINGS, Findings, "findings"))


def _beside(folder: RunFolder) -> dict[str, str]:
    """Return which studies belong to what the folder has, by their signatures."""
    steps = folder.record["steps"]
    return {
        name: folder.record[name]["signature"]
        for name, (file, _, step) in _STUDIES.items()
        if (folder.path / file).exists()
        and folder.record.get(name, {}).get("follows", "") == steps.get(step, {}).get("signature")
    }
