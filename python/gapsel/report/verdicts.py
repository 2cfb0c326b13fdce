"""What the findings say, in words: every judgement the report makes is made here, from intervals and never past them.

A distance is known only between two bounds, so a fall is what remains at the worst ends of both intervals. How methods
stand beside each other is said in standing.py. They are compared by the distance of the mixture, which is what
the choice minimises; at mass 0 the mixture is the pool whatever is chosen, and the chosen alone are compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gapsel.report.numbers import (
    MINUS,
    NARROW,
    UNKNOWN,
    at_most,
    basename,
    error,
    excerpt,
    integer,
    known,
    names,
    number,
    setting,
    share,
)
from gapsel.wording import counted

if TYPE_CHECKING:
    from gapsel.findings import Composition, ErrorBars, Findings, Interval, MethodResult

OURS = "gapsel"
_SHORTFALL = 0.05  # of the target's share: below this a label the selection lacks is not worth a sentence
_ALL = 100  # per cent
_FINEST = 0.1  # per cent: a certificate below this would claim more than the solver's tolerance can carry

_SMALL_REST = 1e-3  # of the gain: less than this left unsolved is not worth a word


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the answer: a figure that can be read across a room, and the sentence that makes it precise."""

    figure: str
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The report in three lines, or four where something is avoided, and what to read first where it is unsolved."""

    lines: tuple[Line, ...]
    warning: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """By how many per cent a distance differs from the pool's, at least and at most; negative is nearer."""

    low: float
    high: float

    def __str__(self) -> str:
        low, high = math.floor(self.low), math.ceil(self.high)
        if high - low <= 1:
            return f"{_signed(round(0.5 * (self.low + self.high)))}{NARROW}%"
        return f"{_signed(low)} to {_signed(high)}{NARROW}%"


def answer(findings: Findings) -> Answer:
    """Return what was chosen, what it gains and how sure that is."""
    lines = (_what(findings), _gain(findings), *_away(findings), _sure(findings))
    return Answer(lines, None if findings.converged else _not_converged(findings))


def change(distance: Interval, pool: Interval) -> Change | None:
    """Return how a distance differs from the pool's at the worst and best ends of both intervals, None if unknown."""
    if not (measured(distance) and measured(pool)) or pool.lower <= 0:
        return None
    return Change(_ALL * (distance.lower / pool.upper - 1), _ALL * (distance.upper / pool.lower - 1))


def measured(interval: Interval) -> bool:
    """Return whether both bounds are numbers."""
    return known(interval.lower) and known(interval.upper)


def compared(method: MethodResult, mass: float) -> Interval:
    """Return the distance by which methods are compared at this mass."""
    return method.alone if mass == 0 else method.mixture


def is_mixed(mass: float) -> bool:
    """Return whether the mixture is something else than the pool or the chosen alone."""
    return 0 < mass < 1


def shift(composition: Composition) -> list[str]:
    """Return what the selection changed most in a composition, and what of the target it lacks most."""
    shares = [entry for entry in composition.shares if known(entry.pool) and known(entry.chosen)]
    if not shares:
        return []
    up = max(shares, key=lambda entry: entry.chosen - entry.pool)
    found = []
    if up.chosen > up.pool:
        grown = f"from {share(up.pool)} of the pool to {share(up.chosen)} of the chosen"
        found.append(f"{excerpt(up.label, 60)} grows most: {grown}.")
    lacking = [(entry.target - entry.chosen, entry) for entry in shares if entry.target is not None]
    missing, entry = max(lacking, key=lambda pair: pair[0], default=(0.0, up))
    if missing > _SHORTFALL:
        lack = f"{share(entry.target)} of the target but only {share(entry.chosen)} of the chosen."
        found.append(f"{excerpt(entry.label, 60)} is {lack}")
    return found


def certificate(findings: Findings) -> str:
    """Return what is proven about every choice of k documents, and how much of it is for want of sweeps."""
    if findings.k >= findings.n:
        return "Every document was chosen, so there is no other choice to compare with."
    if findings.mass == 0:
        return (
            "At mass 0 the chosen are by definition the lowest scores: one step of the gradient, with nothing to bound."
        )
    percent = findings.certificate.percent
    if not known(percent):
        return "How far this is from the best choice of its size was not measured."
    if percent >= _ALL:
        return "How far this is from the best choice of its size is not bounded: the certificate came out empty."
    return (
        f"No other choice of {integer(findings.k)} can beat this one by more than {at_most(max(percent, _FINEST))} of "
        f"what is attainable at mass {setting(findings.mass)}{_reservation(findings)}."
    )


def steadiness(findings: Findings) -> str | None:
    """Return what other examples, and another pool, would have left of the choice; None where that was not asked."""
    bars = findings.error_bars
    if bars is None:
        return None
    said = (
        f"Half of the examples choose {share(bars.target.keeps)} of these documents, and two halves that share no "
        f"example agree on {share(bars.target.agree)}; every half chooses {share(_always(bars))}. With half of the "
        f"pool in its place the choice keeps {share(bars.pool.keeps)}."
    )
    if bars.steady:
        return said
    return f"{said} The target may be too small: where halves agree on so little, more examples mostly choose better."


def _always(bars: ErrorBars) -> float:
    return sum(one == 1 for one in bars.inclusion) / len(bars.inclusion)


def is_certified(findings: Findings) -> bool:
    """Return whether the certificate says anything."""
    percent = findings.certificate.percent
    return findings.k < findings.n and findings.mass > 0 and known(percent) and percent < _ALL


def _what(findings: Findings) -> Line:
    target = f"{names([excerpt(basename(path), 80) for path in findings.target])} ({counted(findings.m, 'example')})"
    if findings.k >= findings.n:
        return Line(integer(findings.k), f"All {counted(findings.n, 'document')} were chosen for the target {target}.")
    verb = "was" if findings.k == 1 else "were"
    return Line(
        integer(findings.k),
        f"of {counted(findings.n, 'document')} {verb} chosen for the target {target}.",
    )


def _gain(findings: Findings) -> Line:
    ours = own(findings)
    distance = compared(ours, findings.mass) if ours else None
    found = change(distance, findings.pool_distance) if distance else None
    if findings.k >= findings.n and not findings.base:
        return Line(f"0{NARROW}%", "The chosen are the whole pool, so the OT distance to the target stays what it is.")
    if distance is None or found is None:
        return Line(UNKNOWN, f"The OT distance to the target was not measured against the {before(findings)}'s.")
    from_ = f"{number(findings.pool_distance.middle)} for the {before(findings)}"
    figures = f"{from_}, {number(distance.middle)} for {_what_of(findings)}"
    if math.floor(-found.high) > 0:
        least, most = math.floor(-found.high), math.ceil(-found.low)
        text = (
            f"The OT distance to the target falls by at least {least}{NARROW}% and at most {most}{NARROW}%: {figures}"
        )
        return Line(f"{MINUS}{least}{NARROW}%", f"{text}. {_beside(findings)}")
    if math.floor(found.low) > 0:
        text = f"The OT distance to the target does not fall, it rises: {figures}."
        return Line(str(found), f"{text} {_beside(findings)}")
    text = f"It is not settled that the OT distance to the target falls: {figures}, with intervals about as wide"
    return Line(UNKNOWN, f"{text} as the difference. {_beside(findings)}")


def _away(findings: Findings) -> tuple[Line, ...]:
    """Return what the choice does to the distance to what is to be avoided, if anything is."""
    if findings.avoided is None:
        return ()
    whom = (
        f"The OT distance to what is to be avoided ({names([excerpt(basename(path), 80) for path in findings.avoid])})"
    )
    first, last = findings.avoided.before, findings.avoided.after
    figures = f"{number(first.middle)} for the {before(findings)}, {number(last.middle)} for {_what_of(findings)}"
    found = change(last, first)
    if found is None:
        return (Line(UNKNOWN, f"{whom} was not measured."),)
    if math.floor(found.low) > 0:
        return (Line(str(found), f"{whom} rises: {figures}."),)
    if math.ceil(found.high) < 0:
        return (
            Line(str(found), f"{whom} does not rise, it falls: {figures}. A larger --avoid-strength counts for more."),
        )
    return (Line(UNKNOWN, f"It is not settled that {whom[0].lower()}{whom[1:]} rises: {figures}."),)


def _what_of(findings: Findings) -> str:
    if not is_mixed(findings.mass):
        return "the chosen alone"
    return f"the mixture of {share(1 - findings.mass)} {before(findings)} and {share(findings.mass)} chosen"


def before(findings: Findings) -> str:
    """Return what the choice is mixed with: the base, or the pool in its place."""
    return "base" if findings.base else "pool"


def _beside(findings: Findings) -> str:
    others = [method for method in findings.methods if method.name != OURS]
    found = [(m.name, change(compared(m, findings.mass), findings.pool_distance)) for m in others]
    listed = [f"{name} {moved}" for name, moved in found if moved]
    return f"Beside it: {', '.join(listed)}." if listed else ""


def _sure(findings: Findings) -> Line:
    errors = f"marginal error {error(findings.marginal_error)}, tolerance {setting(findings.tolerance)}"
    solver = f"The solver {'converged' if findings.converged else 'did not converge'} ({errors}).{_part(findings)}"
    return Line(_certified(findings) if findings.converged else "unsure", f"{solver} {certificate(findings)}")


def _part(findings: Findings) -> str:
    """Say that the solver has read a part of the pool, and what that costs."""
    if findings.fitted_rows >= findings.n:
        return ""
    rows, off = counted(findings.fitted_rows, "random document"), error(findings.sampling_error)
    return f" It read {rows} of the pool, for which the whole pool's marginals are off by about {off}."


def _certified(findings: Findings) -> str:
    if not is_certified(findings):
        return "converged"
    return f"≤{NARROW}{at_most(max(findings.certificate.percent, _FINEST))}"


def _reservation(findings: Findings) -> str:
    """Return what to add to the certificate when most of it is what was left unsolved."""
    found = findings.certificate
    if known(found.rest) and found.rest <= max(0.5 * found.gap, _SMALL_REST * (found.before - found.after)):
        return ""
    return f" - it may be much less, since the mixture's distance was solved no further than to {number(found.rest)}"


def _not_converged(findings: Findings) -> str:
    return (
        f"The marginal error is {error(findings.marginal_error)} after {counted(findings.full_sweeps, 'full sweep')}, "
        f"the tolerance {setting(findings.tolerance)}. Take scores and selection as provisional: "
        "allow more sweeps, or take a larger eps."
    )


def own(findings: Findings) -> MethodResult | None:
    """Return gapsel's own choice, None where it was not measured."""
    return next((method for method in findings.methods if method.name == OURS), None)


def _signed(value: int) -> str:
    return "0" if value == 0 else f"{'+' if value > 0 else MINUS}{abs(value)}"
