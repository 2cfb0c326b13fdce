"""`gapsel score`: the door to a run folder's scores, or, with a model file, documents from anywhere as they pass."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gapsel.cli.stopping import exit_code
from gapsel.errors import GapselError, UsageError

if TYPE_CHECKING:
    import io
    from collections.abc import Callable

USAGE = """gapsel score -o FOLDER [flags]
       gapsel score --model MODEL [flags] [INPUT ...]"""
ABOUT = """
Or score documents from anywhere with a model file: rows go through in order, with gapsel_score added, as JSON lines or
as an Arrow stream. INPUT is a file, folder, glob or URL of texts in any format, or of vectors (.npy, .parquet);
without one, or for -, standard input.

  gapsel score --model OUT/model.safetensors --keep 1% < documents.jsonl > kept.jsonl"""
_OF_STREAMS = (
    "inputs", "form", "keep", "threshold", "rejects", "text_field", "id_field", "vector_field", "batch_rows", "encoder",
    "device",
)  # fmt: skip
_READING = ("text_field", "id_field", "vector_field", "form", "batch_rows")
_TOOLS = ("encoder", "device", "backend", "threads")


def extend(command: argparse.ArgumentParser, in_folder: Callable[..., int]) -> None:
    """Add to the door what scores by a model file; without one ``in_folder`` does it."""
    command.usage = USAGE
    command.description = f"{command.description}\n{ABOUT}"
    command.set_defaults(do=lambda **given: _score(in_folder, given))
    group = command.add_argument_group("with a model file", argument_default=argparse.SUPPRESS)
    group.add_argument("inputs", nargs="*", metavar="INPUT", help="what to score; - or none: standard input")
    group.add_argument("--format", dest="form", choices=("jsonl", "arrow"), help="of standard input and output (jsonl)")
    limits = group.add_mutually_exclusive_group()
    limits.add_argument("--keep", metavar="SHARE", help="pass on only the best, such a share of what is like the pool")
    limits.add_argument("--threshold", type=float, metavar="SCORE", help="pass on only scores up to this one")
    group.add_argument("--rejects", type=Path, metavar="FILE", help="where rows go that cannot be used")
    group.add_argument("--text-field", metavar="NAME", help="field that holds the text (text)")
    group.add_argument("--id-field", metavar="NAME", help="field that holds the id (id)")
    group.add_argument("--vector-field", metavar="NAME", help="vectors of the same encoder are in this column or field")
    group.add_argument("--batch-rows", type=int, metavar="N", help="rows scored at a time; few for slow streams (2048)")
    group.add_argument("--encoder", metavar="FOLDER", help="where the model's encoder lies, if it is not found by name")
    group.add_argument("--device", metavar="NAME", help="where the encoder runs: auto, cpu, cuda, cuda:1 ... (auto)")


def _score(in_folder: Callable[..., int], given: dict[str, Any]) -> int:
    if "model" in given:
        del given["door"]
        return _stream(**given)
    foreign = next((name for name in _OF_STREAMS if given.get(name)), None)
    if foreign is not None:
        named = {"inputs": "INPUT", "form": "--format"}.get(foreign, f"--{foreign.replace('_', '-')}")
        msg = f"{named} goes with --model MODEL; with -o the documents are those of the run"
        raise UsageError(msg)
    given.pop("inputs", None)
    return in_folder(**given)


def _stream(*, model: str, json: bool, quiet: bool, **given: Any) -> int:  # noqa: ANN401 - flags
    from gapsel import corpus, memory, stream
    from gapsel.config import parse_size
    from gapsel.model import load
    from gapsel.progress import track
    from gapsel.stream.inputs import Reading

    if json:
        msg = "--json goes with -o: with --model the rows themselves are printed, as JSON lines"
        raise UsageError(msg)
    rejected = given.get("rejects")
    request = stream.Request(
        tuple(given.get("inputs", ())),
        Reading(**{name: given[name] for name in _READING if name in given}),
        given.get("keep"),
        given.get("threshold"),
    )
    _check_terminal(request)
    memory.allow(parse_size(given["memory"]) if "memory" in given else None)
    summary = stream.Summary(rejects=corpus.Rejects(listed=rejected is not None))
    scorer = stream.Scorer.of(load(model), model, **{name: given[name] for name in _TOOLS if name in given})
    try:
        with track("score", None, enabled=not quiet) as advance:
            stdin = cast("io.BufferedReader", sys.stdin.buffer)
            say = _say(quiet=quiet)
            stream.run(scorer, request, stdin, sys.stdout.buffer, summary=summary, say=say, advance=advance)
    except KeyboardInterrupt as stopped:
        return exit_code(stopped)
    except GapselError:
        # Of what could not even begin there is nothing to sum up.
        quiet = quiet or not summary.scored
        raise
    finally:
        summary.finish(rejected)
        if not quiet or summary.rejects.count:
            print("\n".join(summary.in_words(rejected)), file=sys.stderr)
    return 0


def _say(*, quiet: bool) -> Callable[[str], None]:
    return lambda text: None if quiet else print(text, file=sys.stderr, flush=True)


def _check_terminal(request: Any) -> None:  # noqa: ANN401 - stream.Request
    if sys.stdin.isatty() and (not request.inputs or "-" in request.inputs):
        msg = "there is nothing to score: name files, or send rows to standard input"
        raise UsageError(msg)
    if sys.stdout.isatty() and request.reading.form == "arrow":
        msg = "an Arrow stream is nothing for a terminal: send it to a file or a program"
        raise UsageError(msg)
