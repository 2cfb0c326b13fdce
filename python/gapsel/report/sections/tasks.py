"""What each task of several got of the choice: one sentence, and a row for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gapsel.report.numbers import excerpt, integer, known, share
from gapsel.report.verdicts import change

if TYPE_CHECKING:
    from gapsel.findings import Findings, TaskResult, TaskShare
    from gapsel.report.verdicts import Change

_NAME = 60


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task: what it is, what gapsel's choice is to it, and how that differs from the pool's distance to it."""

    task: TaskShare
    ours: TaskResult
    change: Change | None


@dataclass(frozen=True, slots=True)
class TasksSection:
    """All that the page says of several tasks."""

    verdict: str | None
    rows: tuple[TaskRow, ...]


def section(findings: Findings) -> TasksSection | None:
    """Return what the page says, None where the target is one task."""
    rows = _rows(findings)
    return TasksSection(_verdict(rows, findings.k), rows) if rows else None


def _rows(findings: Findings) -> tuple[TaskRow, ...]:
    """Return a row for each task of several."""
    ours = findings.methods[-1].tasks if findings.methods else ()
    if len(ours) != len(findings.tasks):
        return ()
    return tuple(
        TaskRow(task, one, change(one.mixture if findings.mass else one.alone, task.pool_distance))
        for task, one in zip(findings.tasks, ours, strict=True)
    )


def _verdict(found: tuple[TaskRow, ...], k: int) -> str | None:
    """Return which task got the most and which the least: of what could be closed, or else of its distance."""
    closed = [one for one in found if known(one.task.closed)]
    if len(closed) == len(found):
        return _closed(closed, k)
    moved = [(one.change, one.task.name) for one in found if one.change is not None]
    return _moved(moved) if moved else None


def _closed(found: list[TaskRow], k: int) -> str:
    order = sorted(found, key=lambda one: one.task.closed or 0.0)
    least, most = (f"{share(one.task.closed)} for {excerpt(one.task.name, _NAME)}" for one in (order[0], order[-1]))
    return (
        f"Of what {integer(k)} documents could close of a task's distance, were they chosen for it alone, these close "
        f"{least}, the least, and {most}, the most."
    )


def _moved(found: list[tuple[Change, str]]) -> str:
    order = sorted(found, key=lambda pair: pair[0].high)
    (most, first), (least, last) = order[0], order[-1]
    said = (
        f"{excerpt(first, _NAME)} gains the most, its distance changes by {most}; {excerpt(last, _NAME)} the least, "
        f"{least}."
    )
    unsettled = [excerpt(name, _NAME) for change, name in order if change.high >= 0]
    return (
        f"{said} That the choice is nearer than before is not settled for {', '.join(unsettled)}."
        if unsettled
        else said
    )
