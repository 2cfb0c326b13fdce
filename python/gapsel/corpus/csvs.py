"""CSV and TSV as rows: records with a header, read strictly.

A stray quote is then an error of its own row, and not the start of a text that swallows the rest of the file.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, cast

from gapsel.corpus.rows import MAX_ROW, Fault, Fields, Row, id_of, lines, missing_field, text_fault
from gapsel.corpus.texts import NO_FIELD, fields_of, joined
from gapsel.errors import DataError

if TYPE_CHECKING:
    import _csv
    import io
    from collections.abc import Iterator

_DELIMITERS = {"csv": ",", "tsv": "\t"}


def csv_rows(stream: io.BufferedReader, fields: Fields, source: str) -> Iterator[Row | Fault]:
    """Yield the records of a CSV file with a header."""
    yield from _records(stream, fields, source, _DELIMITERS["csv"])


def tsv_rows(stream: io.BufferedReader, fields: Fields, source: str) -> Iterator[Row | Fault]:
    """Yield the records of a TSV file with a header, quoted as in CSV."""
    yield from _records(stream, fields, source, _DELIMITERS["tsv"])


def csv_header(stream: io.BufferedReader, source: str, kind: str) -> list[str]:
    """Return the names of the columns of a CSV or TSV file, [] if the file is empty."""
    return _header(_reader(stream, source, _DELIMITERS[kind]), source)


class _Feed:
    """The lines of a CSV file as the csv module wants them. Bytes that are no UTF-8 survive as lone surrogates."""

    def __init__(self, stream: io.BufferedReader, source: str) -> None:
        self._lines = lines(stream)
        self._source = source

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        number, line = next(self._lines)
        if line is None:
            msg = f"{self._source} line {number + 1}: is longer than {MAX_ROW >> 20} MiB: split or repair the file"
            raise DataError(msg)
        return line.decode(errors="surrogateescape")


def _reader(stream: io.BufferedReader, source: str, delimiter: str) -> _csv.Reader:
    """Return a strict CSV reader."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW))
    return csv.reader(_Feed(stream, source), delimiter=delimiter, strict=True)


def _records(stream: io.BufferedReader, fields: Fields, source: str, delimiter: str) -> Iterator[Row | Fault]:
    """Yield the records after the header."""
    reader = _reader(stream, source, delimiter)
    header = _header(reader, source)
    if not header:
        return
    if not fields_of(fields.text, header):
        raise missing_field(source, fields.text, header)
    number, line = 0, reader.line_num + 1
    while (record := _next_record(reader, line)) is not None:
        if record:
            yield record if isinstance(record, Fault) else _record_row(number, line, record, header, fields)
            number += 1
        line = reader.line_num + 1


def _header(reader: _csv.Reader, source: str) -> list[str]:
    """Return the names of the columns, [] if there is none."""
    header = _next_record(reader, 1)
    while header == []:
        header = _next_record(reader, 1)
    if isinstance(header, Fault):
        msg = f"{source} line 1: the header is {header.reason}: the first line must name the columns"
        raise DataError(msg)
    return header or []


def _next_record(reader: _csv.Reader, line: int) -> list[str] | Fault | None:
    """Return the next record ([] for a blank line), a fault if it is malformed, None at the end."""
    try:
        return next(reader, None)
    except csv.Error as error:
        return Fault(line, f"not CSV ({error})", "")


def _record_row(number: int, line: int, record: list[str], header: list[str], fields: Fields) -> Row | Fault:
    """Return the row of one record."""
    if len(record) != len(header):
        return Fault(line, f"{len(record)} fields where the header has {len(header)}", _shown(record))
    if fields.text in header:
        text = record[header.index(fields.text)]
    else:
        text = cast("str", joined(record[header.index(name)] for name in fields_of(fields.text, header)))
    fault = text_fault(text)
    if fault:
        return Fault(line, fault, _shown(record))
    own = record[header.index(fields.id)] if fields.id in header else None
    label = record[header.index(fields.label)] if fields.label in header else NO_FIELD
    return Row(number, id_of(own), text, record, label)


def _shown(record: list[str]) -> str:
    return ", ".join(record)[:80]
