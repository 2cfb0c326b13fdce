"""The command line: flags made from the settings, results on stdout, progress and errors on stderr, exit codes.

0 done    2 usage    3 bad data    4 not converged (all files are written)    5 no disk space, no folder to write, ...

    doors.py   the commands that advance a run folder    words.py   what they did, told to people
    flags.py   settings as flags                         mix.py, evaluate.py, plan.py, ...   one command each
    stopping.py   Ctrl-C and SIGTERM

A file of commands has ``add``, which adds them to the parser, each with the function that does it as its default "do".
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from difflib import get_close_matches
from typing import Any

from gapsel import __version__
from gapsel.cli import bench, compare, doctor, doors, evaluate, mix, plan, stopping
from gapsel.cli.flags import Help
from gapsel.errors import GapselError, ResourceError

__all__ = ["build_parser", "main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Texts may hold what the terminal's own encoding has not: that is no reason to fail after hours of work.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        given = _given(arguments)
        do = given.pop("do")
        with stopping.stoppable():
            code = int(do(**given))
        sys.stdout.flush()
    except GapselError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # Whoever read the results has seen enough; what is still buffered must not fail at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}: check the disk and its permissions", ResourceError.exit_code)
    except MemoryError:
        return _fail("there is not enough memory: give fewer documents, or a machine with more of it", 1)
    except KeyboardInterrupt as stopped:
        return _fail(stopping.SAID, stopping.exit_code(stopped))
    return code


def _given(arguments: list[str] | None) -> dict[str, Any]:
    """Return what is given, by name. Ends the program, as argparse does, where something is unknown."""
    found, unknown = build_parser().parse_known_args(arguments)
    given = vars(found)
    known, name = given.pop("known"), given.pop("command")
    if unknown:
        hint = _hint(unknown[0].partition("=")[0], name, known)
        known[name].error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return given


def _hint(flag: str, name: str, known: dict[str, argparse.ArgumentParser]) -> str:
    """Say which commands take a flag that is none of this one's, or which flag may be meant."""
    flags = {command: set(re.findall(r"--[a-z-]+", parser.format_help())) for command, parser in known.items()}
    takers = [command for command, own in flags.items() if flag in own]
    if takers:
        return f" ({flag} goes with gapsel {', '.join(takers)})"
    near = get_close_matches(flag, flags[name], n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _fail(message: str, code: int) -> int:
    print(f"gapsel: {message}", file=sys.stderr)
    return code


def build_parser() -> argparse.ArgumentParser:
    """Build the parser: one subcommand for each door, one flag for each setting that the door takes."""
    parser = argparse.ArgumentParser(
        prog="gapsel",
        description=(
            "Choose, out of many documents, the few that move a model's data toward a task.\n\n"
            "  gapsel run --pool POOL --target TARGET -k 1% -o OUT"
        ),
        epilog=(
            "Exit codes: 0 done, 2 usage, 3 bad data, 4 not converged, 5 a full disk, a folder that is in use or\n"
            "cannot be written, a store or a cluster that does not answer. `gapsel COMMAND --help` says more."
        ),
        allow_abbrev=False,
        formatter_class=Help,
    )
    parser.add_argument("--version", action="version", version=f"gapsel {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    parser.set_defaults(known=commands.choices)
    for one in (doors, compare, evaluate, mix, plan, bench, doctor):
        one.add(commands)
    return parser
