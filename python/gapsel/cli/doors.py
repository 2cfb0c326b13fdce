"""The commands that advance a run folder: `run`, and one for each door."""

from __future__ import annotations

import argparse
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapsel.cli import score
from gapsel.cli.flags import BEGIN, Help, add_settings
from gapsel.cli.words import in_json, in_words
from gapsel.config import Settings
from gapsel.errors import DataError, NotConvergedError

if TYPE_CHECKING:
    from gapsel.cli.flags import Commands

_ABOUT = {
    "run": "do it all: embed, fit, score, select, report",
    "embed": "texts to vectors, in a new run folder",
    "fit": "vectors to potentials (model.safetensors)",
    "score": "potentials to a score for every document (scores/*.parquet)",
    "select": "scores to the selection (selected.*), certified",
    "report": "the selection to findings.json and report.html",
}

# What `gapsel select` also tells if asked.
_MORE = ("mass_path", "error_bars")


def add(commands: Commands) -> None:
    """Add `run` and the doors."""
    for door, about in _ABOUT.items():
        command = commands.add_parser(
            door, help=about, description=_description(door), allow_abbrev=False, formatter_class=Help
        )
        command.set_defaults(do=_run, door=door)
        _add_place(command, door)
        if door in BEGIN:
            command.add_argument(
                "--config", metavar="FILE", help="take the settings from a run.json, or a JSON file of settings"
            )
        command.add_argument("--json", action="store_true", help="print the results as JSON")
        command.add_argument("--quiet", action="store_true", help="no progress on stderr")
        if door == "select":
            command.add_argument(
                "--mass-path", action="store_true", help="also tell how the choice moves with the mass, from 0 to 1"
            )
            command.add_argument(
                "--error-bars",
                action="store_true",
                help="also tell what halves of the target and the pool would choose",
            )
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
    summary = _do(door, given)
    print(in_json(summary) if json else in_words(door, summary), flush=True)
    _check_converged(summary)
    return 0


def _do(door: str, given: dict[str, Any]) -> dict[str, Any]:
    """Do the steps up to the door and return what there is to tell."""
    from gapsel import pipeline

    out, config, quiet = Path(given.pop("out")), given.pop("config", None), given.pop("quiet")
    more = [name for name in _MORE if given.pop(name, False)]
    if door in BEGIN:
        settings = pipeline.make_settings(given, None if config is None else _read_config(Path(config)))
        opened = pipeline.begin(out, settings, quiet=quiet, door=door)
    else:
        opened = pipeline.reopen(out, given, quiet=quiet)
    with opened as run:
        summary = pipeline.summarize(run, pipeline.advance(run, "report" if door == "run" else door))
        return summary | {name: getattr(pipeline, f"write_{name}")(run) for name in more}


def _read_config(path: Path) -> Settings:
    try:
        record = loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read as a configuration ({error}): name a run.json, or a JSON file of settings"
        raise DataError(msg) from error
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
            f"not converged: the marginal error is {fit['marginal_error']:.1e} after {fit['full_sweeps']} sweeps of "
            f"the pool, {fit['tolerance']:.0e} was asked for. All files are written; a larger --eps or --max-sweeps "
            "helps"
        )
        raise NotConvergedError(msg)
