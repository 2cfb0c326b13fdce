"""The commands that advance a run folder: `run`, and one for each door."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from dataclasses import fields
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from gapsel.cli import score
from gapsel.cli.flags import BEGIN, Help, add_settings, add_telling
from gapsel.cli.words import in_json, in_words, task_in_words
from gapsel.config import Settings
from gapsel.errors import NotConvergedError, UsageError
from gapsel.files import reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapsel.cli.flags import Commands

# The doors whose work can be shared out among tasks.
TASKS = ("embed", "score")
_ABOUT = {
    "run": "do it all: embed, fit, score, select, report",
    "embed": "texts to vectors, in a new run folder",
    "fit": "vectors to potentials (model.safetensors)",
    "score": "potentials to a score for every document (scores/*.parquet)",
    "select": "scores to the selection (selected.*), certified",
    "report": "the selection to findings.json and report.html",
}


def add(commands: Commands) -> None:
    """Add `run` and the doors."""
    for door, about in _ABOUT.items():
        command = commands.add_parser(
            door,
            help=about,
            description=_description(door),
            allow_abbrev=False,
            formatter_class=Help,
            usage=f"gapsel {door} -o FOLDER [flags]",
        )
        command.set_defaults(do=_run, door=door)
        _add_place(command, door)
        if door in BEGIN:
            command.add_argument(
                "--config", metavar="FILE", help="take the settings from a run.json, or a JSON file of settings"
            )
        elif door != "score":
            text = "settings that shall have their default again, like max-cosine"
            command.add_argument("--reset", nargs="+", action="extend", default=[], metavar="SETTING", help=text)
        add_telling(command)
        if door in TASKS:
            command.add_argument("--task-index", type=int, metavar="I", help="do the share of task I, from 0, alone")
            command.add_argument("--task-count", type=int, metavar="N", help="of so many tasks")
        add_settings(command, door)
        if door == "score":
            score.extend(command, _run)


def _add_place(command: argparse.ArgumentParser, door: str) -> None:
    """Add the run folder; `score` does as well with a model file."""
    place = command.add_mutually_exclusive_group(required=True)
    place.add_argument("-o", "--out", default=argparse.SUPPRESS, metavar="FOLDER", help="the run folder")
    if door == "score":
        text = "or a model.safetensors, or the folder of one, for INPUT"
        place.add_argument("--model", default=argparse.SUPPRESS, metavar="MODEL", help=text)


def _description(door: str) -> str:
    if door in BEGIN:
        example = f"gapsel {door} --pool POOL --target TARGET {'-k 1000 ' if door == 'run' else ''}-o OUT"
        more = f"The same command again goes on where it was stopped; flags win over --config.\n\n  {example}"
    else:
        more = (
            "In a folder that `gapsel embed` or `gapsel run` began; steps before it that are not done are done first."
        )
    return f"{_ABOUT[door][0].upper()}{_ABOUT[door][1:]}.\n{more}"


def _run(door: str, *, json: bool, **given: Any) -> int:  # noqa: ANN401 - settings
    index, count = given.pop("task_index", None), given.pop("task_count", None)
    if index is not None or count is not None:
        return _do_task(door, index, count, json=json, **given)
    summary = _do(door, given)
    print(in_json(summary) if json else in_words(door, summary), flush=True)
    _check_converged(summary)
    return 0


def quiet_stdout() -> redirect_stdout[TextIO]:
    """Leave stdout to the results: what Ray has to say of a lost worker it says there."""
    return redirect_stdout(sys.stderr)


def _do_task(door: str, index: int | None, count: int | None, *, json: bool, **given: Any) -> int:  # noqa: ANN401 - settings
    """Do one task's share of a door, and tell what is there and what is not."""
    from gapsel import pipeline

    if index is None or count is None:
        msg = "a task has both a --task-index and a --task-count: give the other one too"
        raise UsageError(msg)
    out, config, quiet = Path(given.pop("out")), given.pop("config", None), given.pop("quiet")
    settings = {} if config is None else read_config(Path(config)).to_json()
    task = pipeline.Task(index, count)
    with quiet_stdout(), pipeline.share(out, {**settings, **given}, door, task, quiet=quiet) as run:
        facts = pipeline.do_task(run, door, task)
    print(in_json(facts) if json else task_in_words(facts), flush=True)
    return 0


def _do(door: str, given: dict[str, Any]) -> dict[str, Any]:
    """Do the steps up to the door and return what there is to tell."""
    from gapsel import pipeline

    out, config, quiet = Path(given.pop("out")), given.pop("config", None), given.pop("quiet")
    if door in BEGIN:
        settings = pipeline.make_settings(given, None if config is None else read_config(Path(config)))
        opened = pipeline.begin(out, settings, quiet=quiet, door=door)
    else:
        given = {**_defaults(given.pop("reset", ()), door), **given}
        opened = pipeline.reopen(out, given, quiet=quiet)
    with quiet_stdout(), opened as run:
        return pipeline.summarize(run, pipeline.advance(run, "report" if door == "run" else door))


def _defaults(names: Sequence[str], door: str) -> dict[str, Any]:
    """Return the defaults of these settings of a door. Raises UsageError for others."""
    there = {field.name: field.default for field in fields(Settings) if door in field.metadata["doors"]}
    wanted = {name: name.lstrip("-").replace("-", "_") for name in names}
    for name, setting in wanted.items():
        if setting not in there:
            msg = f"reset is {name!r}: give settings of `gapsel {door}`, {', '.join(there)}"
            raise UsageError(msg)
    return {setting: there[setting] for setting in wanted.values()}


def read_config(path: Path) -> Settings:
    """Return the settings in a file. Raises DataError where there are none."""
    with reading(str(path), (ValueError,), "name a run.json, or a JSON file of settings"):
        record = loads(path.read_text(encoding="utf-8-sig"))
    within = isinstance(record, dict) and "settings" in record
    return Settings.from_json(record["settings"] if within else record, str(path))


def _check_converged(summary: dict[str, Any]) -> None:
    fit = summary["steps"].get("fit")
    if fit and fit["marginal_error"] <= fit["tolerance"] < fit["rounding"]:
        msg = (
            f"not converged for certain: the marginal error is {fit['marginal_error']:.1e}, but at this eps the "
            f"rounding of the costs alone may be {fit['rounding']:.1e} of it. All files are written; "
            "a larger --eps helps"
        )
        raise NotConvergedError(msg)
    if fit and not fit["converged"]:
        msg = (
            f"not converged: the last sweep of the pool, number {fit['full_sweeps']}, saw a marginal error of "
            f"{fit['marginal_error']:.1e}, {fit['tolerance']:.0e} was asked for. All files are "
            "written; a larger --eps or --max-sweeps helps"
        )
        raise NotConvergedError(msg)
