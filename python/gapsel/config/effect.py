"""Settings that change nothing beside the others: nothing is done anew, or refused, for another value of such a one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from gapsel.config.loose import SIDES

if TYPE_CHECKING:
    from gapsel.config.settings import Settings

_OF_ENCODER = ("model", "features", "gradient_dims", "pooling", "max_tokens", "dtype")


def in_effect(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain JSON values, with the default for those that change nothing beside the others."""
    values, idle = settings.to_json(), _idle(settings)
    values["backend"] = "cpu" if settings.backend == "ray" else settings.backend  # The same bits.
    return values | {field.name: field.default for field in dataclasses.fields(settings) if field.name in idle}


def _idle(s: Settings) -> set[str]:
    """Return the names of the settings that nothing reads."""
    given = [(getattr(s, side), getattr(s, f"{side}_vectors")) for side in SIDES]
    idle = {
        "avoid_strength": not (s.avoid or s.avoid_vectors),
        "balance": not s.paths_per_task,
        "token_field": s.tokens is None,
        "vector_field": not any(vectors for _, vectors in given),
        "gradient_dims": s.features != "gradient",
        "pooling": s.features != "text",
    }
    embeds = s.loss_weights is not None or any(texts and not vectors for texts, vectors in given)
    return {name for name, alone in idle.items() if alone} | (set() if embeds else set(_OF_ENCODER))
