"""Batches in Python, in any form: every row in its place, with a score or a vector, or none where it cannot be used.

Rows without one are the caller's to judge: why they have none is forgotten with each batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from gapsel import corpus, store
from gapsel.errors import DataError
from gapsel.stream.forms import Arrow
from gapsel.stream.inputs import Inputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from gapsel.embed import Encoder
    from gapsel.stream.forms import Form
    from gapsel.stream.inputs import Reading
    from gapsel.stream.scorer import Scorer

_NUMBER = "__gapsel_row__"
_SOURCE = "a batch"


def score_batches(
    scorer: Scorer, batches: Iterable[pa.RecordBatch | pa.Table], reading: Reading
) -> Iterator[pa.RecordBatch]:
    """Yield record batches with their `scores`; a table counts as its batches. See Selector.score_batches."""
    for one in batches:
        for batch in map(Arrow, one.to_batches() if isinstance(one, pa.Table) else [one]):
            yield batch.with_columns({corpus.SCORE: scores(scorer, batch, reading)})


def scores(scorer: Scorer, batch: Form, reading: Reading) -> NDArray[np.float64]:
    """Return the scores (n,) of a batch, NaN for rows that cannot be used.

    Raises DataError where the column to read is missing or of another type, and where, of a thousand rows of a batch or
    more, most cannot be used.
    """
    inputs = Inputs(reading, scorer, corpus.Rejects(listed=False))
    read = _vectors(batch, reading.vector_field) if inputs.with_vectors else _texts(batch, reading.text_field)
    found = np.full(read.num_rows, np.nan)
    for part in inputs.of_batches([read], _SOURCE):
        found[part.batch.column(_NUMBER).to_numpy()] = scorer.part(part)
    return found


def vectors(encoder: Encoder, batch: Form, reading: Reading) -> NDArray[np.float16]:
    """Return the vectors (n, d) of a batch of texts, as a run keeps them; NaN for rows that cannot be used.

    Raises as `scores` does.
    """
    read, rejects = _texts(batch, reading.text_field), corpus.Rejects(listed=False)
    found = np.full((read.num_rows, encoder.dim), np.nan, np.float16)
    for part in corpus.table_parts([read], _SOURCE, reading.fields, reading.batch_rows, rejects):
        found[part.batch.column(_NUMBER).to_numpy()] = encoder.encode(part.texts or ()).vectors
    return found


def _texts(batch: Form, name: str) -> pa.RecordBatch:
    if name not in batch.names:
        raise corpus.missing_field(_SOURCE, name, batch.names)
    read = _numbered(batch.column(name), name, pa.string())
    corpus.check_text(read.schema, _SOURCE, corpus.Fields(name, ""))
    return read


def _vectors(batch: Form, name: str | None) -> pa.RecordBatch:
    """Return the column of vectors, found by its type where it is not named."""
    if name not in batch.names:
        name = store.vector_column(_SOURCE, pa.schema([(one, _type(batch, one)) for one in batch.names]), name)
    return _numbered(batch.column(name), name, pa.list_(pa.float32()))


def _type(batch: Form, name: str) -> pa.DataType:
    """Return the type of a column; of one that Arrow cannot hold, which has no vectors, that of nothing."""
    try:
        return batch.column(name).type
    except DataError:
        return pa.null()


def _numbered(column: pa.Array, name: str, kind: pa.DataType) -> pa.RecordBatch:
    """Return a column with the number of each row beside it; ``kind`` stands for the type of one without any value."""
    column = pa.nulls(len(column), kind) if pa.types.is_null(column.type) else column
    return pa.RecordBatch.from_arrays([column, pa.array(np.arange(len(column)))], [name, _NUMBER])
