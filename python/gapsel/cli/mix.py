"""`gapsel mix`: how much of each domain, certified, and the documents chosen by that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapsel.cli.doors import quiet_stdout, read_config
from gapsel.cli.flags import add_study
from gapsel.cli.targets import interval
from gapsel.cli.words import in_json
from gapsel.errors import NotConvergedError
from gapsel.wording import counted

if TYPE_CHECKING:
    from gapsel.cli.flags import Commands

_ABOUT = "how much of each domain: the weights of the mixture that is nearest to the target"
_MORE = """Find {about}.

Domains are the values of --label-field, or clusters of the vectors. In a run folder, or in a new one with --pool and
--target, whose texts are embedded first.

  gapsel mix -o OUT --label-field domain
  gapsel mix -o OUT --clusters 64 --choose -k 10000
"""
# Domains that take no part, of which some are shown.
_IDLE_SHOWN = 5
_WIDEST = 32


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_study(commands, "mix", _ABOUT, _MORE.format(about=_ABOUT), door="mix")
    command.set_defaults(do=_mix)
    command.add_argument(
        "--config", metavar="FILE", help="take the settings from a run.json, or a JSON file of settings"
    )


def _mix(out: str, *, json: bool, quiet: bool, config: str | None, **given: Any) -> int:  # noqa: ANN401 - settings
    from gapsel import pipeline

    base = None if config is None else read_config(Path(config))
    with quiet_stdout(), pipeline.begin_or_reopen(Path(out), given, quiet=quiet, base=base) as run:
        found = pipeline.mix_run(run).to_json()
    print(in_json({"folder": out, **found}) if json else _table(found, out), flush=True)
    if not found["converged"]:
        msg = (
            f"not converged: other weights could still gain {found['certificate']['percent']:.2g} % of what is "
            "attainable, for all that is known. All files are written; a larger --eps or --max-sweeps helps"
        )
        raise NotConvergedError(msg)
    return 0


def _table(found: dict[str, Any], out: str) -> str:
    domains = found["domains"]
    taking = [one for one in domains if one["weight"] > 0]
    idle = domains[len(taking) :]
    width = min(_WIDEST, max(len(one["domain"]) for one in domains))
    chosen = f"{'chosen':>10}" if found["k"] else ""
    lines = [
        f"  {found['field'] or 'cluster':{width}}{'documents':>12}{'of the pool':>13}{'weight':>9}{'slope':>9}{chosen}",
        *(_row(one, width) for one in (*taking, *idle[:_IDLE_SHOWN])),
    ]
    if len(idle) > _IDLE_SHOWN:
        lines.append(f"  and {len(idle) - _IDLE_SHOWN} more without weight, see mixture.json")
    lines += ["", f"  {'OT distance to the target':36}{interval(found['natural'])}  the pool as it is"]
    for name, what in (("even", "every domain alike"), ("mixture", "these weights")):
        lines.append(f"  {'':36}{interval(found[name])}  {what}")
    if found["k"]:
        lines.append(f"  {'':36}{interval(found['chosen'])}  the {counted(found['k'], 'chosen document')}")
    percent = max(0.1, -(-10 * found["certificate"]["percent"] // 1) / 10)
    lines += [*_tasks(found), *_ignored(found)]
    lines += ["", f"  certificate: no other weights can beat these by more than {percent:g} % of what is attainable"]
    lines += ["", f"Weights    {out}/mixture.json"]
    return "\n".join([*lines, *([f"Selection  {out}/{found['file']}"] if found["file"] else [])])


def _tasks(found: dict[str, Any]) -> list[str]:
    """Say what the tasks of several weigh, and what each closes of what it could close by itself."""
    if not found["tasks"]:
        return []
    shown = [f"  {'task':36}{'examples':>10}{'weight':>9}{'closed':>9}"]
    for one in found["tasks"]:
        closed = "" if one["closed"] is None else f"{one['closed']:.1%}"
        shown.append(f"  {one['name']:36}{one['examples']:>10,}{one['weight']:>9.1%}{closed:>9}".rstrip())
    uneven = [] if found["level"] in (None, True) else ["  no weights were found at which all close as much"]
    return ["", *shown, *uneven]


def _ignored(found: dict[str, Any]) -> list[str]:
    ids = found["ignored"]
    if not ids:
        return []
    more = f" and {len(ids) - _IDLE_SHOWN} more, see mixture.json" if len(ids) > _IDLE_SHOWN else ""
    return ["", f"  ignored, being far from every domain: {', '.join(ids[:_IDLE_SHOWN])}{more}"]


def _row(one: dict[str, Any], width: int) -> str:
    chosen = "" if one["chosen"] is None else f"{one['chosen']:>10,}"
    name = one["domain"] if len(one["domain"]) <= width else one["domain"][: width - 1] + "…"
    return (
        f"  {name:{width}}{one['rows']:>12,}{one['natural']:>13.1%}{one['weight']:>9.1%}{one['slope']:>+9.4f}{chosen}"
    )
