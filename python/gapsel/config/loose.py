"""Values as people write them: one path for a list of one, a number for a text, NumPy's numbers, relative paths."""

from __future__ import annotations

import numbers
import os
import typing
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from gapsel.config.allowed import check
from gapsel.errors import UsageError
from gapsel.remote import is_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapsel.config.settings import Settings

# Settings by the form of their values.
SIDES = ("pool", "target", "base", "avoid")
PATHS = (*SIDES, *(f"{side}_vectors" for side in SIDES), "exclude", "held_out", "test")
WEIGHTS = ("pool_weights", "target_weights", "base_weights")
MODELS = ("model", "loss_weights", "lm")
_LISTS = (*PATHS, "methods", "at_most")
_OF_TASKS = ("target", "target_vectors")


def grouped(values: dict[str, Any]) -> dict[str, Any]:
    """Return loose values with the target's paths in one list, and how many of them each task has.

    [["a", "b"], ["c"]] are the paths of two tasks, ["a", "b", "c"] and [["a", "b", "c"]] those of one. Raises
    UsageError where texts and vectors are not of as many tasks.
    """
    found, counts = dict(values), []
    for name in filter(values.__contains__, _OF_TASKS):
        paths = values[name]
        if isinstance(paths, list | tuple) and any(isinstance(one, list | tuple) for one in paths):
            tasks = [one if isinstance(one, list | tuple) else [one] for one in paths]
            found[name] = [path for task in tasks for path in task]
            counts.append([len(task) for task in tasks])
        found.setdefault("paths_per_task", ())
    if counts and "paths_per_task" not in values:
        alike = len({len(one) for one in counts}) == 1
        check(alike, "target_vectors", values.get("target_vectors"), "as many tasks as target has")
        found["paths_per_task"] = counts[0] if len(counts[0]) > 1 else ()
    return found


def readable(values: object, names: Sequence[str]) -> dict[str, Any]:
    """Return loose values of settings, by their names, in the settings' own types where it is plain what is meant.

    Raises UsageError for what has no names, and for a name that is none of ``names``.
    """
    if not isinstance(values, dict):
        msg = f"the settings are {values!r}: give names with values, {{...}} in JSON"
        raise UsageError(msg)
    values = grouped(values)
    unknown = next((str(name) for name in values if name not in names), None)
    if unknown is not None:
        near = get_close_matches(unknown, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(names)}"
        msg = f"{unknown!r} is no setting of this version: {hint}"
        raise UsageError(msg)
    return {name: loose(name, value) for name, value in values.items()}


def loose(name: str, value: Any) -> Any:  # noqa: ANN401 - a setting as people write it
    """Return the value of one setting in its own type, where it is plain what is meant."""
    if name in PATHS and hasattr(value, "__array__"):
        check(False, name, f"an array of {value.__class__.__name__}", "files; gapsel.Selector takes arrays")  # noqa: FBT003
    if name == "masses":
        several = value if isinstance(value, list | tuple) else (value,)
        return tuple(str(one) if _is_number(one) else one for one in several)
    if name in _LISTS:
        if isinstance(value, str | os.PathLike):
            return (os.fspath(value),)
        if isinstance(value, list | tuple):
            return tuple(os.fspath(one) if isinstance(one, os.PathLike) else one for one in value)
    if name == "paths_per_task" and isinstance(value, list | tuple):
        return tuple(value)
    if name in ("k", "tokens") and _is_number(value):
        return str(value)
    if name in (*WEIGHTS, *MODELS) and isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def plain(value: Any, kind: Any) -> Any:  # noqa: ANN401 - any type of setting
    """Return NumPy's numbers as Python's, and whole numbers as floats where those are wanted: 0 and 0.0 are one."""
    if isinstance(value, bool):
        return value
    wanted = typing.get_args(kind) or (kind,)
    if int in wanted and isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if float in wanted and isinstance(value, numbers.Real) else value


def absolute_paths(settings: Settings) -> dict[str, Any]:
    """Return the settings that are paths, from the root of the file system, by their names."""
    changed: dict[str, Any] = {name: tuple(map(absolute, getattr(settings, name))) for name in PATHS}
    changed |= {name: path and absolute(path) for name in WEIGHTS if (path := getattr(settings, name)) is not None}
    for name in MODELS:
        path = getattr(settings, name)
        if path not in {None, "default"} and os.path.isdir(path):  # noqa: PTH112 - as below
            changed[name] = absolute(path)
    return changed


def absolute(path: str) -> str:
    """Return a path from the root of the file system; a URL as it is."""
    if is_url(path):
        return path
    path = path.removeprefix("file://")
    # Links are kept, and so are globs: they are what the user wrote.
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - pathlib's would follow links
