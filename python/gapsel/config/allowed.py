"""What the value of a setting may be: its type, and a test with the words for it."""

from __future__ import annotations

import math
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from gapsel.errors import UsageError

if typing.TYPE_CHECKING:
    from collections.abc import Callable

_WORDS = {bool: "true or false", int: "a whole number", str: "text"}


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a value other than None may be: ``words`` for people, and the test."""

    words: str
    fits: Callable[[Any], bool]


POSITIVE = Allowed("a positive number", lambda value: 0 < value < math.inf)
FROM_0_TO_1 = Allowed("a number from 0 to 1", lambda value: 0 <= value <= 1)
WITHIN_0_AND_1 = Allowed("a number between 0 and 1", lambda value: 0 < value < 1)
ABOVE_0_TO_1 = Allowed("a number above 0, at most 1", lambda value: 0 < value <= 1)
NOT_NEGATIVE = Allowed("0 or more", lambda value: 0 <= value < math.inf)
FINITE = Allowed("a finite number", math.isfinite)


def at_least(least: int) -> Allowed:
    """Return what whole numbers from ``least`` on fit."""
    return Allowed(f"{least} or more", lambda value: value >= least)


def up_to(most: int) -> Allowed:
    """Return what whole numbers from 0 to ``most`` fit."""
    return Allowed(f"0 to {most}", lambda value: 0 <= value <= most)


def check(fits: bool, name: str, value: object, allowed: str) -> None:  # noqa: FBT001 - an assertion with a message
    """Raise UsageError, naming the setting, its value and what it may be, unless it fits."""
    if not fits:
        msg = f"{name} is {value!r}: give {allowed}"
        raise UsageError(msg)


def check_type(name: str, value: object, kind: Any) -> None:  # noqa: ANN401 - a type hint
    """Raise UsageError unless the value is of this kind, a type hint."""
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        check(value in options, name, value, "one of " + ", ".join(map(str, options)))
    elif origin is tuple:
        fits = isinstance(value, tuple) and all(type(v) is options[0] and v != "" for v in value)
        check(fits, name, value, f"a list of {'texts' if options[0] is str else 'whole numbers'}")
    elif isinstance(kind, types.UnionType):
        if value is not None:
            check_type(name, value, options[0])
    elif kind is float:
        check(isinstance(value, int | float) and not isinstance(value, bool), name, value, "a number")
    else:
        fits = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
        check(fits, name, value, _WORDS[kind])
