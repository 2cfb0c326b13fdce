"""Arrow batches in Python: each comes back whole, in order, with a score or a null for every row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from gapsel import corpus
from gapsel.stream.inputs import Inputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gapsel.stream.inputs import Reading
    from gapsel.stream.scorer import Scorer

_NUMBER = "__gapsel_row__"


def score_batches(
    scorer: Scorer, batches: Iterable[pa.RecordBatch | pa.Table], reading: Reading
) -> Iterator[pa.RecordBatch]:
    """Yield record batches with their scores; a table counts as its batches. See Selector.score_batches.

    Raises DataError where, of a thousand rows of a batch or more, most cannot be used.
    """
    for one in batches:
        for batch in one.to_batches() if isinstance(one, pa.Table) else [one]:
            yield corpus.with_column(batch, corpus.SCORE, _scores(scorer, batch, reading))


def _scores(scorer: Scorer, batch: pa.RecordBatch, reading: Reading) -> pa.Array:
    """Return the scores of a batch, null for rows that cannot be used."""
    scores, known = np.zeros(batch.num_rows), np.zeros(batch.num_rows, bool)
    numbered = corpus.with_column(batch, _NUMBER, pa.array(np.arange(batch.num_rows)))
    # Rows without a score are the caller's to judge: what is set aside here is forgotten with each batch.
    for part in Inputs(reading, scorer, corpus.Rejects(listed=False)).of_batches([numbered], "a record batch"):
        at = part.batch.column(_NUMBER).to_numpy()
        scores[at] = scorer.part(part)
        known[at] = True
    return pa.array(scores, mask=~known)
