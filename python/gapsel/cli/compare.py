"""`gapsel compare`: simple ways to choose, beside the choice of a run, on the same vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapsel.cli.flags import add_study
from gapsel.cli.targets import before, interval
from gapsel.cli.words import in_json
from gapsel.wording import counted

if TYPE_CHECKING:
    from gapsel.cli.flags import Commands

_ABOUT = "simple ways to choose beside gapsel's: overlap, distance, coverage, domains, tokens, time"
_MORE = """Compare {about}.

In a run folder, whose report then shows them too; steps that are not done are done first. All choose under the rules of
the run: its budget, quotas, threshold, lists and copies. Without --methods all are
compared that can be: dsir reads texts, curated goes by labels.

  gapsel compare -o OUT --methods random dsir kde
"""
_LABELS_SHOWN = 4
_IN_JSON = ("base", "k", "mass", "pool_distance", "tasks", "methods")


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_study(commands, "compare", _ABOUT, _MORE.format(about=_ABOUT), door="report")
    command.set_defaults(do=_compare)


def _compare(out: str, *, json: bool, quiet: bool, **given: Any) -> int:  # noqa: ANN401 - settings
    from gapsel import pipeline

    with pipeline.compare(Path(out), given, quiet=quiet) as run:
        summary = pipeline.summarize(run, pipeline.advance(run, "report"))
    found = summary["findings"]
    print(in_json({name: found[name] for name in _IN_JSON}) if json else _table(found))
    return 0


def _table(found: dict[str, Any]) -> str:
    head = (
        f"  {'':24}{'mixture':>16}{'alone':>16}{'overlap':>9}{'coverage':>10}{'precision':>11}{'tokens':>13}{'time':>9}"
    )
    lines = [f"{_how_many(found)}, at mass {found['mass']:g}; OT distance to the target", "", head]
    lines.append(f"  {before(found):24} {interval(found['pool_distance']):>15}")
    lines += [_row(one) for one in found["methods"]]
    for at, task in enumerate(found["tasks"]):
        lines += ["", f"  Of the task {task['name']} alone"]
        lines.append(f"  {before(found):24} {interval(task['pool_distance']):>15}")
        lines += [_of_task(one["name"], one["tasks"][at]) for one in found["methods"]]
    if any(one["mix"] for one in found["methods"]):
        lines += ["", "  Where the chosen come from:", *(_mix(one) for one in found["methods"])]
    return "\n".join(lines)


def _how_many(found: dict[str, Any]) -> str:
    counts = [one["documents"] for one in found["methods"]]
    if len(set(counts)) == 1:
        return f"{counted(counts[0], 'document')} each"
    return f"{min(counts):,} to {max(counts):,} documents, under the same rules"


def _row(one: dict[str, Any]) -> str:
    precision = "" if one["precision"] is None else f"{one['precision']:.1%}"
    tokens = "" if one["tokens"] is None else f"{one['tokens']:,}"
    return (
        f"  {one['name']:24} {interval(one['mixture']):>15} {interval(one['alone']):>15}{one['overlap']:>9.0%}"
        f"{one['coverage']:>10.0%}{precision:>11}{tokens:>13}{one['seconds']:>7.1f} s"
    )


def _of_task(name: str, one: dict[str, Any]) -> str:
    precision = "" if one["precision"] is None else f"{one['precision']:.1%}"
    distances = f" {interval(one['mixture']):>15} {interval(one['alone']):>15}"
    return f"  {name:24}{distances}{'':9}{one['coverage']:>10.0%}{precision:>11}".rstrip()


def _mix(one: dict[str, Any]) -> str:
    shares = sorted(one["mix"].items(), key=lambda pair: -pair[1])[:_LABELS_SHOWN]
    return f"  {one['name']:24}" + ", ".join(f"{label} {share:.0%}" for label, share in shares)
