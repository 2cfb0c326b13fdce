"""A plan told to people, as a table, and to machines, as plain JSON values."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gapsel.plan.cost import STEPS, work
from gapsel.plan.looks import full_looks
from gapsel.report.numbers import duration, share, size
from gapsel.wording import counted

if TYPE_CHECKING:
    from gapsel.plan.records import Plan, Side
    from gapsel.plan.sample import Estimate

_BUSY = 1.3


def in_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as plain JSON values: null for a time that is not known."""
    p = plan.problem
    return {
        "sides": {side.name: _side_in_json(side) for side in plan.sides},
        "problem": {**asdict(p), "vector_bytes": p.vector_bytes},
        "disk": {**asdict(plan.disk), "total": plan.disk.total, "free": plan.room.disk},
        "memory": {**asdict(plan.memory), "total": plan.memory.total, "free": plan.room.memory},
        "seconds": {step: _known(value) for step, value in plan.seconds.items()},
        "total_seconds": plan.total,
        "within": _known(plan.within),
        "sweeps": full_looks(p),
        "work": work(p),
        "machine": {
            "name": plan.machine.name,
            "rates": {kind: _known(value) for kind, value in plan.machine.rates.items()},
            "stated": sorted(plan.machine.stated),
            "devices": plan.machine.devices,
            "nodes": plan.machine.nodes,
            "busy": plan.busy,
        },
        "fits": not plan.lacks,
        "lacks": list(plan.lacks),
        "changes": [asdict(change) for change in plan.changes],
        "tokens": plan.budget,
        "notes": list(plan.notes),
    }


def _side_in_json(side: Side) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": asdict(side.rows), "tokens": asdict(side.tokens())}
    if side.texts is not None:
        t = side.texts
        found |= {"files": t.files, "bytes": t.bytes, "rows_looked_at": t.seen, "bytes_looked_at": t.bytes_read}
        found |= {"bad_share": t.bad_share, "bad": [asdict(one) for one in t.bad], "beginnings": t.beginnings}
    return found


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def in_words(plan: Plan) -> str:
    """Say it for people."""
    p = plan.problem
    lines = [f"A plan for {plan.machine.name}; nothing has been written.", ""]
    for side in plan.sides:
        lines += _side(side)
    lines += ["", f"{_size(plan)}, mass {p.mass:g}, d {p.d}", "", *_disk(plan), "", *_memory(plan), "", *_time(plan)]
    lines += ["", *_verdict(plan)]
    return "\n".join(lines + [f"  {note}" for note in _notes(plan)])


def _size(plan: Plan) -> str:
    """Say how much is chosen: documents, or tokens and about how many documents that is."""
    if plan.budget is None:
        return f"k {plan.problem.k:,}"
    return f"{plan.budget:,} tokens, about {counted(plan.problem.k, 'document')} of the mean length"


def _side(side: Side) -> list[str]:
    lines = [
        f"{side.name:8}{_interval(side.rows)} documents"
        + (f", {_interval(side.tokens())} tokens" if side.embeds else "")
    ]
    t = side.texts
    if t is None:
        return [*lines, f"{'':8}ready-made vectors"]
    lines.append(f"{'':8}{size(t.bytes)} in {counted(t.files, 'file')}; {counted(t.seen, 'row')} looked at")
    if t.bad:
        lines.append(f"{'':8}{share(t.bad_share)} of the rows cannot be used:")
        lines += [f"{'':10}{share(one.share)}  {one.reason}, for example in {one.file}: {one.value!r}" for one in t.bad]
    return lines


def _interval(one: Estimate) -> str:
    if one.low == one.high:
        return f"{one.value:,.0f}"
    digits = 3 - math.ceil(math.log10(max(one.value, 10.0)))
    low, value, high = (f"{round(number, digits):,.0f}" for number in (one.low, one.value, one.high))
    return f"about {value} ({low} .. {high})"


def _disk(plan: Plan) -> list[str]:
    parts = asdict(plan.disk)
    said = ", ".join(f"{name} {size(round(value))}" for name, value in parts.items() if value)
    return [f"disk    {size(round(plan.disk.total))}, of {size(round(plan.room.disk))} free", f"{'':8}{said}"]


def _memory(plan: Plan) -> list[str]:
    held = plan.memory
    said = ", ".join(f"{name} {size(round(value))}" for name, value in asdict(held).items() if value)
    total, free = size(round(held.total)), size(round(plan.room.memory))
    return [f"memory  {total}, of {free} that it may have, beside the page cache", f"{'':8}{said}"]


def _time(plan: Plan) -> list[str]:
    sweeps = full_looks(plan.problem)
    lines = [f"{'time':8}{'':10}{'sweeps of the pool':>20}"]
    for step in STEPS:
        seconds = plan.seconds[step]
        took = duration(seconds) if math.isfinite(seconds) else "not known"
        count = f"{sweeps[step]:.1f}".removesuffix(".0") if step in sweeps else ""
        lines.append(f"{'':8}{step:10}{count:>20}{took:>14}")
    lines.append(f"{'':8}{'in all':30}{duration(plan.total):>14}")
    return lines


def _verdict(plan: Plan) -> list[str]:
    if not plan.lacks:
        return ["It fits."]
    lines = [f"It does not fit: not enough {' and '.join(plan.lacks)}. What would help:"]
    for change in plan.changes:
        before, after = (
            duration(value) if change.helps == "time" else size(round(value)) for value in (change.before, change.after)
        )
        lines.append(f"  {change.helps}: {change.what}: {after} in place of {before}")
    return lines if plan.changes else [*lines, "  nothing that this plan knows of: a larger machine"]


def _notes(plan: Plan) -> list[str]:
    notes = list(plan.notes)
    for side in plan.sides:
        if side.texts is not None and side.texts.beginnings:
            notes.append(
                f"{side.name}: of {counted(side.texts.beginnings, 'file')} only the beginning could be looked at; "
                "the rest is taken to be like it"
            )
        if side.vectors is not None and side.vectors.stored:
            notes.append(f"{side.name}: the vectors do not lie ready, and are brought into the run folder first")
    if plan.machine.stated:
        notes.append("GPUs: not measured; from data sheets and assumptions that stand in docs/scale.md")
    elif plan.busy > _BUSY:
        notes.append(f"this machine is busy: as it is now, it would take some {plan.busy:.1f} times as long")
    return notes
