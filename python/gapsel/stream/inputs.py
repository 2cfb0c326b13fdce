"""What there is to score, as parts in order: files, folders, globs and URLs, standard input, vectors."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gapsel import corpus, remote, store
from gapsel.errors import DataError
from gapsel.pipeline.vectors.ahead import ahead

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from gapsel.stream.scorer import Scorer

P = TypeVar("P", corpus.Lines, corpus.Table)
Form = Literal["jsonl", "arrow"]
STANDARD_INPUT = "-"
_ITS_NAME = "standard input"


@dataclass(frozen=True, slots=True)
class Reading:
    """How inputs are read: names of fields, the form of standard input, rows in a part.

    ``vector_field``: tables and JSON lines have vectors there; where the model knows no encoder they have them in their
    only column of lists of floats, or field with a list of numbers.
    """

    text_field: str = "text"
    id_field: str = "id"
    vector_field: str | None = None
    form: Form = "jsonl"
    batch_rows: int = 2048

    @property
    def fields(self) -> corpus.Fields:
        """The names of the fields of documents."""
        return corpus.Fields(self.text_field, self.id_field)


class Inputs:
    """All inputs, one after the other; what cannot be used is set aside in ``rejects``."""

    def __init__(self, reading: Reading, scorer: Scorer, rejects: corpus.Rejects) -> None:
        self._reading = reading
        self._scorer = scorer
        self._rejects = rejects
        self.with_vectors = reading.vector_field is not None or "hash" not in scorer.model.embedder

    def parts(self, names: Sequence[str], stdin: io.BufferedReader) -> Iterator[corpus.Part]:
        """Yield the parts. Raises DataError for what cannot be read, and where too few rows can be used."""
        for name in names or [STANDARD_INPUT]:
            # A stream is not read ahead: who stops it must not wait for its next row.
            yield from self._standard_input(stdin) if name == STANDARD_INPUT else ahead(self._file_parts(name))
        corpus.judge(self._rejects)

    def of_batches(self, batches: Iterable[pa.RecordBatch], source: str) -> Iterator[corpus.Table]:
        """Yield the parts of record batches, with texts or with vectors."""
        if self.with_vectors:
            return self._vector_parts(batches, source)
        return corpus.table_parts(batches, source, self._reading.fields, self._reading.batch_rows, self._rejects)

    def _standard_input(self, stdin: io.BufferedReader) -> Iterator[corpus.Part]:
        with corpus.reading(_ITS_NAME):
            if self._reading.form == "jsonl":
                yield from self._jsonl_parts(stdin)
                return
            with pa.ipc.open_stream(stdin) as reader:
                if not self.with_vectors:
                    corpus.check_text(reader.schema, _ITS_NAME, self._reading.fields)
                yield from self.of_batches(reader, _ITS_NAME)

    def _jsonl_parts(self, stdin: io.BufferedReader) -> Iterator[corpus.Lines]:
        if self.with_vectors:
            return self._vector_lines(stdin, _ITS_NAME)
        return corpus.jsonl_parts(stdin, _ITS_NAME, self._reading.fields, self._reading.batch_rows, self._rejects)

    def _file_parts(self, name: str) -> Iterator[corpus.Part]:
        for file in self._files(name):
            kind = Path(remote.name_of(file)).suffix.lower()
            if kind == ".npy":
                yield from self._npy_parts(file)
            elif self.with_vectors and kind in (".parquet", ".arrow"):
                yield from self._vector_parts(corpus.whole_rows(file, self._reading.batch_rows), file)
            elif self.with_vectors and corpus.kind_of(file) == "jsonl":
                with corpus.reading(file), corpus.open_stream(file) as stream:
                    yield from self._vector_lines(stream, file)
            else:
                yield from corpus.file_parts([file], self._reading.fields, self._reading.batch_rows, self._rejects)

    def _files(self, name: str) -> list[str]:
        if Path(remote.name_of(name)).suffix.lower() == ".npy":
            return store.files([name])
        several = Path(name).is_dir() or glob.has_magic(name)
        return store.files([name]) if several and self.with_vectors else corpus.sources([name])

    def _npy_parts(self, file: str) -> Iterator[corpus.Table]:
        """Yield the rows of a .npy file, which are their numbers."""
        given, first = store.look(file), 0
        self._scorer.check_width(given.d, file)
        self._check_embedder(file)
        for block in given.blocks():
            for start in range(0, len(block.vectors), self._reading.batch_rows):
                vectors = _floats(block.vectors[start : start + self._reading.batch_rows])
                numbers = np.arange(first, first + len(vectors))
                columns: dict[str, Any] = {"id": pa.array(map(str, numbers)), "source": pa.array([file] * len(vectors))}
                batch = pa.RecordBatch.from_pydict({**columns, "row": pa.array(numbers)})
                yield from self._usable(corpus.Table(file, batch, vectors=vectors), vectors, numbers)
                first += len(vectors)

    def _check_embedder(self, file: str) -> None:
        """Raise DataError for vectors that are known to be of another embedder than the model's."""
        own, known = self._scorer.model.embedder.get("hash"), store.embedders([file])
        if own is not None and known - {own}:
            msg = (
                f"{file}: its vectors were made by another embedder than those that the model was fitted with: embed "
                "the documents with the model's, or score their texts"
            )
            raise DataError(msg)

    def _vector_parts(self, batches: Iterable[pa.RecordBatch], source: str) -> Iterator[corpus.Table]:
        first = 0
        for whole in batches:
            name = store.vector_column(source, whole.schema, self._reading.vector_field)
            kind = whole.schema.field(name).type
            if pa.types.is_fixed_size_list(kind):
                self._scorer.check_width(kind.list_size, source)
            for start in range(0, whole.num_rows, self._reading.batch_rows):
                batch = whole.slice(start, self._reading.batch_rows)
                column = batch.column(name)
                fits = pc.list_value_length(column).fill_null(-1).to_numpy(zero_copy_only=False) == self._scorer.d
                vectors = np.zeros((batch.num_rows, self._scorer.d), np.float32)
                with np.errstate(over="ignore"):
                    own = column.filter(pa.array(fits)).flatten().to_numpy(zero_copy_only=False)
                    vectors[fits] = own.reshape(-1, self._scorer.d)
                numbers = np.arange(first, first + batch.num_rows)
                yield from self._usable(corpus.Table(source, batch, vectors=vectors), vectors, numbers, fits)
                first += batch.num_rows

    def _vector_lines(self, stream: io.BufferedReader, source: str) -> Iterator[corpus.Lines]:
        reading = self._reading
        lines = corpus.VectorLines(source, self._scorer.d, reading.vector_field, reading.fields, self._rejects)
        for part, vectors in lines.parts(stream, reading.batch_rows):
            yield from self._usable(part, vectors, np.array([row.number for row in part.rows]))

    def _usable(
        self, part: P, vectors: NDArray[np.floating], numbers: NDArray[np.int64], fits: NDArray[np.bool_] | None = None
    ) -> Iterator[P]:
        """Yield the rows of a part whose vectors can be scored, and set the others aside by their ``numbers``."""
        finite = np.isfinite(vectors).all(axis=1)
        directed = vectors.any(axis=1) if self._scorer.needs_direction else np.ones(len(vectors), bool)
        fits = np.ones(len(vectors), bool) if fits is None else fits
        good = fits & finite & directed
        for row in np.flatnonzero(~good):
            reasons = ((fits, f"no vector of {self._scorer.d} numbers"), (finite, "NaN or infinite values"))
            reason = next((why for flags, why in reasons if not flags[row]), "all zeros, which is no direction")
            self._rejects.add(part.source, int(numbers[row]) + 1, reason, "")
        self._rejects.seen += int(good.sum())
        corpus.judge_early(self._rejects)
        if good.any():
            yield part if good.all() else part.take(np.flatnonzero(good))


def _floats(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return vectors as float16 or float32, infinite where that does not hold them."""
    with np.errstate(over="ignore"):
        return vectors if vectors.dtype in (np.float16, np.float32) else vectors.astype(np.float32)
