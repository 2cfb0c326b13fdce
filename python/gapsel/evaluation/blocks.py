"""Documents as full contexts: joined with a separator between them and cut into blocks of one length.

A block has one token more than the context: the model reads all but the last and predicts all but the first, and the
next block begins with the token that this one ends with. So every token of a stream is predicted once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapsel.errors import DataError
from gapsel.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Documents = Sequence[NDArray[np.int32]]

# What the loss leaves out.
IGNORED = -100


def stream(documents: Documents, separator: int) -> NDArray[np.int32]:
    """Return the documents' tokens (t,) in one row, each document between two separators."""
    between = np.array([separator], np.int32)
    return np.concatenate([between, *(part for one in documents for part in (one, between))])


def batches(
    documents: Documents, separator: int, shape: tuple[int, int], steps: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Yield ``steps`` batches (rows, context + 1) of a shape (rows, context).

    The documents come in a random order, and when all have been seen, in another one. Raises DataError where all of
    them together do not fill one context.
    """
    rows, context = shape
    held = np.zeros((0, context + 1), np.int64)
    for _ in range(steps):
        while len(held) < rows:
            held = np.concatenate([held, _one_round(documents, separator, context, rng)])
        yield held[:rows]
        held = held[rows:]


def _one_round(documents: Documents, separator: int, context: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return all full blocks (r, context + 1) of the documents in a random order; the odd end is left out."""
    tokens = stream([documents[at] for at in rng.permutation(len(documents))], separator)
    count = (len(tokens) - 1) // context
    if count == 0:
        msg = (
            f"there are {counted(len(tokens), 'token')} in {counted(len(documents), 'document')}, and one context is "
            f"{context}: give more text, or "
            "a smaller --context"
        )
        raise DataError(msg)
    return _cut(tokens, count, context)


def padded(documents: Documents, separator: int, context: int) -> NDArray[np.int64]:
    """Return all of the documents' tokens as blocks (r, context + 1), the last filled up with `IGNORED`."""
    tokens = stream(documents, separator).astype(np.int64)
    count = -(-(len(tokens) - 1) // context)
    filled = np.full(count * context + 1, IGNORED)
    filled[: len(tokens)] = tokens
    return _cut(filled, count, context)


def _cut(tokens: NDArray[np.integer], count: int, context: int) -> NDArray[np.int64]:
    return np.asarray(tokens[context * np.arange(count)[:, None] + np.arange(context + 1)], np.int64)
