"""Distances as bars: where both bounds and the middle of each lie on an axis that begins at zero, the target itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gapsel.report.axes import Axis, Tick, round_top
from gapsel.report.numbers import setting
from gapsel.report.verdicts import OURS, Change, change, compared, is_mixed, measured

if TYPE_CHECKING:
    from gapsel.findings import Findings, Interval


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """One method: its interval as places across (None where not measured) and what stands beside it.

    ``alone`` is the distance without the pool, where ``distance`` is that of a mixture with it.
    """

    name: str
    distance: Interval
    places: tuple[float, float, float] | None
    ours: bool = False
    change: Change | None = None
    alone: Interval | None = None
    overlap: float | None = None
    coverage: float | None = None
    precision: float | None = None


@dataclass(frozen=True, slots=True)
class IntervalsChart:
    """The pool and every method on one axis that begins at zero, where the target itself would lie."""

    rows: tuple[IntervalRow, ...]
    across: tuple[Tick, ...]
    has_precision: bool
    has_alone: bool


def intervals(findings: Findings) -> IntervalsChart:
    """Return the pool's distance and every method's, by which they are compared."""
    distances = [findings.pool_distance, *(compared(method, findings.mass) for method in findings.methods)]
    across = Axis(0.0, round_top(max((d.upper for d in distances if measured(d)), default=0.0)), 0.0, 100.0)
    pool = IntervalRow(
        "base" if findings.base else "pool", findings.pool_distance, interval_places(findings.pool_distance, across)
    )
    mixed = is_mixed(findings.mass)
    rows = [
        IntervalRow(
            name=method.name,
            distance=distance,
            places=interval_places(distance, across),
            ours=method.name == OURS,
            change=change(distance, findings.pool_distance),
            alone=method.alone if mixed and measured(method.alone) else None,
            overlap=method.overlap,
            coverage=method.coverage,
            precision=method.precision,
        )
        for method, distance in zip(findings.methods, distances[1:], strict=True)
    ]
    has_precision = any(method.precision is not None for method in findings.methods)
    return IntervalsChart((pool, *rows), across.ticks(4), has_precision, mixed)


def mass_path(findings: Findings) -> IntervalsChart | None:
    """Return what would be chosen at each mass, the run's own marked, by the distance of its mixture; None if unasked.

    ``alone`` is told of every mass, since the mixtures of two masses are two things.
    """
    found = findings.mass_path
    across = Axis(
        0.0, round_top(max((one.mixture.upper for one in found if measured(one.mixture)), default=0.0)), 0, 100
    )
    rows = [
        IntervalRow(
            name=setting(one.mass),
            distance=one.mixture,
            places=interval_places(one.mixture, across),
            ours=one.mass == findings.mass,
            alone=one.alone if measured(one.alone) else None,
            overlap=one.overlap,
            coverage=one.coverage,
            precision=one.precision,
        )
        for one in found
    ]
    has_precision = any(one.precision is not None for one in found)
    return IntervalsChart(tuple(rows), across.ticks(4), has_precision, has_alone=True) if rows else None


def interval_places(distance: Interval, across: Axis) -> tuple[float, float, float] | None:
    """Return the places of both bounds and of their middle, None where they were not measured."""
    if not measured(distance):
        return None
    return across.at(distance.lower), across.at(distance.middle), across.at(distance.upper)
