"""Settings as flags: one for each setting that a command takes, with its help and its default."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from typing import Any, Literal, TypeAlias

from gapsel.config import Settings

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no other name

# The doors that can begin a run folder; the others go on in one.
BEGIN = ("run", "embed", "mix")
# Help shows the flags in groups: with which setting one begins, and its heading; it goes on up to where another does.
HEADINGS = {
    "pool": "what goes in",
    "avoid_strength": "what is wanted",
    "text_field": "what goes in",
    "methods": "what else is told",
    "model": "documents to vectors",
    "cost": "costs and weights",
    "k": "what is chosen",
    "mass": "mass and solver",
    "mass_path": "what else is told",
    "clusters": "domains",
    "backend": "the machine",
    "test": "what is trained",
    "threads": "the machine",
}


class Help(argparse.RawDescriptionHelpFormatter):
    """Flags in a column of their own, wide enough for most of them."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)


def add_study(commands: Commands, name: str, about: str, description: str, door: str) -> argparse.ArgumentParser:
    """Add a command that stands beside the steps of a run, with its folder and the settings that ``door`` takes."""
    command = commands.add_parser(
        name,
        help=about,
        description=description,
        allow_abbrev=False,
        formatter_class=Help,
        usage=f"gapsel {name} -o FOLDER [flags]",
    )
    command.add_argument("-o", "--out", required=True, metavar="FOLDER", help="the run folder")
    add_telling(command)
    add_settings(command, door)
    return command


def add_telling(command: argparse.ArgumentParser) -> None:
    """Add the flags that say how results and progress are told."""
    command.add_argument("--json", action="store_true", help="print the results as JSON")
    command.add_argument("--quiet", action="store_true", help="no progress on stderr")


def add_settings(command: argparse.ArgumentParser, door: str) -> None:
    """Add the flags of one door. What is not given is left out, so that it may be the default or as it was."""
    hints = typing.get_type_hints(Settings)
    groups: dict[str, argparse._ArgumentGroup] = {}
    heading = ""
    for field in dataclasses.fields(Settings):
        heading = HEADINGS.get(field.name, heading)
        if door not in field.metadata["doors"]:
            continue
        group = groups[heading] = groups.get(heading) or command.add_argument_group(heading)
        flags = [*([field.metadata["short"]] if "short" in field.metadata else []), f"--{field.name.replace('_', '-')}"]
        group.add_argument(
            *flags, dest=field.name, default=argparse.SUPPRESS, help=_help_of(field, door).replace("%", "%%"),
            **_form(hints[field.name], field.metadata.get("metavar"), repeats="repeats" in field.metadata),
        )  # fmt: skip


def _help_of(field: dataclasses.Field[Any], door: str) -> str:
    """Return a flag's help with its default, which in a run folder is what stands there, if it can."""
    text: str = field.metadata["help"]
    if door not in BEGIN and set(BEGIN).intersection(field.metadata["doors"]):
        return f"{text.partition(' (default')[0].partition(', default')[0]} (default: as in the run)"
    if "default" in text or field.default in {(), None}:
        return text
    if isinstance(field.default, tuple):
        return f"{text} (default: {' '.join(field.default)})"
    shown = ("yes" if field.default else "no") if isinstance(field.default, bool) else field.default
    return f"{text} (default: {shown})"


def _form(kind: Any, metavar: str | None, *, repeats: bool) -> dict[str, Any]:  # noqa: ANN401 - a type hint
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if typing.get_origin(kind) is Literal:
        return {"choices": typing.get_args(kind)}
    if typing.get_origin(kind) is tuple:
        # A flag that is given again adds to what it was given before.
        several = {"nargs": "+", "metavar": metavar, "type": typing.get_args(kind)[0]}
        return {**several, "action": "append" if repeats else "extend"}
    plain = next((one for one in (int, float) if one in (kind, *typing.get_args(kind))), str)
    return {"type": plain, "metavar": metavar or {int: "N", float: "X", str: "NAME"}[plain]}
