"""What settings must be: each of its type and allowed, those written as texts readable, and all in agreement."""

from __future__ import annotations

import dataclasses
import typing
from typing import TYPE_CHECKING

from gapsel.config.allowed import check, check_type
from gapsel.config.doors import METHODS, POOL_WEIGHTS
from gapsel.config.loose import plain
from gapsel.config.parsing import parse_count, parse_k, parse_masses, parse_quota, parse_size

if TYPE_CHECKING:
    from gapsel.config.allowed import Allowed
    from gapsel.config.settings import Settings


def check_settings(settings: Settings) -> None:
    """Make every value one of its field's type. Raises UsageError, naming the setting, the value and what it may be."""
    kinds = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value = plain(getattr(settings, field.name), kinds[field.name])
        check_type(field.name, value, kinds[field.name])
        allowed: Allowed | None = field.metadata.get("allowed")
        if allowed is not None and value is not None:
            check(allowed.fits(value), field.name, value, allowed.words)
        object.__setattr__(settings, field.name, value)
    _check_texts(settings)
    _check_together(settings)


def _check_texts(s: Settings) -> None:
    """Check what is written as texts, which others read."""
    parse_k(s.k)
    if s.tokens is not None:
        parse_count(s.tokens)
    if s.memory is not None:
        parse_size(s.memory)
    for quota in s.at_most:
        parse_quota(quota)
    parse_masses(s.masses)
    for method in s.methods:
        check(method in METHODS, "methods", method, f"names among {', '.join(METHODS)}")


def _check_together(s: Settings) -> None:
    """Check what depends on another setting."""
    given = [name for name in POOL_WEIGHTS if getattr(s, name) is not None]
    for name in given[1:]:
        words = f"it or {given[0]}: both are weights of the pool"
        check(False, name, getattr(s, name), words)  # noqa: FBT003 - one too many
    sweeps = s.backend != "reference" or not s.ray
    check(sweeps, "backend", s.backend, "auto, cpu, gpu or ray: a cluster sweeps on its processors or its GPUs")
    several = min(s.paths_per_task, default=1) >= 1 and len(s.paths_per_task) != 1
    check(several, "paths_per_task", s.paths_per_task, "how many paths each of two or more tasks has")
