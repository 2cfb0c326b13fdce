"""How many documents a budget of tokens is: those of the mean length, by a sample."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from gapsel import corpus
from gapsel.config import parse_count
from gapsel.errors import UsageError
from gapsel.pipeline.inputs.rules import token_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gapsel.config import Settings
    from gapsel.plan.records import Side

# Documents whose numbers of tokens are read.
_READ = 4096


def rows_of(settings: Settings, pool: Side) -> int:
    """Return about how many documents of the pool a budget of tokens is.

    Raises UsageError where the pool has fewer tokens, as far as the sample shows it, and DataError for a field that
    holds no numbers of tokens.
    """
    n, budget = pool.rows, parse_count(settings.tokens or "0")
    mean, seen = _mean(settings, pool)
    most = mean * n.high * (1.0 + 3.0 / seen**0.5)
    if budget > most:
        msg = (
            f"tokens is {settings.tokens}, and the pool has about {mean * n.value:,.0f}: ask for fewer, or give a "
            "larger pool"
        )
        raise UsageError(msg)
    return min(round(n.value), max(1, round(budget / max(mean, 1.0))))


def _mean(settings: Settings, pool: Side) -> tuple[float, int]:
    """Return the mean number of tokens of a document, and of how many that is."""
    if settings.token_field is None:
        tokens = np.zeros(1) if pool.encoding is None else pool.encoding.tokens
    else:
        tokens = np.array([count for count in islice(_counts(settings), _READ) if count])
    return (float(tokens.mean()), len(tokens)) if len(tokens) else (0.0, 1)


def _counts(settings: Settings) -> Iterator[int]:
    found = corpus.labels(
        settings.pool, str(settings.token_field), text_field=settings.text_field, id_field=settings.id_field,
        setting="token_field",
    )  # fmt: skip
    row = 0
    for _, _, part in found:
        for value in part:
            yield token_count(value, row, settings)
            row += 1
