"""JSON as rows: one object a line, or one array of objects.

Lines are decoded one by one, so that a bad one can be set aside. An array is decoded element by element in a window
that slides along the text; an element that is broken leaves no way to find the next, and ends the reading.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from gapsel.corpus.find import CHUNK
from gapsel.corpus.rows import BOM, MAX_ROW, Fault, Fields, Row, id_of, lines, not_utf8, text_fault, too_long
from gapsel.corpus.texts import NO_FIELD, text_in
from gapsel.errors import DataError

if TYPE_CHECKING:
    import io
    from collections.abc import Container, Iterator

_SPACE = re.compile(r"[ \t\r\n]*")
_AFTER_ELEMENT = re.compile(r"[ \t\r\n]*([,\]])")
_FOLD = re.compile(r"[ \t]*[\r\n]\s*")
_DECODER = json.JSONDecoder()


class Object(NamedTuple):
    """One JSON object: 0-based number of its row, its fields, and the text that it was."""

    number: int
    value: dict[Any, Any]
    raw: str


def objects(stream: io.BufferedReader, wanted: Container[int] | None = None) -> Iterator[Object | Fault]:
    """Yield the objects of a file with one a line, of which blank ones count; or those of the ``wanted`` lines."""
    for number, line in lines(stream):
        if wanted is not None and number not in wanted:
            continue
        if line is None:
            yield too_long(number)
        elif line.strip():
            yield _json_line(number, line.strip())


def jsonl_rows(
    stream: io.BufferedReader, fields: Fields, _source: str, wanted: Container[int] | None = None
) -> Iterator[Row | Fault]:
    """Yield the rows of a file with one JSON object a line, or those that are ``wanted``."""
    return (found if isinstance(found, Fault) else _row(found, fields) for found in objects(stream, wanted))


def json_rows(stream: io.BufferedReader, fields: Fields, source: str) -> Iterator[Row | Fault]:
    """Yield the rows of a .json file: the elements of one array, or one object a line."""
    if not stream.peek(64).removeprefix(BOM).lstrip().startswith(b"["):
        yield from jsonl_rows(stream, fields, source)
        return
    for number, (raw, value) in enumerate(_elements(stream, source)):
        # A line break in valid JSON lies between tokens and never in a string, so the object can be folded to one line.
        found = _object(number, value, _FOLD.sub(" ", raw))
        yield found if isinstance(found, Fault) else _row(found, fields)


def _json_line(number: int, line: bytes) -> Object | Fault:
    """Return the object of one line of JSON."""
    try:
        raw = line.decode()
    except UnicodeDecodeError:
        return not_utf8(number, line)
    try:
        value = json.loads(raw)
    except json.JSONDecodeError as error:
        return Fault(number + 1, f"not JSON ({error.msg})", raw)
    except (ValueError, RecursionError) as error:
        return Fault(number + 1, f"not JSON ({type(error).__name__})", raw)
    return _object(number, value, raw)


def _object(number: int, value: object, raw: str) -> Object | Fault:
    return Object(number, value, raw) if isinstance(value, dict) else Fault(number + 1, "not a JSON object", raw)


def _row(found: Object, fields: Fields) -> Row | Fault:
    """Return the row of one JSON object."""
    number, value, raw = found
    text = text_in(value, fields.text)
    if text is NO_FIELD:
        return Fault(number + 1, f"no field {fields.text!r}", ", ".join(value))
    fault = text_fault(text)
    if fault:
        return Fault(number + 1, fault, raw)
    return Row(number, id_of(value.get(fields.id)), cast("str", text), raw, value.get(fields.label, NO_FIELD))


class _Window:
    """The part of a JSON text that is in memory: ``text``, of which everything before ``at`` has been used."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self.text = ""
        self.at = 0
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode

    def grow(self) -> bool:
        """Drop what has been used and read more, twice as much for an element that is twice as long."""
        rest = self.text[self.at :]
        if len(rest) > MAX_ROW:
            return False
        data = self._stream.read(max(CHUNK, len(rest)))
        self.text, self.at = rest + self._decode(data, final=not data), 0
        return bool(data)

    def next_character(self) -> str:
        """Return the character after white space without using it, "" at the end."""
        while True:
            space = _SPACE.match(self.text, self.at)
            self.at = space.end() if space else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.grow():
                return ""


def _elements(stream: io.BufferedReader, source: str) -> Iterator[tuple[str, object]]:
    """Yield (its text, its value) of the elements of a JSON array."""
    window = _Window(stream)
    window.next_character()
    window.at += 1
    number = 0
    empty = window.next_character() == "]"
    window.at += empty
    delimiter = "]" if empty else ","
    while delimiter == ",":
        raw, value, delimiter = _element(window, source, number)
        yield raw, value
        number += 1
    if window.next_character():
        raise _broken(source, number, "there is more after the array")


def _element(window: _Window, source: str, number: int) -> tuple[str, object, str]:
    """Return text, value and following delimiter of the next element and use them up."""
    window.next_character()
    while True:
        problem = "no comma or bracket after it"
        try:
            value, end = _DECODER.raw_decode(window.text, window.at)
            if after := _AFTER_ELEMENT.match(window.text, end):
                raw = window.text[window.at : end]
                window.at = after.end()
                return raw, value, after.group(1)
        except (ValueError, RecursionError) as error:
            problem = getattr(error, "msg", type(error).__name__)
        if not window.grow():
            raise _broken(source, number, problem)


def _broken(source: str, number: int, problem: str) -> DataError:
    return DataError(
        f"{source}: the JSON array breaks off at element {number + 1} ({problem}): repair the file, or convert what "
        "can be read to one object a line (jq -c '.[]' FILE > FILE.jsonl), where single bad rows are set aside"
    )
