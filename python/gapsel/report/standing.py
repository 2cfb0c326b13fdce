"""How gapsel stands beside other ways to choose: against itself where that is so, level where intervals overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gapsel.report.numbers import names, number
from gapsel.report.verdicts import OURS, compared, is_mixed, measured, own

if TYPE_CHECKING:
    from collections.abc import Callable

    from gapsel.findings import Findings, Interval, MethodResult


def comparison(findings: Findings) -> str:
    """Return, in words, how gapsel compares with the other methods, against itself where that is so."""
    found = _standing(findings, lambda method: compared(method, findings.mass))
    where = "mixture" if is_mixed(findings.mass) else "choice"
    if found is None:
        return "gapsel's own distance was not measured, so nothing can be compared."
    if found.best is None:
        return "No other method was measured beside gapsel."
    ours, best = found.of(found.ours).middle, found.of(found.best).middle
    if best < ours:
        return f"The {where} of {found.best.name} lies {_nearer(found, found.best)} {_why(findings.mass)}"
    if best == ours:
        return f"The {where} of gapsel and that of {found.best.name} come equally near to the target."
    if found.level:
        return (
            f"The middle of gapsel's interval is the lowest, but the interval overlaps with that of "
            f"{names(found.level, 4)}: this measurement does not tell them apart."
        )
    return f"gapsel's {where} lies nearest to the target, and its interval overlaps with no other method's."


def alone(findings: Findings) -> str | None:
    """Return what the chosen are worth without the pool, where that is another question and somebody else leads."""
    if not is_mixed(findings.mass):
        return None
    found = _standing(findings, lambda method: method.alone)
    if found is None or found.best is None or found.of(found.best).middle >= found.of(found.ours).middle:
        return None
    return f"Without the pool, the choice of {found.best.name} lies {_nearer(found, found.best)}"


@dataclass(frozen=True, slots=True)
class _Standing:
    """gapsel, the best of the others by the middle of its interval, and the names of those level with gapsel."""

    of: Callable[[MethodResult], Interval]
    ours: MethodResult
    best: MethodResult | None
    level: list[str]


def _standing(findings: Findings, of: Callable[[MethodResult], Interval]) -> _Standing | None:
    """Return how the methods stand by one of their distances, None where gapsel's own was not measured."""
    ours = own(findings)
    if ours is None or not measured(of(ours)):
        return None
    others = [method for method in findings.methods if method.name != OURS and measured(of(method))]
    best = min(others, key=lambda method: of(method).middle, default=None)
    return _Standing(of, ours, best, [method.name for method in others if _overlap(of(method), of(ours))])


def _nearer(found: _Standing, best: MethodResult) -> str:
    """Return "nearer to the target than ..." with the figures, and how settled that is."""
    text = f"nearer to the target than gapsel's: {number(found.of(best).middle)} against "
    text += f"{number(found.of(found.ours).middle)} by the middle of the intervals. "
    if best.name in found.level:
        return text + "The two intervals overlap, so the difference is not settled."
    return text + "The intervals do not overlap: the difference is real in this measure."


def _why(mass: float) -> str:
    if mass == 0:
        return (
            "At mass 0 gapsel takes one step of the gradient, which does not see what the chosen already cover among "
            "themselves; a larger mass does."
        )
    return "gapsel minimises the regularised distance; a smaller eps follows this one more closely."


def _overlap(one: Interval, other: Interval) -> bool:
    return one.lower <= other.upper and other.lower <= one.upper
