"""JSON lines that carry a vector each: which field it is, and the rows as parts that are passed on with a score.

Rows are decoded one by one, so that a bad one can be set aside, and the others keep the user's own form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.corpus.jsons import Object, objects
from gapsel.corpus.lines import spliced
from gapsel.corpus.passing import Lines
from gapsel.corpus.read import BATCH_CHARACTERS, judge_early
from gapsel.corpus.rows import Fault, Fields, Row, id_of
from gapsel.errors import DataError

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gapsel.corpus.rejects import Rejects


def vector_field(where: str, row: Mapping[str, object], column: str | None) -> str:
    """Return the name of a row's field of vectors. Raises DataError unless there is one that is meant."""
    lists = [name for name, value in row.items() if isinstance(value, list) and value and are_numbers(value)]
    return meant(where, lists, column, ("field with a list of numbers", "fields with lists of numbers"))


def meant(where: str, names: Sequence[str], wanted: str | None, what: tuple[str, str]) -> str:
    """Return the one of some names that is meant: that which is ``wanted``, or the only one.

    ``what`` they are the names of, one and several. Raises DataError where none is meant.
    """
    if wanted in names or (wanted is None and len(names) == 1):
        return wanted or names[0]
    one, several = what
    if not names:
        msg = f"{where}: has no {one}: give a file with vectors"
        raise DataError(msg)
    lacks = f"has several {several}: name one" if wanted is None else f"{wanted!r} is no {one}: name one that is"
    msg = f"{where}: {lacks}, {', '.join(names)} (column, --vector-field)"
    raise DataError(msg)


def are_numbers(values: list[object]) -> bool:
    """Tell whether JSON values are numbers all; true and false are none."""
    return {type(value) for value in values} <= {int, float}


@dataclass(slots=True)
class VectorLines:
    """JSON lines of ``source`` with vectors of ``d`` numbers in a field, the only such one unless ``column`` says it.

    Rows without such a vector are set aside in ``rejects``.
    """

    source: str
    d: int
    column: str | None
    fields: Fields
    rejects: Rejects

    def parts(self, stream: io.BufferedReader, batch_rows: int) -> Iterator[tuple[Lines, NDArray[np.float32]]]:
        """Yield the others with their vectors (r, d), so many at a time or fewer where they are long.

        Raises DataError where the first row has no such field, and where too few can be used.
        """
        rows: list[Row] = []
        vectors: list[NDArray[np.float32]] = []
        characters = 0
        for row, vector in self._rows(stream):
            rows.append(row)
            vectors.append(vector)
            characters += len(row.raw)
            if len(rows) == batch_rows or characters >= BATCH_CHARACTERS:
                yield self._part(rows, vectors)
                rows, vectors, characters = [], [], 0
        if rows:
            yield self._part(rows, vectors)

    def _part(self, rows: list[Row], vectors: list[NDArray[np.float32]]) -> tuple[Lines, NDArray[np.float32]]:
        stacked = np.stack(vectors)
        return Lines(self.source, rows, spliced, stacked), stacked

    def _rows(self, stream: io.BufferedReader) -> Iterator[tuple[Row, NDArray[np.float32]]]:
        name = None
        for found in objects(stream):
            if isinstance(found, Object):
                name = name or self._name(found)
                vector = _vector(found.value.get(name), self.d)
                if vector is not None:
                    yield Row(found.number, id_of(found.value.get(self.fields.id)), "", found.raw), vector
                    continue
            fault = self._without(found, name) if isinstance(found, Object) else found
            self.rejects.add(self.source, *fault)
            judge_early(self.rejects)

    def _name(self, first: Object) -> str:
        if self.column is not None and self.column in first.value:
            return self.column
        return vector_field(f"{self.source} line {first.number + 1}", first.value, self.column)

    def _without(self, found: Object, name: str | None) -> Fault:
        reason = f"no vector of {self.d} numbers" if name in found.value else f"no field {name!r}"
        return Fault(found.number + 1, reason, found.raw)


def _vector(value: object, d: int) -> NDArray[np.float32] | None:
    """Return a JSON value as float32 (d,), infinite where that does not hold it; None if it is no d numbers."""
    if not isinstance(value, list) or len(value) != d or not are_numbers(value):
        return None
    try:
        with np.errstate(over="ignore"):
            return np.array(value, np.float64).astype(np.float32)
    except OverflowError:
        return np.full(d, np.inf, np.float32)
