"""Findings -> geometry: where each bar, dot and mark lies. The template only draws.

Across, places are per cent of the width; downwards, pixels. Every record holds finite numbers inside its frame,
whatever the findings hold; what cannot be drawn is None or left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from gapsel.findings import Share
from gapsel.report.axes import Axis, Tick, round_top
from gapsel.report.numbers import known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapsel.findings import Composition, Findings, Step

HEIGHT = 220.0
ROWS = 12  # of a composition; what comes after is folded into one row
LEFT, RIGHT = 8.0, 98.0  # per cent: room for the numbers beside and for half a number at the end
_HALF_COUNT = 0.5  # where a logarithmic axis of counts begins, so that one document still has a height
_VISIBLE = 25  # a part of the pool is seen on a straight axis while it reaches 1/25 of the tallest bar
_PER_CENT = 100.0
_STAGES = ("sample", "shortlist", "plan", "pool")


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle: left and width in per cent, top and height in pixels."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class HistogramChart:
    """Bars of the pool, bars of the chosen in front of them, and where the cut lies."""

    height: float
    pool: tuple[Bar, ...]
    chosen: tuple[Bar, ...]
    cut: float | None
    log: bool
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Dot:
    """One sweep: its place, its stage (one of ``_STAGES``) and its number, from 1."""

    x: float
    y: float
    stage: str
    sweep: int


@dataclass(frozen=True, slots=True)
class StageKey:
    """One entry of the legend: a stage, its sweeps, and the fewest and most rows they read."""

    stage: str
    sweeps: int
    fewest: int
    most: int


@dataclass(frozen=True, slots=True)
class ConvergenceChart:
    """Dots of the sweeps, threads between those of one solve, and the height of the tolerance."""

    height: float
    dots: tuple[Dot, ...]
    threads: tuple[tuple[tuple[float, float], ...], ...]
    tolerance: float | None
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    stages: tuple[StageKey, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class ShareRow:
    """One label of a composition: the shares as numbers and as places across (None where unknown)."""

    label: str
    pool: float
    chosen: float
    target: float | None
    pool_at: float
    chosen_at: float
    target_at: float | None


@dataclass(frozen=True, slots=True)
class SharesChart:
    """The rows of a composition on one axis."""

    rows: tuple[ShareRow, ...]
    across: tuple[Tick, ...]
    has_target: bool


def histogram(findings: Findings) -> HistogramChart | None:
    """Return the histogram of the scores, None where they are all the same or unknown."""
    found = findings.histogram
    top = max(found.counts, default=0)
    if not (top and all(map(known, found.edges)) and found.edges[0] < found.edges[-1]):
        return None
    log = max(found.chosen, default=0) < top / _VISIBLE
    across = Axis(found.edges[0], found.edges[-1], LEFT, RIGHT)
    high = 10.0 ** math.ceil(math.log10(top)) if log else round_top(top)
    up = Axis(_HALF_COUNT if log else 0.0, high, HEIGHT, 0.0, log)
    places = [across.at(edge) for edge in found.edges]
    return HistogramChart(
        HEIGHT,
        _columns(places, found.counts, up),
        _columns(places, found.chosen, up),
        across.at(findings.cut) if known(findings.cut) else None,
        log,
        across.ticks(),
        up.ticks(4),
    )


def _columns(places: Sequence[float], counts: Sequence[int], up: Axis) -> tuple[Bar, ...]:
    bars = []
    for (left, right), count in zip(pairwise(places), counts, strict=True):
        if count > 0:
            y = up.at(count)
            bars.append(Bar(left, y, right - left, up.start - y))
    return tuple(bars)


def convergence(findings: Findings) -> ConvergenceChart | None:
    """Return the marginal error of every sweep, None where no sweep measured one."""
    steps = [(i, s) for i, s in enumerate(findings.steps, 1) if known(s.marginal_error) and s.marginal_error >= 0]
    line = findings.tolerance if known(findings.tolerance) and findings.tolerance > 0 else None
    positive = [step.marginal_error for _, step in steps if step.marginal_error > 0]
    heights = [*positive, *([line] if line else [])]
    if not steps or not heights:
        return None
    low, high = math.floor(math.log10(min(heights))), math.ceil(math.log10(max(heights)))
    up = Axis(10.0**low, 10.0 ** max(high, low + 1), HEIGHT, 0.0, log=True)
    across = Axis(0.5, len(findings.steps) + 0.5, LEFT, RIGHT)
    dots = [(Dot(across.at(i), up.at(s.marginal_error), _stage(s), i), s) for i, s in steps]
    return ConvergenceChart(
        HEIGHT,
        tuple(dot for dot, _ in dots),
        _threads(dots),
        up.at(line) if line else None,
        tuple(tick for tick in across.ticks() if "." not in tick.label and tick.label != "0"),
        up.ticks(),
        _keys([step for _, step in steps]),
        len(findings.steps) - len(steps),
    )


def _stage(step: Step) -> str:
    return step.name if step.name in _STAGES else _STAGES[0]


def _threads(dots: list[tuple[Dot, Step]]) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Return the runs of sweeps over the same rows at the same mass: only they continue each other."""
    runs = groupby(dots, key=lambda pair: (pair[1].name, pair[1].rows, pair[1].mass))
    lines = (tuple((dot.x, dot.y) for dot, _ in run) for _, run in runs)
    return tuple(line for line in lines if len(line) > 1)


def _keys(steps: list[Step]) -> tuple[StageKey, ...]:
    keys = []
    for stage in _STAGES:
        rows = [step.rows for step in steps if _stage(step) == stage]
        if rows:
            keys.append(StageKey(stage, len(rows), min(rows), max(rows)))
    return tuple(keys)


def shortened(composition: Composition) -> Composition:
    """Return a composition by source without the folders that all sources lie in, any other as it is."""
    parts = [share.label.split("/") for share in composition.shares]
    if composition.field != "source" or not parts:
        return composition
    common = 0
    while all(len(one) > common + 1 and one[common] == parts[0][common] for one in parts):
        common += 1
    named = zip(composition.shares, parts, strict=True)
    return replace(composition, shares=tuple(replace(share, label="/".join(one[common:])) for share, one in named))


def shares(composition: Composition) -> SharesChart:
    """Return a composition, largest share of the chosen first; the ROWS labels that matter most, the rest as one."""
    found = sorted(map(_finite, composition.shares), key=_largest, reverse=True)
    kept, rest = found[:ROWS], found[ROWS:]
    kept.sort(key=lambda share: (share.chosen, share.target or 0.0, share.pool), reverse=True)
    if rest:
        kept.append(_folded(rest))
    longest = max(map(_largest, kept), default=0.0)
    across = Axis(0.0, _PER_CENT * round_top(min(longest, 1.0)), 0.0, 100.0)
    return SharesChart(
        tuple(_share_row(share, across) for share in kept),
        across.ticks(4),
        any(share.target is not None for share in kept),
    )


def _largest(share: Share) -> float:
    """Return what makes a label worth a row: its largest share of anything, so that what vanished is seen too."""
    return max(share.pool, share.chosen, share.target or 0.0)


def _share_row(share: Share, across: Axis) -> ShareRow:
    return ShareRow(
        share.label,
        share.pool,
        share.chosen,
        share.target,
        across.at(_PER_CENT * share.pool),
        across.at(_PER_CENT * share.chosen),
        None if share.target is None else across.at(_PER_CENT * share.target),
    )


def _folded(rest: list[Share]) -> Share:
    """Return one row for many; its target is known where that of any of them is."""
    targets = [share.target for share in rest if share.target is not None]
    return Share(
        f"others ({len(rest)})",
        sum(share.pool for share in rest),
        sum(share.chosen for share in rest),
        sum(targets) if targets else None,
    )


def _finite(share: Share) -> Share:
    target = share.target if known(share.target) else None
    pool, chosen = (value if known(value) else 0.0 for value in (share.pool, share.chosen))
    return replace(share, pool=pool, chosen=chosen, target=target)
