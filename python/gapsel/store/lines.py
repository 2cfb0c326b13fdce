"""Vectors inside the rows of JSON lines: a field with a list of numbers, and the field "id" if there is one.

Rows are counted without blank lines. They are parsed by Arrow, a block at a time; a block that it refuses is parsed
again line by line, to name the row. Memory does not grow with the file.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.json as arrow_json

from gapsel.corpus.find import open_stream
from gapsel.corpus.rows import MAX_ROW
from gapsel.corpus.rows import lines as lines_of
from gapsel.corpus.vector_lines import are_numbers, vector_field
from gapsel.errors import DataError
from gapsel.store.columns import ids_in, vectors_in
from gapsel.store.given import READY, Block, block_rows, empty, reading

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    import numpy as np

_BLOCK_BYTES = 1 << 24
_IDS = {str: pa.string(), int: pa.int64()}


@dataclass(frozen=True, slots=True)
class JsonLines:
    """A file of JSON lines: its field of vectors, and the type of its ids or None."""

    source: str
    rows: int
    d: int
    column: str
    ids: pa.DataType | None
    dtype: np.dtype[np.floating] = READY[1]
    in_place: bool = False

    def blocks(self, first: int = 0) -> Iterator[Block]:
        """Read on from row ``first``; what lies before it is passed over, not parsed."""
        start = 0
        with reading(self.source), closing(_some(self.source, block_rows(self.d))) as found:
            for lines in found:
                own = lines[max(0, first - start) :]
                start += len(lines)
                if own:
                    yield self._block(own, start - len(own))

    def _block(self, lines: Sequence[bytes], start: int) -> Block:
        names = [pa.field(self.column, pa.list_(pa.float64()))]
        names += [] if self.ids is None else [pa.field("id", self.ids)]
        table = _parsed(lines, pa.schema(names)) or self._one_by_one(lines, start)
        vectors = vectors_in(table[self.column].combine_chunks(), self.d, self.source, start)
        ids = None if self.ids is None else ids_in(table["id"].combine_chunks(), self.source, start)
        return Block(vectors, ids)

    def _one_by_one(self, lines: Sequence[bytes], start: int) -> pa.Table:
        """Parse a block slowly. Raises DataError for the first row that is none."""
        rows = [_object(line, f"{self.source} row {start + at}") for at, line in enumerate(lines)]
        for at, row in enumerate(rows):
            _check_numbers(row.get(self.column), f"{self.source} row {start + at}")
        columns = {self.column: pa.array([row.get(self.column) for row in rows], pa.list_(pa.float64()))}
        if self.ids is not None:
            own = [row.get("id") for row in rows]
            columns["id"] = pa.array([None if one is None else str(one) for one in own], pa.string())
        return pa.table(columns)


def look_at_lines(source: str, column: str | None) -> JsonLines:
    """Read the first row of a file, and count all of them. Raises DataError unless one field of vectors is meant."""
    with closing(_lines(source)) as lines:
        first = next(lines, None)
        if first is None:
            raise empty(source)
        row = _object(first, f"{source} row 0")
        rows = 1 + sum(1 for _ in lines)
    name = vector_field(f"{source} row 0", row, column)
    return JsonLines(source, rows, len(row[name]), name, _IDS.get(type(row.get("id"))))


def _some(source: str, rows: int) -> Generator[list[bytes], None, None]:
    """Yield the lines that are rows, so many at a time or fewer where they are long."""
    lines, size = list[bytes](), 0
    for line in _lines(source):
        lines.append(line)
        size += len(line)
        if len(lines) == rows or size >= _BLOCK_BYTES:
            yield lines
            lines, size = [], 0
    if lines:
        yield lines


def _lines(source: str) -> Generator[bytes, None, None]:
    """Yield the lines that are rows, without their ends. Raises DataError for one that is too long."""
    with open_stream(source) as stream:
        for number, line in lines_of(stream):
            if line is None:
                msg = f"{source} line {number + 1}: is longer than {MAX_ROW >> 20} MiB: remove or repair the row"
                raise DataError(msg)
            if line := line.strip():
                yield line


def _parsed(lines: Sequence[bytes], schema: pa.Schema) -> pa.Table | None:
    """Return the wanted fields of some rows, None where they are not all objects with such fields."""
    data = b"\n".join(lines)
    options = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    whole = arrow_json.ReadOptions(use_threads=False, block_size=len(data) + 1)
    try:
        table = arrow_json.read_json(pa.BufferReader(data), whole, options)
    except pa.ArrowInvalid:
        return None
    return table if len(table) == len(lines) else None


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        msg = f"{where}: is not JSON ({error}): remove or repair the row"
        raise DataError(msg) from error
    if not isinstance(value, dict):
        msg = f"{where}: is not a JSON object: remove or repair the row"
        raise DataError(msg)
    return value


def _check_numbers(vector: object, where: str) -> None:
    """Raise DataError for what is no list of numbers; nulls and lengths are looked at later."""
    if vector is None:
        return
    if not isinstance(vector, list):
        msg = f"{where}: the vector is of type {type(vector).__name__} and not a list: remove or repair the row"
        raise DataError(msg)
    other = next((value for value in vector if value is not None and not are_numbers([value])), None)
    if other is not None:
        msg = f"{where}: the vector holds {str(other)[:40]!r}, which is no number: remove or repair the row"
        raise DataError(msg)
