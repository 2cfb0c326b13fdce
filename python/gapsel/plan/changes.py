"""What to change where a run does not fit, each with what it would then take; computed by the same model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gapsel.plan.cost import disk, memory, seconds
from gapsel.plan.records import Change

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gapsel.plan.cost import Problem
    from gapsel.plan.records import Plan

# A change that leaves more than this of what is lacking is not worth its price.
_WORTH = 0.95
_SHORTER = (128, 64)
_HALF = 0.5


def changes(plan: Plan) -> tuple[Change, ...]:
    """Return what would help with each thing that the plan lacks, the most helpful first."""
    found = {"disk": _disk, "memory": _memory, "time": _time}
    made = [change for name in plan.lacks for change in found[name](plan) if change.after < _WORTH * change.before]
    return tuple(sorted(made, key=lambda change: (plan.lacks.index(change.helps), change.after / change.before)))


def _disk(plan: Plan) -> Iterator[Change]:
    p, before = plan.problem, plan.disk.total
    parts = plan.disk
    half = replace(p, n=max(1, p.n // 2), k=min(p.k, max(1, p.n // 2)))
    yield Change("the pool in two parts, in folders on different disks", "disk", before, disk(half).total)
    if p.texts and p.number_bytes > 2:  # noqa: PLR2004 - float16
        yield Change("vectors in float16", "disk", before, before - parts.vectors * (1 - 2 / p.number_bytes))
    if p.k > 1:
        yield Change("-k half as large", "disk", before, before - _HALF * parts.selected)
    if p.texts:
        other = replace(p, d=p.d // 2)
        yield Change(f"--model: an encoder of {p.d // 2} dimensions", "disk", before, disk(other).total)


def _memory(plan: Plan) -> Iterator[Change]:
    p, before, program = plan.problem, plan.memory.total, plan.memory.program
    for what, other in (
        ("a random half of the target", replace(p, m=max(1, p.m // 2))),
        ("-k half as large", replace(p, k=max(1, p.k // 2))),
        ("a random half of the pool", replace(p, n=max(1, p.n // 2), k=min(p.k, max(1, p.n // 2)))),
        ("--mass 0, which needs no shortlist", replace(p, mass=0.0)),
    ):
        yield Change(what, "memory", before, memory(other, program).total)


def _time(plan: Plan) -> Iterator[Change]:
    p, before, own = plan.problem, plan.total, plan.seconds
    for most in _SHORTER:
        tokens = sum(side.tokens(most).value for side in plan.sides)
        if p.embeds and tokens:
            after = seconds(replace(p, tokens=tokens), plan.machine)
            yield Change(f"--max-tokens {most}", "time", before, before - own["embed"] + after["embed"])
    yield Change("stop at the selection (gapsel select), without the report", "time", before, before - own["report"])
    for what, other in (
        ("--mass 0, which is one gradient step", replace(p, mass=0.0)),
        ("a random half of the target", replace(p, m=max(1, p.m // 2))),
        ("a random half of the pool", _smaller(plan)),
    ):
        after = seconds(other, plan.machine)
        yield Change(what, "time", before, sum(value for value in after.values() if value == value))  # noqa: PLR0124 - nan


def _smaller(plan: Plan) -> Problem:
    p = plan.problem
    half = max(1, p.n // 2)
    return replace(
        p, n=half, k=min(p.k, half), tokens=p.tokens - _HALF * plan.pool.tokens().value,
        loss_tokens=_HALF * p.loss_tokens,
        input_bytes=_HALF * p.input_bytes,
    )  # fmt: skip
