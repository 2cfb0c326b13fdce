"""The fifth door: the selection beside other ways to choose, in one HTML file."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gapsel.files import write_json
from gapsel.pipeline.folder.results import FINDINGS, REPORT
from gapsel.pipeline.folder.run_folder import plain
from gapsel.pipeline.steps.evidence import gather_findings
from gapsel.pipeline.steps.page import draw_page
from gapsel.pipeline.steps.select import read_selection

if TYPE_CHECKING:
    from gapsel.pipeline.work import Run


def report_step(run: Run) -> dict[str, Any]:
    """Write findings.json and report.html about the selection."""
    findings = gather_findings(run, read_selection(run))
    run.writes("report")
    write_json(run.path / FINDINGS, plain(findings.to_json()))
    draw_page(run, findings)
    methods = {one.name: {"mixture": asdict(one.mixture), "alone": asdict(one.alone)} for one in findings.methods}
    return {"methods": methods, "files": [FINDINGS, REPORT]}
