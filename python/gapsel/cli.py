"""The command line: flags made from the settings, results on stdout, progress and errors on stderr, exit codes.

0 done    2 usage    3 bad data    4 not converged (all files are written)
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import sys
import typing
from json import dumps, loads
from pathlib import Path
from typing import Any, Literal

from gapsel import __version__
from gapsel.config import Settings
from gapsel.errors import DataError, DeviceError, GapselError, NotConvergedError

_ABOUT = {
    "run": "do it all: embed, fit, score, select, report",
    "embed": "texts to vectors, in a new run folder",
    "fit": "vectors to potentials (model.safetensors)",
    "score": "potentials to a score for every document (scores/*.parquet)",
    "select": "scores to the selection (selected.*), certified",
    "report": "the selection to findings.json and report.html",
}
# The doors that begin a run folder; the others go on in one.
BEGIN = ("run", "embed")


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = vars(build_parser().parse_args(arguments))
    try:
        return _run(**given)
    except GapselError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # Whoever read the results has seen enough; what is still buffered must not fail at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}: check the disk and its permissions", DataError.exit_code)
    except MemoryError:
        return _fail("there is not enough memory: give fewer documents, or a machine with more of it", 1)
    except KeyboardInterrupt:
        return _fail("stopped; the same command goes on from here", 130)


def _fail(message: str, code: int) -> int:
    print(f"gapsel: {message}", file=sys.stderr)
    return code


def _run(door: str, *, json: bool, **given: Any) -> int:  # noqa: ANN401 - settings
    if door == "bench":
        return _bench(json=json, **given)
    if door == "doctor":
        return _doctor(json=json)
    summary = _do(door, given)
    print(_in_json(summary) if json else _in_words(door, summary), flush=True)
    _check_converged(summary)
    return 0


def _in_json(summary: dict[str, Any]) -> str:
    return dumps(summary, indent=2, sort_keys=True, allow_nan=False)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser: one subcommand for each door, one flag for each setting that the door takes."""
    parser = argparse.ArgumentParser(
        prog="gapsel",
        description="Choose, out of many documents, the few that move a model's data toward a task.",
        epilog="Exit codes: 0 done, 2 usage, 3 bad data, 4 not converged. `gapsel COMMAND --help` says more.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"gapsel {__version__}")
    commands = parser.add_subparsers(dest="door", required=True, metavar="COMMAND")
    for door, about in _ABOUT.items():
        command = commands.add_parser(
            door, help=about, description=_description(door), allow_abbrev=False, formatter_class=_Help
        )
        command.add_argument("-o", "--out", required=True, metavar="FOLDER", help="the run folder")
        if door in BEGIN:
            command.add_argument(
                "--config", metavar="FILE", help="take the settings from a run.json, or a JSON file of settings"
            )
        command.add_argument("--json", action="store_true", help="print the results as JSON")
        command.add_argument("--quiet", action="store_true", help="no progress on stderr")
        _add_settings(command, door)
    _add_bench(commands)
    about = "what can sweep a pool on this machine, each compared with the reference"
    doctor = commands.add_parser("doctor", help=about, description=f"Say {about}.", allow_abbrev=False)
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    return parser


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "gapsel and other solvers on the same problems: time and memory"
    command = commands.add_parser("bench", help=about, description=f"Measure {about}.", allow_abbrev=False)
    command.add_argument("--case", dest="cases", nargs="+", default=[], metavar="NAME", help="cases to measure (all)")
    command.add_argument("--engine", dest="engines", nargs="+", default=[], metavar="NAME", help="and solvers (all)")
    command.add_argument("--pool", type=Path, metavar="FILE", help="your own vectors (.npy) instead of the demo's")
    command.add_argument("--target", type=Path, metavar="FILE", help="and those of a target")
    command.add_argument("--threads", type=int, default=0, metavar="N", help="threads for all alike (all cores)")
    command.add_argument("--record", type=Path, metavar="FOLDER", help="keep the results in the day's record there")
    command.add_argument("--check", action="store_true", help="only check, in seconds, that every solver is right")
    command.add_argument("--json", action="store_true", help="print the record as JSON")


def _bench(*, json: bool, check: bool, record: Path | None, **given: Any) -> int:  # noqa: ANN401 - a plan
    from gapsel import bench

    plan = bench.Plan(**given)
    if check:
        print("\n".join(bench.check(plan)))
        return 0
    keep = (lambda _: None) if record is None else (lambda found: bench.save(record, found))
    found = bench.run(plan, lambda said: print(said, file=sys.stderr, flush=True), keep)
    print(_in_json(found) if json else bench.in_words(found), flush=True)
    return 0


def _doctor(*, json: bool) -> int:
    from gapsel import doctor

    found = doctor.examine()
    print(_in_json(found) if json else doctor.in_words(found), flush=True)
    return 0 if found["sound"] else DeviceError.exit_code


class _Help(argparse.RawDescriptionHelpFormatter):
    """Flags in a column of their own, wide enough for most of them."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)


def _description(door: str) -> str:
    if door in BEGIN:
        example = f"gapsel {door} --pool POOL --target TARGET {'-k 1000 ' if door == 'run' else ''}-o OUT"
        more = f"The same command again goes on where it was stopped; flags win over --config.\n\n  {example}"
    else:
        more = (
            "In a folder that `gapsel embed` or `gapsel run` began; steps before it that are not done are done first."
        )
    return f"{_ABOUT[door][0].upper()}{_ABOUT[door][1:]}.\n{more}"


def _add_settings(command: argparse.ArgumentParser, door: str) -> None:
    hints = typing.get_type_hints(Settings)
    for field in dataclasses.fields(Settings):
        if door not in field.metadata["doors"]:
            continue
        flags = [*([field.metadata["short"]] if "short" in field.metadata else []), f"--{field.name.replace('_', '-')}"]
        command.add_argument(
            *flags, dest=field.name, default=argparse.SUPPRESS, help=_help_of(field, door).replace("%", "%%"),
            **_form(hints[field.name], field.metadata.get("metavar")),
        )  # fmt: skip


def _help_of(field: dataclasses.Field[Any], door: str) -> str:
    """Return a flag's help with its default, which in a run folder is what stands there."""
    text: str = field.metadata["help"]
    if door not in BEGIN:
        return f"{text.partition(' (default')[0].partition(', default')[0]} (default: as in the run)"
    if "default" in text or field.default in {(), None}:
        return text
    shown = ("yes" if field.default else "no") if isinstance(field.default, bool) else field.default
    return f"{text} (default: {shown})"


def _form(kind: Any, metavar: str | None) -> dict[str, Any]:  # noqa: ANN401 - a type hint
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if typing.get_origin(kind) is Literal:
        return {"choices": typing.get_args(kind)}
    if typing.get_origin(kind) is tuple:
        return {"nargs": "+", "metavar": metavar}
    plain = next((one for one in (int, float) if one in (kind, *typing.get_args(kind))), str)
    return {"type": plain, "metavar": metavar or {int: "N", float: "X", str: "NAME"}[plain]}


def _do(door: str, given: dict[str, Any]) -> dict[str, Any]:
    """Do the steps up to the door and return what there is to tell."""
    from gapsel import pipeline

    out, config, quiet = Path(given.pop("out")), given.pop("config", None), given.pop("quiet")
    if door in BEGIN:
        settings = pipeline.make_settings(given, None if config is None else _read_config(Path(config)))
        run = pipeline.begin(out, settings, quiet=quiet, door=door)
    else:
        run = pipeline.reopen(out, given, quiet=quiet)
    return pipeline.summarize(run, pipeline.advance(run, "report" if door == "run" else door))


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
    chosen = steps["select"]
    words = f"Chose {chosen['k']:,} documents, at mass {chosen['mass']:g}."
    return "\n".join([words, _certainty(chosen["certificate"], chosen["mass"]), *_files(folder, steps)])


def _answer(found: dict[str, Any]) -> list[str]:
    chose = f"Chose {found['k']:,} of {found['n']:,} documents for {found['m']:,} examples of the task"
    lines = [
        f"{chose}, at mass {found['mass']:g}.",
        "",
        f"  {'OT distance to the target':26}{'mixture':>18}{'alone':>18}{'precision':>12}{'overlap':>10}",
        f"  {'the pool itself':26}{_interval(found['pool_distance']):>18}",
    ]
    for one in found["methods"]:
        precision = "" if one["precision"] is None else f"{one['precision']:.1%}"
        distances = f"{_interval(one['mixture']):>18}{_interval(one['alone']):>18}"
        lines.append(f"  {one['name']:26}{distances}{precision:>12}{one['overlap']:>10.0%}")
    lines += ["", "  " + _certainty(found["certificate"], found["mass"])]
    state = "converged" if found["converged"] else "NOT CONVERGED"
    lines.append(
        f"  {state}: marginal error {found['marginal_error']:.1e} in {found['full_sweeps']} sweeps of the pool"
    )
    if found["rejected_rows"]:
        lines.append(f"  {found['rejected_rows']:,} rows could not be used: see rejected*.jsonl")
    for title, key in (("Some of the chosen:", "chosen"), ("Barely not chosen:", "barely_rejected")):
        lines += ["", title, *(_line(example) for example in found[key][:5])]
    return lines


def _certainty(certificate: dict[str, Any], mass: float) -> str:
    if mass == 0:
        return "at mass 0 the choice is one gradient step: the documents of the lowest scores, which is exact"
    # Rounded up, for it is an upper bound; the tolerance of the solver carries no more than a tenth.
    percent = max(0.1, math.ceil(10 * certificate["percent"]) / 10)
    return f"certificate: no other choice of this size can beat it by more than {percent:g} % of what is attainable"


def _interval(interval: dict[str, float]) -> str:
    return f"{interval['lower']:.3f} .. {interval['upper']:.3f}"


def _line(example: dict[str, Any]) -> str:
    text = " ".join((example["text"] or "").split())
    label = f" [{example['label']}]" if example["label"] else ""
    return f"  {example['rank']:>6}  {example['score']:+.4f}  {example['id']}{label}  {text[:90]}".rstrip()


def _files(folder: str, steps: dict[str, Any]) -> list[str]:
    lines = ["", f"Selection  {folder}/{steps['select']['file']}", f"Scores     {folder}/scores/"]
    if "report" in steps:
        lines.append(f"Report     {folder}/report.html")
    return lines
