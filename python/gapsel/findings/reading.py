"""Records made of what JSON kept of them."""

from __future__ import annotations

import math
import types
import typing
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

_Record = TypeVar("_Record")


def made_of(kind: type[_Record], values: Any) -> _Record:  # noqa: ANN401 - any JSON value
    """Make a record, with the records in it, of what its fields were kept as; null for a number is nan.

    What the record has no field for is left out. Raises KeyError, TypeError or ValueError for what it cannot be made
    of.
    """
    return _made(kind, values)  # type: ignore[no-any-return]


def _made(kind: Any, value: Any) -> Any:  # noqa: ANN401 - any type and any JSON value
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return None if value is None else _made(parts[0], value)
    if origin is tuple:
        return tuple(_made(parts[0], one) for one in _checked(value, list))
    if origin is dict:
        return {name: _made(parts[1], one) for name, one in _checked(value, dict).items()}
    if is_dataclass(kind) and isinstance(kind, type):
        kinds, there = typing.get_type_hints(kind), _checked(value, dict)
        return kind(**{one.name: _made(kinds[one.name], there[one.name]) for one in fields(kind) if one.name in there})
    if kind is float:
        return math.nan if value is None else float(_checked(value, (int, float)))
    return _checked(value, kind)


def _checked(value: Any, kinds: Any) -> Any:  # noqa: ANN401 - any type and any JSON value
    if not isinstance(value, kinds):
        msg = f"{str(value)[:40]!r} is not of the kind that stands there"
        raise TypeError(msg)
    return value
