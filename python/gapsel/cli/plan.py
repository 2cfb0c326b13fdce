"""`gapsel plan`: what a run would take, before it is begun."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapsel.cli.flags import Help, add_settings
from gapsel.cli.words import in_json
from gapsel.errors import UsageError

if TYPE_CHECKING:
    from gapsel.cli.flags import Commands

_UNITS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}


def add(commands: Commands) -> None:
    """Add the command."""
    about = "what a run would read, write, hold and take, from a sample of its input"
    command = commands.add_parser(
        "plan", help=about, allow_abbrev=False, formatter_class=Help, usage="gapsel plan [flags]",
        description=(
            f"Say {about}.\nTakes the flags of `gapsel run`; looks at some MB, measures for some seconds, and writes "
            "nothing.\n\n  gapsel plan --pool POOL --target TARGET -k 1000 -o OUT"
        ),
    )  # fmt: skip
    command.set_defaults(do=_plan)
    command.add_argument("-o", "--out", default=".", metavar="FOLDER", help="where the run folder would lie (here)")
    command.add_argument(
        "--gpus", type=int, default=0, metavar="N", help="plan for N GPUs on each node, from stated figures"
    )
    command.add_argument("--nodes", type=int, default=1, metavar="N", help="and for so many nodes (default: 1)")
    command.add_argument("--within", metavar="TIME", help="the time that it may take: 90s, 30min, 2h, 1d")
    command.add_argument("--json", action="store_true", help="print the plan as JSON")
    add_settings(command, "run")


def _plan(*, json: bool, out: str, gpus: int, nodes: int, within: str | None, **given: Any) -> int:  # noqa: ANN401 - settings
    from gapsel import pipeline, plan

    limit = float("inf") if within is None else _seconds(within)
    made = plan.make(pipeline.make_settings(given), _there(Path(out)), gpus=gpus, nodes=nodes, within=limit)
    print(in_json(plan.in_json(made)) if json else plan.in_words(made), flush=True)
    return 0


def _there(folder: Path) -> str:
    """Return the folder, or the nearest above it that is there."""
    return str(next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists()))


def _seconds(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or (match[2] or "s") not in _UNITS:
        msg = f"within is {text!r}: give a time like 90s, 30min, 2h or 1d"
        raise UsageError(msg)
    return float(match[1]) * _UNITS[match[2] or "s"]
