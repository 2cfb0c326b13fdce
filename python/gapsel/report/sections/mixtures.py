"""How much of each domain: what the weights gain and how sure that is, the domains, and the distances beside."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gapsel.findings import DomainShare
from gapsel.report.axes import Axis, Tick, round_top
from gapsel.report.intervals import IntervalRow, IntervalsChart, interval_places
from gapsel.report.numbers import MINUS, NARROW, at_most, excerpt, integer, known, number, share
from gapsel.report.verdicts import change, measured
from gapsel.wording import counted

if TYPE_CHECKING:
    from gapsel.findings import Mixture

ROWS = 16  # what comes after is folded into one row
TASKS = 6
_PER_CENT = 100.0
_FINEST = 0.1  # per cent, as for the certificate of a choice
_NAME = 60


@dataclass(frozen=True, slots=True)
class DomainRow:
    """One domain: its shares as numbers and as places across."""

    domain: DomainShare
    natural_at: float
    weight_at: float
    folded: bool = False


@dataclass(frozen=True, slots=True)
class MixtureSection:
    """All that the page says of a mixture."""

    field: str
    verdicts: tuple[str, ...]
    warning: str | None
    rows: tuple[DomainRow, ...]
    across: tuple[Tick, ...]
    intervals: IntervalsChart
    note: str | None
    chosen: bool


def section(found: Mixture | None) -> MixtureSection | None:
    """Return what the page says, None where no mixture was asked for."""
    if found is None or not found.domains:
        return None
    rows, across = _rows(found)
    return MixtureSection(
        found.field or "cluster",
        tuple(filter(None, (_gain(found), _moved(found), _certificate(found), _tasks(found), _ignored(found)))),
        None if found.converged else _not_converged(found),
        rows,
        across,
        _intervals(found),
        _note(found),
        found.k is not None,
    )


def _gain(found: Mixture) -> str:
    moved = change(found.mixture, found.natural)
    if moved is None:
        return "By how much the weights are nearer to the target than the pool as it is was not measured."
    figures = f"{number(found.natural.middle)} for the pool as it is, {number(found.mixture.middle)} for these weights"
    least = math.floor(-moved.high)
    if least > 0:
        return f"The weights bring the OT distance to the target down by at least {least}{NARROW}%: {figures}."
    if math.floor(moved.low) > 0:
        return f"The weights do not lower the OT distance to the target: {figures}."
    return f"That the weights lower the OT distance to the target is not settled: {figures}."


def _moved(found: Mixture) -> str | None:
    """Say which domain gains most and which are left out."""
    shares = [one for one in found.domains if known(one.weight) and known(one.natural)]
    if not shares:
        return None
    up = max(shares, key=lambda one: one.weight - one.natural)
    idle = sum(one.weight == 0 for one in shares)
    out = f"; {counted(idle, 'domain')} of {integer(len(shares))} should take no part" if idle else ""
    if up.weight <= up.natural:
        return f"Every domain keeps the share that it has{out}."
    return f"{excerpt(up.domain, _NAME)} grows most, from {share(up.natural)} of the pool to {share(up.weight)}{out}."


def _certificate(found: Mixture) -> str:
    percent = found.certificate.percent
    if not known(percent) or percent >= _PER_CENT:
        return "How far these weights are from the best ones is not bounded: the certificate came out empty."
    return f"No other weights can beat these by more than {at_most(max(percent, _FINEST))} of what is attainable."


def _tasks(found: Mixture) -> str | None:
    """Say what the first of several tasks weigh, and what each closes of what it could close by itself."""
    if not found.tasks:
        return None
    first, more = found.tasks[:TASKS], len(found.tasks) - TASKS
    said = [
        f"{excerpt(one.name, _NAME)} weighs {share(one.weight)}"
        + ("" if one.closed is None else f" and closes {share(one.closed)} of what it could")
        for one in first
    ]
    rest = f"; and {counted(more, 'more task')}" if more > 0 else ""
    uneven = " No weights were found at which all close as much." if found.level is False else ""
    return f"Of the tasks, {'; '.join(said)}{rest}.{uneven}"


def _ignored(found: Mixture) -> str | None:
    if not found.ignored:
        return None
    return f"{counted(len(found.ignored), 'example')} far from every domain got no weight; mixture.json names them."


def _note(found: Mixture) -> str | None:
    """Return what the certificate is made of."""
    one = found.certificate
    if not all(map(known, (one.before, one.after, one.gap))):
        return None
    return (
        f"The regularised distance to the target, at eps {number(found.eps)}, goes from {number(one.before, 4)} for "
        f"the pool to {number(one.after, 4)} for the mixture; the gap is {number(one.gap)}: no weights bring it below "
        f"{number(one.after - one.gap, 4)}. That is about these vectors, not about the model trained afterwards."
    )


def _not_converged(found: Mixture) -> str:
    return (
        f"The search for the weights stopped after {counted(found.full_sweeps, 'full sweep')} before the certificate "
        "was small. Take them as provisional: allow more sweeps, or take a larger eps."
    )


def _rows(found: Mixture) -> tuple[tuple[DomainRow, ...], tuple[Tick, ...]]:
    kept, rest = found.domains[:ROWS], found.domains[ROWS:]
    shown = [_finite(one) for one in kept] + ([_folded(tuple(map(_finite, rest)))] if rest else [])
    longest = max(max(one.natural, one.weight) for one in shown)
    across = Axis(0.0, _PER_CENT * round_top(min(longest, 1.0)), 0.0, 100.0)
    rows = tuple(
        DomainRow(
            one, across.at(_PER_CENT * one.natural), across.at(_PER_CENT * one.weight), bool(rest) and at == len(kept)
        )
        for at, one in enumerate(shown)
    )
    return rows, across.ticks(4)


def _finite(one: DomainShare) -> DomainShare:
    natural, weight = (value if known(value) else 0.0 for value in (one.natural, one.weight))
    return replace(one, natural=natural, weight=weight)


def _folded(rest: tuple[DomainShare, ...]) -> DomainShare:
    """Return one row for many, whose slopes say nothing together."""
    chosen = [one.chosen for one in rest if one.chosen is not None]
    return DomainShare(
        f"others ({len(rest)})", sum(one.rows for one in rest), sum(one.natural for one in rest),
        sum(one.weight for one in rest), math.nan, sum(chosen) if chosen else None,
    )  # fmt: skip


def slope(value: float) -> str:
    """Return a slope with its sign; what is within the rounding of a distance is 0."""
    if not known(value):
        return ""
    text = f"{value:+.4f}".replace("-", MINUS)
    return "0" if float(f"{value:.4f}") == 0 else text


def _intervals(found: Mixture) -> IntervalsChart:
    named = [("pool as it is", found.natural), ("every domain alike", found.even), ("these weights", found.mixture)]
    if found.chosen is not None and found.k is not None:
        named.append((f"{counted(found.k, 'chosen document')}", found.chosen))
    across = Axis(0.0, round_top(max((d.upper for _, d in named if measured(d)), default=0.0)), 0.0, 100.0)
    rows = [
        IntervalRow(
            name, distance, interval_places(distance, across), ours=name == "these weights",
            change=None if at == 0 else change(distance, found.natural),
        )
        for at, (name, distance) in enumerate(named)
    ]  # fmt: skip
    return IntervalsChart(tuple(rows), across.ticks(4), has_precision=False, has_alone=False)
