"""Results -> one offline HTML file, which needs no script, no font and nothing from outside.

Findings become sentences in verdicts.py and standing.py, geometry in charts.py and intervals.py, digits in numbers.py;
sections that only some pages have are in sections/. The template only lays them out. What comes from the data is
escaped by the template engine, without exception.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from gapsel.files import whole
from gapsel.report import charts, intervals, numbers, standing, verdicts
from gapsel.report.sections import mixtures, rules, tasks, trials
from gapsel.wording import counted

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import Environment

    from gapsel.findings import Evaluation, Findings, Interval, Mixture

__all__ = ["render", "write"]

_FILTERS = (
    *(numbers.integer, numbers.number, numbers.error, numbers.setting, numbers.share, numbers.duration, numbers.size),
    *(counted, numbers.names, numbers.basename, numbers.excerpt),
    *(mixtures.slope, trials.mean_loss, trials.difference),
)


def write(
    findings: Findings, path: Path | str, mixture: Mixture | None = None, evaluation: Evaluation | None = None
) -> None:
    """Write the report to ``path``, whole or not at all. Raises ResourceError when it cannot be written."""
    with whole(path) as stream:
        stream.write(render(findings, mixture, evaluation).encode())


def render(findings: Findings, mixture: Mixture | None = None, evaluation: Evaluation | None = None) -> str:
    """Return the report as the text of one HTML file; the same findings give the same text.

    ``mixture`` and ``evaluation`` are what else is known of the run, each a section of its own.
    """
    text = (
        _pages()
        .get_template("report.html.jinja")
        .render(
            found=findings,
            answer=verdicts.answer(findings),
            evaluated=trials.line(evaluation),
            rules=rules.section(findings),
            tasks=tasks.section(findings),
            mixture=mixtures.section(mixture),
            trials=trials.section(evaluation),
            comparison=standing.comparison(findings),
            alone=standing.alone(findings),
            mixed=verdicts.is_mixed(findings.mass),
            certificate=verdicts.certificate(findings),
            certified=verdicts.is_certified(findings),
            steadiness=verdicts.steadiness(findings),
            shift=verdicts.shift,
            before=verdicts.before(findings),
            histogram=charts.histogram(findings),
            convergence=charts.convergence(findings),
            intervals=intervals.intervals(findings),
            mass_path=intervals.mass_path(findings),
            compositions=[charts.shortened(composition) for composition in findings.compositions],
            shares=charts.shares,
        )
    )
    return numbers.clean(text)


@cache
def _pages() -> Environment:
    """Return what reads the templates, each of which it compiles once."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("gapsel.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {filter_.__name__.lstrip("_"): filter_ for filter_ in (*_FILTERS, _place, _interval)}
    pages.globals["UNKNOWN"] = numbers.UNKNOWN
    return pages


def _interval(bounds: Interval) -> str:
    """Return both bounds of a distance, with one more digit from 1 on: intervals are narrow."""
    return " to ".join(numbers.number(value, 4 if value >= 1 else 3) for value in (bounds.lower, bounds.upper))


def _place(value: float) -> str:
    """Return a coordinate with two decimals, which is finer than a pixel."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
