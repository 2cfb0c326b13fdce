"""Rows as JSON lines, with fields added. JSON objects keep their own characters: the fields are spliced in at the end.

Fields of the same names that were there before are replaced.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from gapsel.corpus.csvs import csv_header
from gapsel.corpus.find import kind_of, open_stream, reading
from gapsel.corpus.read import default_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gapsel.corpus.rows import Fields, Row


def line_maker(source: str, fields: Fields) -> Callable[[Row, dict[str, object]], bytes]:
    """Return the function that makes a JSON line of one row of this source, a text format, and its added fields."""
    kind = str(kind_of(source))
    if kind in ("jsonl", "json"):
        return spliced
    if kind == "txt":
        return lambda row, added: json_line({fields.id: default_id(source, row.number), fields.text: row.text} | added)
    header = header_of(source, kind)
    return lambda row, added: json_line(dict(zip(header, row.raw, strict=True)) | added)


def spliced(row: Row, added: dict[str, object]) -> bytes:
    """Return the JSON line of a row that is a JSON object."""
    raw = cast("str", row.raw)
    if any(name in raw for name in added):
        own = json.loads(raw)
        if not own.keys().isdisjoint(added):
            return json_line({name: value for name, value in own.items() if name not in added} | added)
    more = json.dumps(added, ensure_ascii=False)
    return f"{raw[:-1].rstrip()}, {more[1:]}\n".encode(errors="surrogateescape")


def json_line(value: Mapping[str, object]) -> bytes:
    """Return one object as a line."""
    line = json.dumps(value, ensure_ascii=False, default=str)
    return line.encode(errors="backslashreplace") + b"\n"


def header_of(source: str, kind: str) -> list[str]:
    """Return the names of the columns of a CSV or TSV file."""
    with reading(source), open_stream(source) as stream:
        return csv_header(stream, source, kind)
