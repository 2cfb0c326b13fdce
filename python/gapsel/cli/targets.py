"""What there is to tell of the target: what the choice is to each task of several, and who does not count."""

from __future__ import annotations

from typing import Any

from gapsel.wording import are, counted

# The width of the names of tasks, and how many ids of ignored examples are named.
_NAME, _SHOWN = 25, 10


def before(found: dict[str, Any]) -> str:
    """Say what the distance before a choice is that of."""
    return "the base" if found["base"] else "the pool itself"


def of_target(found: dict[str, Any]) -> list[str]:
    """Say what the findings have on several tasks, on examples that are ignored, and on those to be avoided."""
    away = away_from(found["avoided"])
    return [*_tasks(found), *_ignored(found["ignored"], found["m"]), *(["", f"  {away}"] if away else [])]


def away_from(avoided: dict[str, Any] | None) -> str:
    """Say what a choice does to the distance to what is to be avoided; nothing without that."""
    if avoided is None:
        return ""
    before, after = (interval(avoided[when]) for when in ("before", "after"))
    return f"OT distance to what is to be avoided: {before} before, {after} with the choice"


def of_fit(fit: dict[str, Any]) -> str:
    """Say, as the end of a sentence, what a fit did to the weights of the target."""
    return _weights(fit.get("tasks")) + _of_ignored(fit)


def interval(bounds: dict[str, float]) -> str:
    """Return two bounds as people read them; 0 has no sign."""
    return " .. ".join(f"{round(bounds[end], 3) + 0.0:.3f}" for end in ("lower", "upper"))


def _tasks(found: dict[str, Any]) -> list[str]:
    """Say what the choice is to each task of several."""
    head = (
        f"  {'of each task':26}{'weight':>8}{before(found):>18}{'mixture':>18}{'alone':>18}{'coverage':>10}"
        f"{'precision':>11}{'closed':>8}"
    )
    ours = found["methods"][-1]["tasks"]
    lines = [_task(task, one) for task, one in zip(found["tasks"], ours, strict=True)]
    return ["", head, *lines] if lines else []


def _task(task: dict[str, Any], one: dict[str, Any]) -> str:
    precision = "" if one["precision"] is None else f"{one['precision']:.1%}"
    closed = "" if task["closed"] is None else f"{task['closed']:.0%}"
    distances = "".join(f" {interval(d):>17}" for d in (task["pool_distance"], one["mixture"], one["alone"]))
    return (
        f"  {_short(task['name'], task['examples']):26}{task['weight']:>8.1%}{distances}"
        f"{one['coverage']:>10.0%}{precision:>11}{closed:>8}"
    )


def _short(name: str, examples: int) -> str:
    """Return a task's name, cut to its column, and its number of examples."""
    count = f" ({examples:,})"
    room = _NAME - len(count)
    return (name if len(name) <= room else f"{name[: room - 2]}..") + count


def _ignored(examples: list[dict[str, Any]], m: int) -> list[str]:
    """Say who does not count."""
    if not examples:
        return []
    ids = ", ".join(str(one["id"]) for one in examples[:_SHOWN])
    more = f" and {len(examples) - _SHOWN:,} more, in findings.json" if len(examples) > _SHOWN else ""
    some = f"{len(examples):,} of {counted(m, 'example')} {are(len(examples))} ignored"
    return ["", f"  {some}, since nothing in the pool serves {'it' if len(examples) == 1 else 'them'}: {ids}{more}"]


def _weights(found: dict[str, Any] | None) -> str:
    """Say which weights the tasks of a fit have."""
    if found is None:
        return ""
    weights = ", ".join(f"{name} {weight:.1%}" for name, weight in zip(found["names"], found["weights"], strict=True))
    if found.get("level", True):
        return f"; weights of the tasks: {weights}"
    return f"; weights of the tasks, whose shares are NOT LEVEL after {counted(found['rounds'], 'round')}: {weights}"


def _of_ignored(fit: dict[str, Any]) -> str:
    """Say how many examples a fit ignores."""
    count = len(fit.get("ignored", {}).get("rows", ()))
    return f"; {counted(count, 'example')} {are(count)} ignored" if count else ""
