"""Results -> one offline HTML file, which needs no script, no font and nothing from outside.

Findings become sentences in verdicts.py, geometry in charts.py and digits in numbers.py; the template only lays
them out. What comes from the data is escaped by the template engine, without exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapsel.files import whole
from gapsel.report import charts, numbers, verdicts

if TYPE_CHECKING:
    from pathlib import Path

    from gapsel.findings import Findings

__all__ = ["render", "write"]


def write(findings: Findings, path: Path | str) -> None:
    """Write the report to ``path``, whole or not at all. Raises DataError when it cannot be written."""
    with whole(path) as stream:
        # Half characters, which some texts hold, have no bytes: they become question marks.
        stream.write(render(findings).encode("utf-8", "replace"))


def render(findings: Findings) -> str:
    """Return the report as the text of one HTML file; the same findings give the same text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    page = Environment(
        loader=PackageLoader("gapsel.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {
        name: getattr(numbers, name)
        for name in (
            "integer",
            "plural",
            "number",
            "error",
            "setting",
            "share",
            "duration",
            "size",
            "excerpt",
            "basename",
            "names",
        )
    }
    page.filters["place"] = _place
    return page.get_template("report.html.jinja").render(
        found=findings,
        answer=verdicts.answer(findings),
        comparison=verdicts.comparison(findings),
        certificate=verdicts.certificate(findings),
        certified=verdicts.is_certified(findings),
        shift=verdicts.shift,
        histogram=charts.histogram(findings),
        convergence=charts.convergence(findings),
        intervals=charts.intervals(findings),
        shares=charts.shares,
        UNKNOWN=numbers.UNKNOWN,
    )


def _place(value: float) -> str:
    """Return a coordinate with two decimals, which is finer than a pixel."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
