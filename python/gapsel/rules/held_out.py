"""Documents that share a passage with a held-out set: what a model is to be tested on must not be trained on.

A passage is 13 words in a row, as in GPT-3's evaluation (Brown et al. 2020, appendix C). Held-out documents with fewer
words are compared as a whole with documents as short. Only hashes are kept of them, eight bytes a passage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapsel import corpus
from gapsel.findings import HeldOut
from gapsel.rules.words import gram_hashes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

PASSAGE = 13


def overlapping(
    paths: Sequence[str],
    texts: Iterable[Sequence[str]],
    n: int,
    *,
    text_field: str = "text",
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[NDArray[np.bool_], list[HeldOut]]:
    """Return which of n documents share a passage with held-out files, and what each of these did.

    ``texts`` yields all documents in their order. Raises as `corpus.read` does for the files.
    """
    files = [(file, *_passages(file, text_field)) for file in corpus.sources(paths)]
    flags, counts, start = np.zeros(n, np.bool_), [0] * len(files), 0
    for batch in texts:
        hashes, owners = gram_hashes(batch, PASSAGE)
        for at, (_, known, _) in enumerate(files):
            hit = np.unique(owners[_among(hashes, known)])
            flags[start + hit] = True
            counts[at] += len(hit)
        start += len(batch)
        advance(len(batch))
    return flags, [HeldOut(file, held, count) for (file, _, held), count in zip(files, counts, strict=True)]


def _passages(file: str, text_field: str) -> tuple[NDArray[np.uint64], int]:
    """Return the hashes of a file's passages, each once and ascending, and how many documents it has."""
    parts, documents = [np.zeros(0, np.uint64)], 0
    for batch in corpus.read([file], text_field=text_field):
        parts.append(np.unique(gram_hashes(batch.texts, PASSAGE)[0]))
        documents += len(batch.texts)
    return np.unique(np.concatenate(parts)), documents


def _among(hashes: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tell which hashes (g,) are among the known ones, which ascend."""
    if not len(known):
        return np.zeros(len(hashes), np.bool_)
    return np.asarray(known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)] == hashes)
