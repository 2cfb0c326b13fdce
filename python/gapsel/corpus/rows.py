"""What a row is, and plain text as rows.

One row is a ``Row`` (it can be used) or a ``Fault`` (it cannot, and why). Every reader holds one row and one buffer,
and no row longer than ``MAX_ROW``, so that memory does not grow with the file. A row keeps the user's own form of it in
``raw``: that is what `write_selected` writes back.

Blank lines are no rows, yet in formats of one row a line they keep their number. Records of CSV and TSV are numbered
without header and blank lines.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, NamedTuple

from gapsel.corpus.find import CHUNK
from gapsel.corpus.texts import NO_FIELD
from gapsel.errors import DataError

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

MAX_ROW = 64 << 20
BOM = b"\xef\xbb\xbf"


class Fields(NamedTuple):
    """The names of the fields that hold the text (texts.py says how), the id and, if they are asked for, the labels."""

    text: str
    id: str
    label: str | None = None


class Row(NamedTuple):
    """A document: 0-based number of the row, its own id or None, its text, and the row in the user's own form.

    ``raw`` is the JSON object as text, the list of fields of a CSV record, or the line of plain text. ``label`` is the
    value of the label field, NO_FIELD if the row has none or it is not asked for.
    """

    number: int
    id: str | None
    text: str
    raw: str | list[str]
    label: object = NO_FIELD


class Fault(NamedTuple):
    """A row that cannot be used: 1-based line (row where there are no lines), why, and what it looks like."""

    line: int
    reason: str
    value: str


def text_hash(text: str) -> bytes:
    """Return the 16-byte BLAKE2b hash of a text."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def text_fault(value: object) -> str | None:
    """Return why a value cannot be a document's text, None if it can."""
    if value is None:
        return "the text is null"
    if not isinstance(value, str):
        return f"the text is of type {type(value).__name__} and not a string"
    if not value or value.isspace():
        return "the text is empty"
    return None if is_utf8(value) else "not UTF-8"


def is_utf8(text: str) -> bool:
    r"""Tell whether a string can be written as UTF-8: a lone surrogate (JSON's "\ud800") cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def id_of(value: object) -> str | None:
    """Return a user's id as a string; None, for which a default stands, if it is no usable string or number."""
    if isinstance(value, str):
        return value if value and is_utf8(value) else None
    is_number = isinstance(value, int | float) and not math.isnan(value)
    return str(value) if is_number else None


def txt_rows(stream: io.BufferedReader, _fields: Fields, _source: str) -> Iterator[Row | Fault]:
    """Yield the lines of a plain text file, one document each."""
    for number, line in lines(stream):
        if line is None:
            yield too_long(number)
        elif line.strip():
            yield _text_line(number, line.rstrip(b"\r\n"))


def missing_field(source: str, name: str, there: list[str], setting: str = "text_field") -> DataError:
    """Return the error for a file that lacks a field, with the names of those it has."""
    names = ", ".join(repr(field[:80]) for field in there[:40]) or "none"
    flag = setting.replace("_", "-")
    return DataError(
        f"{source}: has no field {name!r}; its fields are {names}: name the right one ({setting}, --{flag})"
    )


def lines(stream: io.BufferedReader) -> Iterator[tuple[int, bytes | None]]:
    """Yield (0-based number, line with its end), None instead of a line longer than MAX_ROW."""
    number = 0
    while line := stream.readline(MAX_ROW + 1):
        if number == 0:
            line = line.removeprefix(BOM)
        if len(line) > MAX_ROW:
            _skip_line(stream, line)
            yield number, None
        else:
            yield number, line
        number += 1


def _skip_line(stream: io.BufferedReader, line: bytes) -> None:
    """Read on to the end of a line whose beginning has been read."""
    while line and not line.endswith(b"\n"):
        line = stream.readline(CHUNK)


def too_long(number: int) -> Fault:
    """Return the fault of a line that is longer than MAX_ROW."""
    return Fault(number + 1, f"the line is longer than {MAX_ROW >> 20} MiB", "")


def _text_line(number: int, line: bytes) -> Row | Fault:
    """Return the row of one line of plain text."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return not_utf8(number, line)
    fault = text_fault(text)
    return Fault(number + 1, fault, text) if fault else Row(number, None, text, text)


def not_utf8(number: int, line: bytes) -> Fault:
    """Return the fault of a line that is not UTF-8."""
    return Fault(number + 1, "not UTF-8", line[:80].decode(errors="backslashreplace"))
