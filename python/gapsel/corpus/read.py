"""Rows as batches, and when a corpus is too bad to go on.

A run must not waste an hour on the wrong field: it ends as soon as a file shows no text in its first rows, or more than
half of at least a thousand rows cannot be used, and at the end of the corpus if more than half of all cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gapsel import remote
from gapsel.corpus.csvs import csv_rows, tsv_rows
from gapsel.corpus.find import TABLES, kind_of, open_stream, reading, sources
from gapsel.corpus.jsons import json_rows, jsonl_rows
from gapsel.corpus.rejects import Rejects
from gapsel.corpus.rows import Fault, Fields, Row, missing_field, txt_rows
from gapsel.corpus.tables import table_rows
from gapsel.errors import DataError, UsageError
from gapsel.wording import counted

if TYPE_CHECKING:
    import io
    import os
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

# What to do about rows that cannot be used, by the beginning of the reason.
_REMEDY = {
    "not UTF-8": "Convert the files to UTF-8 (iconv -f LATIN1 -t UTF-8 FILE > NEW, say)",
    "not JSON": "Repair the files: one JSON object a line, or, in a .json, one array of objects (jq -c writes such "
    "lines: jq -c . FILE > NEW.jsonl, or '.data[]' for the array within an object)",
    "not a JSON object": 'Repair the files: each row is an object, {"text": ...}',
}
ENOUGH_ROWS = 1000
FIRST_ROWS = 100
# A batch of so much text is full, however few its rows: fixed, for what is embedded together shares its last bits.
BATCH_CHARACTERS = 1 << 25
_TEXT_FORMATS: dict[str, Callable[..., Iterator[Row | Fault]]] = {
    "jsonl": jsonl_rows,
    "json": json_rows,
    "csv": csv_rows,
    "tsv": tsv_rows,
    "txt": txt_rows,
}


@dataclass(frozen=True, slots=True)
class Batch:
    """Some documents of one source: their ids, their texts, and ``rows`` (r,) int64, 0-based within the source."""

    ids: list[str]
    texts: list[str]
    source: str
    rows: NDArray[np.int64]


def read(
    paths: Sequence[str | os.PathLike[str]],
    *,
    text_field: str = "text",
    id_field: str = "id",
    batch_rows: int = 1024,
    rejects: Rejects | None = None,
) -> Iterator[Batch]:
    """Stream the documents of all sources, in order, in batches of at most ``batch_rows`` from one source each.

    A document's id is the value of ``id_field``, where that is a string or a number, and else ``file name:row``. Rows
    that cannot be used go to ``rejects``, which serves one call. The paths are looked up before the first batch.

    Raises DataError when nothing is there or readable, when the text field is missing, when more than half of the rows
    cannot be used, and when no document is left; UsageError for a batch size below 1.
    """
    held = usable_rows(paths, Fields(text_field, id_field), batch_rows, Rejects() if rejects is None else rejects)
    return (_batch(rows, source) for source, rows in held)


def usable_rows(
    paths: Sequence[str | os.PathLike[str]], fields: Fields, batch_rows: int, rejects: Rejects
) -> Iterator[tuple[str, list[Row]]]:
    """Yield (source, at most ``batch_rows`` of its usable rows); looks up, sets aside and raises as `read`."""
    if batch_rows < 1:
        msg = f"batch_rows is {batch_rows}: give at least 1"
        raise UsageError(msg)
    return _read(sources(paths), fields, batch_rows, rejects)


def source_rows(source: str, fields: Fields, batch_rows: int = 1024) -> Iterator[Row | Fault]:
    """Yield all rows of one source, good and bad. Raises DataError when the file cannot be read."""
    with reading(source):
        if kind_of(source) in TABLES:
            yield from table_rows(source, fields, batch_rows)
            return
        with open_stream(source) as stream:
            yield from text_rows(stream, fields, source)


def text_rows(stream: io.BufferedReader, fields: Fields, source: str) -> Iterator[Row | Fault]:
    """Yield the rows of a text, which may be a part of the source: it is of the source's format, and decompressed."""
    return _TEXT_FORMATS[str(kind_of(source))](stream, fields, source)


def texts_at(source: str, rows: Collection[int], *, text_field: str = "text", id_field: str = "id") -> dict[int, str]:
    """Return the texts of a few rows of one source, by row; it is read up to the last of them."""
    wanted, found = set(rows), dict[int, str]()
    for row in rows_at(source, Fields(text_field, id_field), wanted) if wanted else ():
        if isinstance(row, Row) and row.number in wanted:
            found[row.number] = row.text
            if len(found) == len(wanted):
                break
    return found


def rows_at(source: str, fields: Fields, wanted: Collection[int]) -> Iterator[Row | Fault]:
    """Yield rows of one source, the wanted among them; of JSON lines these alone, since parsing is most of the work."""
    if kind_of(source) != "jsonl":
        yield from source_rows(source, fields)
        return
    with reading(source), open_stream(source) as stream:
        yield from jsonl_rows(stream, fields, source, wanted)


def default_id(source: str, row: int) -> str:
    """Return the id of a document that has none of its own."""
    return f"{Path(remote.name_of(source)).name}:{row}"


def _read(files: list[str], fields: Fields, batch_rows: int, rejects: Rejects) -> Iterator[tuple[str, list[Row]]]:
    """Yield the rows of all files and judge the whole at the end."""
    for source in files:
        for rows in _read_source(source, fields, batch_rows, rejects):
            yield source, rows
    judge(rejects)
    if not rejects.seen:
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        msg = f"{files[0]}{more}: holds no documents: the input is empty, check the path and what wrote it"
        raise DataError(msg)


def _read_source(source: str, fields: Fields, batch_rows: int, rejects: Rejects) -> Iterator[list[Row]]:
    """Yield the usable rows of one file, some at a time."""
    return gathered(usable(source_rows(source, fields, batch_rows), source, fields, rejects), batch_rows)


def gathered(rows: Iterable[Row], batch_rows: int) -> Iterator[list[Row]]:
    """Yield ``batch_rows`` rows at a time, or fewer where they are long."""
    held: list[Row] = []
    characters = 0
    for row in rows:
        held.append(row)
        characters += len(row.text)
        if len(held) == batch_rows or characters >= BATCH_CHARACTERS:
            yield held
            held, characters = [], 0
    if held:
        yield held


def usable(rows: Iterable[Row | Fault], source: str, fields: Fields, rejects: Rejects) -> Iterator[Row]:
    """Yield the rows that can be used and set the others aside. Raises DataError where too few can be used."""
    bad_so_far = 0
    for row in rows:
        if isinstance(row, Row):
            rejects.seen += 1
            bad_so_far = FIRST_ROWS
            yield row
            continue
        rejects.add(source, row.line, row.reason, row.value)
        bad_so_far += 1
        if bad_so_far == FIRST_ROWS and row.reason.startswith("no field"):
            place = f"{source} line {row.line}"
            raise missing_field(place, fields.text, row.value.split(", "))
        judge_early(rejects)


def _batch(held: list[Row], source: str) -> Batch:
    """Gather rows into a batch."""
    numbers = np.array([row.number for row in held], dtype=np.int64)
    ids = [row.id or default_id(source, row.number) for row in held]
    return Batch(ids, [row.text for row in held], source, numbers)


def judge_early(rejects: Rejects) -> None:
    """Raise if, of enough rows to tell, more than half cannot be used."""
    if rejects.seen >= ENOUGH_ROWS:
        judge(rejects)


def judge(rejects: Rejects) -> None:
    """Raise if more than half of the rows so far cannot be used."""
    if 2 * rejects.count <= rejects.seen:
        return
    reason, times = rejects.by_reason.most_common(1)[0]
    file, line, _, value = rejects.example[reason]
    other = "Repair the files, or name the field that is meant (text_field, --text-field; vector_field, --vector-field)"
    remedy = next((words for start, words in _REMEDY.items() if reason.startswith(start)), other)
    msg = (
        f"{rejects.count:,} of the first {counted(rejects.seen, 'row')} cannot be used; the most frequent reason is: "
        f"{reason} ({counted(times, 'row')}), for example {file} line {line}: {value!r}. {remedy}"
    )
    raise DataError(msg)
