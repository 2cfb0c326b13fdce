"""Documents that are passed on with a score: read in order, a part at a time, each with all that its rows came with.

A part is text (JSON, CSV, plain lines), kept row by row in the user's own form, or a table (Parquet, Arrow) with all of
its columns. Either can be written as JSON lines or as a record batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import pyarrow as pa

from gapsel.corpus import tables
from gapsel.corpus.find import TABLES, kind_of
from gapsel.corpus.jsons import jsonl_rows
from gapsel.corpus.lines import json_line, line_maker, spliced
from gapsel.corpus.read import default_id, gathered, source_rows, usable

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from gapsel.corpus.rejects import Rejects
    from gapsel.corpus.rows import Fault, Fields, Row

SCORE = "gapsel_score"
Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)


@dataclass(frozen=True, slots=True)
class Lines:
    """Rows of a text format, and what makes a JSON line of one of them; their ``vectors`` (r, d) if they are scored."""

    source: str
    rows: list[Row]
    line_of: Callable[[Row, dict[str, object]], bytes]
    vectors: NDArray[np.floating] | None = None

    @property
    def texts(self) -> list[str]:
        """The documents."""
        return [row.text for row in self.rows]

    def take(self, at: NDArray[np.int64]) -> Lines:
        """Return some of the rows."""
        vectors = None if self.vectors is None else self.vectors[at]
        return Lines(self.source, [self.rows[row] for row in at], self.line_of, vectors)

    def json(self, at: NDArray[np.int64], scores: NDArray[np.float64]) -> Iterator[bytes]:
        """Yield the rows ``at`` as JSON lines, with their scores, of all of the part."""
        return (self.line_of(self.rows[i], {SCORE: float(scores[i])}) for i in at)

    def table(self) -> pa.RecordBatch:
        """Return what all text formats have: id, source, row (from 0) and, unless they have vectors, text."""
        ids = [row.id or default_id(self.source, row.number) for row in self.rows]
        numbers = pa.array([row.number for row in self.rows], pa.int64())
        columns = {"id": pa.array(ids), "source": pa.array([self.source] * len(ids)), "row": numbers}
        texts = {"text": pa.array(self.texts)} if self.vectors is None else {}
        return pa.RecordBatch.from_pydict({**columns, **texts})


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a table with all their columns; their texts, or their vectors (r, d)."""

    source: str
    batch: pa.RecordBatch
    texts: list[str] | None = None
    vectors: NDArray[np.floating] | None = None

    def take(self, at: NDArray[np.int64]) -> Table:
        """Return some of the rows."""
        texts = None if self.texts is None else [self.texts[row] for row in at]
        vectors = None if self.vectors is None else self.vectors[at]
        return Table(self.source, self.batch.take(pa.array(at)), texts, vectors)

    def json(self, at: NDArray[np.int64], scores: NDArray[np.float64]) -> Iterator[bytes]:
        """Yield the rows ``at`` as JSON lines, with their scores, of all of the part."""
        rows = self.batch.take(pa.array(at)).to_pylist()
        return (json_line(own | {SCORE: float(score)}) for own, score in zip(rows, scores[at], strict=True))

    def table(self) -> pa.RecordBatch:
        """Return the rows."""
        return self.batch


Part: TypeAlias = Lines | Table


def file_parts(sources: Iterable[str], fields: Fields, batch_rows: int, rejects: Rejects) -> Iterator[Lines | Table]:
    """Yield the usable documents of files. Raises DataError as `read` does, but not for files without any."""
    for source in sources:
        if kind_of(source) in TABLES:
            tables.check_text(tables.schema(source), source, fields)
            yield from table_parts(tables.whole_rows(source, batch_rows), source, fields, batch_rows, rejects)
        else:
            rows = source_rows(source, fields, batch_rows)
            yield from _lines(rows, source, fields, batch_rows, rejects, line_of=line_maker(source, fields))


def jsonl_parts(
    stream: io.BufferedReader, source: str, fields: Fields, batch_rows: int, rejects: Rejects
) -> Iterator[Lines]:
    """Yield the usable documents of a stream of JSON lines, which need not end."""
    return _lines(jsonl_rows(stream, fields, source), source, fields, batch_rows, rejects, line_of=spliced)


def table_parts(
    batches: Iterable[pa.RecordBatch], source: str, fields: Fields, batch_rows: int, rejects: Rejects
) -> Iterator[Table]:
    """Yield the usable documents of record batches that have a column of texts, all of their columns with them."""
    first = 0
    for batch in batches:
        for start in range(0, batch.num_rows, batch_rows):
            piece = batch.slice(start, batch_rows)
            documents = tables.batch_documents(piece, first, fields)
            rows = list(usable(documents, source, fields, rejects))
            at = pa.array([row.number - first for row in rows], pa.int64())
            if rows:
                yield Table(source, piece.take(at), texts=[row.text for row in rows])
            first += piece.num_rows


def _lines(
    rows: Iterable[Row | Fault],
    source: str,
    fields: Fields,
    batch_rows: int,
    rejects: Rejects,
    *,
    line_of: Callable[[Row, dict[str, object]], bytes],
) -> Iterator[Lines]:
    for held in gathered(usable(rows, source, fields, rejects), batch_rows):
        yield Lines(source, held, line_of)


def with_column(batch: Rows, name: str, values: pa.Array) -> Rows:
    """Return a record batch or table with one column more, its last, in the place of any of that name."""
    own: Rows = batch.select([other for other in batch.schema.names if other != name])
    schema = own.schema.append(pa.field(name, values.type))
    return type(own).from_arrays([*own.columns, values], schema=schema)
