"""The command line: flags made from the settings, results on stdout, progress and errors on stderr, exit codes.

    0 done    2 usage    3 bad data    4 not converged (all files are written)
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import typing
from pathlib import Path
from typing import Any, Literal

from gapsel import __version__
from gapsel.config import STEPS, Settings
from gapsel.errors import DataError, GapselError, NotConvergedError, UsageError

_ABOUT = {
    "run": "do it all: embed, fit, score, select, report",
    "embed": "texts to vectors, in a new run folder",
    "fit": "vectors to potentials (model.safetensors)",
    "score": "potentials to a score for every document (scores/*.parquet)",
    "select": "scores to the selection (selected.*), certified",
    "report": "the selection to findings.json and report.html",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = build_parser()
    given = vars(parser.parse_args(arguments))
    door, as_json = given.pop("door"), given.pop("json")
    try:
        summary = _do(door, given)
        print(json.dumps(summary, indent=2, sort_keys=True) if as_json else _in_words(door, summary))
        _check_converged(summary)
    except GapselError as error:
        print(f"gapsel: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print("gapsel: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Build the parser: one subcommand for each door, one flag for each setting that the door takes."""
    parser = argparse.ArgumentParser(
        prog="gapsel", description="Choose, out of many documents, the few that move a model's data toward a task."
    )
    parser.add_argument("--version", action="version", version=f"gapsel {__version__}")
    commands = parser.add_subparsers(dest="door", required=True, metavar="COMMAND")
    for door, about in _ABOUT.items():
        command = commands.add_parser(
            door, help=about, description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        command.add_argument("-o", "--out", required=True, metavar="FOLDER", help="the run folder")
        if door in ("run", "embed"):
            command.add_argument("--config", metavar="FILE", help="take the settings of a run.json; flags go before")
        command.add_argument("--json", action="store_true", help="print the results as JSON")
        command.add_argument("--quiet", action="store_true", help="no progress on stderr")
        _add_settings(command, door)
    return parser


def _add_settings(command: argparse.ArgumentParser, door: str) -> None:
    hints = typing.get_type_hints(Settings)
    for field in dataclasses.fields(Settings):
        if door not in field.metadata["doors"]:
            continue
        flags = [*([field.metadata["short"]] if "short" in field.metadata else []), f"--{field.name.replace('_', '-')}"]
        shown = "" if field.default in ((), None) else f" (default: {field.default})"
        text = (field.metadata["help"] + ("" if "default" in field.metadata["help"] else shown)).replace("%", "%%")
        command.add_argument(
            *flags, dest=field.name, default=argparse.SUPPRESS, help=text,
            **_form(hints[field.name], field.metadata.get("metavar")),
        )  # fmt: skip


def _form(kind: Any, metavar: str | None) -> dict[str, Any]:  # noqa: ANN401 - a type hint
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if typing.get_origin(kind) is Literal:
        return {"choices": typing.get_args(kind)}
    if typing.get_origin(kind) is tuple:
        return {"nargs": "+", "metavar": metavar}
    plain = next((one for one in (int, float) if one in (kind, *typing.get_args(kind))), str)
    return {"type": plain, "metavar": metavar}


def _do(door: str, given: dict[str, Any]) -> dict[str, Any]:
    """Do the steps up to the door and return what there is to tell."""
    from gapsel import pipeline

    out, config, quiet = Path(given.pop("out")), given.pop("config", None), given.pop("quiet")
    if door in ("run", "embed"):
        settings = pipeline.make_settings(given, _read_config(config) if config else None)
        run = pipeline.begin(out, settings, quiet=quiet)
    else:
        run = pipeline.reopen(out, given, quiet=quiet)
    pipeline.advance(run, "report" if door == "run" else door)
    done = {step: run.folder.facts(step) for step in STEPS[: STEPS.index("report" if door == "run" else door) + 1]}
    findings = json.loads((out / "findings.json").read_text()) if door in ("run", "report") else None
    return {"folder": str(out), "steps": done, "findings": findings}


def _read_config(path: str) -> Settings:
    try:
        record = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read as a configuration ({error}): name a run.json, or a JSON file of settings"
        raise DataError(msg) from error
    if not isinstance(record, dict):
        msg = f"{path}: is no JSON object: name a run.json, or a JSON file of settings"
        raise UsageError(msg)
    settings = record.get("settings", record)
    return Settings.from_json(settings, path)


def _check_converged(summary: dict[str, Any]) -> None:
    fit = summary["steps"].get("fit")
    if fit and not fit["converged"]:
        msg = (
            f"not converged: the marginal error is {fit['marginal_error']:.1e} after {fit['full_sweeps']} sweeps of the "
            f"pool, {fit['tolerance']:.0e} was asked for; all files are written. A larger --eps or --max-sweeps helps"
        )
        raise NotConvergedError(msg)


def _in_words(door: str, summary: dict[str, Any]) -> str:
    """Say what was done, for people."""
    steps, folder = summary["steps"], summary["folder"]
    if summary["findings"]:
        return "\n".join([*_answer(summary["findings"]), *_files(folder, steps)])
    if door == "embed":
        pool, target = steps["embed"]["pool"], steps["embed"]["target"]
        return (
            f"{pool['rows']:,} documents of the pool and {target['rows']:,} of the target have vectors of {pool['d']} "
            f"dimensions; {pool['rejected'] + target['rejected']:,} rows were set aside. They lie in {folder}/vectors"
        )
    if door == "fit":
        fit = steps["fit"]
        return (
            f"marginal error {fit['marginal_error']:.1e} in {fit['full_sweeps']} sweeps of the pool at eps "
            f"{fit['eps']:.4g}; a document sees about {fit['perplexity']:.0f} targets. {folder}/model.safetensors"
        )
    if door == "score":
        return f"{steps['score']['rows']:,} documents have scores, in {folder}/scores"
    return "\n".join([_certainty(steps["select"]["certificate"]), *_files(folder, steps)])


def _answer(found: dict[str, Any]) -> list[str]:
    lines = [
        f"Chose {found['k']:,} of {found['n']:,} documents for {found['m']:,} examples of the task, at mass "
        f"{found['mass']:g}.",
        "",
        f"  {'OT distance to the target':26}{'mixture':>18}{'alone':>18}{'precision':>12}{'overlap':>10}",
        f"  {'the pool itself':26}{_interval(found['pool_distance']):>18}",
    ]
    for one in found["methods"]:
        precision = "" if one["precision"] is None else f"{one['precision']:.1%}"
        distances = f"{_interval(one['mixture']):>18}{_interval(one['alone']):>18}"
        lines.append(f"  {one['name']:26}{distances}{precision:>12}{one['overlap']:>10.0%}")
    lines += ["", "  " + _certainty(found["certificate"])]
    state = "converged" if found["converged"] else "NOT CONVERGED"
    lines.append(f"  {state}: marginal error {found['marginal_error']:.1e} in {found['full_sweeps']} sweeps of the pool")
    if found["rejected_rows"]:
        lines.append(f"  {found['rejected_rows']:,} rows could not be used: see rejected*.jsonl")
    for title, key in (("Some of the chosen:", "chosen"), ("Barely not chosen:", "barely_rejected")):
        lines += ["", title, *(_line(example) for example in found[key][:5])]
    return lines


def _certainty(certificate: dict[str, Any]) -> str:
    return f"certificate: no other choice of this size gains more than {certificate['percent']:.2g} % of the attainable"


def _interval(interval: dict[str, float]) -> str:
    return f"{interval['lower']:.3f} .. {interval['upper']:.3f}"


def _line(example: dict[str, Any]) -> str:
    text = " ".join((example["text"] or "").split())
    label = f" [{example['label']}]" if example["label"] else ""
    return f"  {example['rank']:>6}  {example['score']:+.4f}  {example['id']}{label}  {text[:90]}"


def _files(folder: str, steps: dict[str, Any]) -> list[str]:
    lines = ["", f"Selection  {folder}/{steps['select']['file']}", f"Scores     {folder}/scores/"]
    if "report" in steps:
        lines.append(f"Report     {folder}/report.html")
    return lines
