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

    from gapsel.findings import Findings, Interval

__all__ = ["render", "write"]

_FILTERS = (
    *(numbers.integer, numbers.number, numbers.error, numbers.setting, numbers.share, numbers.duration, numbers.size),
    *(numbers.plural, numbers.names, numbers.basename, numbers.excerpt),
)


def write(findings: Findings, path: Path | str) -> None:
    """Write the report to ``path``, whole or not at all. Raises ResourceError when it cannot be written."""
    with whole(path) as stream:
        stream.write(render(findings).encode())


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
    page.filters |= {filter_.__name__.lstrip("_"): filter_ for filter_ in (*_FILTERS, _place, _interval)}
    text = page.get_template("report.html.jinja").render(
        found=findings,
        answer=verdicts.answer(findings),
        comparison=verdicts.comparison(findings),
        alone=verdicts.alone(findings),
        mixed=verdicts.is_mixed(findings.mass),
        certificate=verdicts.certificate(findings),
        certified=verdicts.is_certified(findings),
        steadiness=verdicts.steadiness(findings),
        shift=verdicts.shift,
        before=verdicts.before(findings),
        histogram=charts.histogram(findings),
        convergence=charts.convergence(findings),
        intervals=charts.intervals(findings),
        mass_path=charts.mass_path(findings),
        compositions=[charts.shortened(composition) for composition in findings.compositions],
        shares=charts.shares,
        UNKNOWN=numbers.UNKNOWN,
    )
    return numbers.clean(text)


def _interval(bounds: Interval) -> str:
    """Return both bounds of a distance, with one more digit from 1 on: intervals are narrow."""
    return " to ".join(numbers.number(value, 4 if value >= 1 else 3) for value in (bounds.lower, bounds.upper))


def _place(value: float) -> str:
    """Return a coordinate with two decimals, which is finer than a pixel."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
