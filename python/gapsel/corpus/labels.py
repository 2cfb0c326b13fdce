"""One more field of the documents, row for row as `read` gives them, to be laid beside their vectors.

Labels (topic, domain, licence) say what a selection is made of. They are read when they are asked for and never stored,
hence the same rows are set aside here as when the texts were read.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from gapsel.corpus import tables
from gapsel.corpus.csvs import csv_header
from gapsel.corpus.find import TABLES, kind_of, open_stream, reading, sources
from gapsel.corpus.read import source_rows, usable_rows
from gapsel.corpus.rejects import Rejects
from gapsel.corpus.rows import Fields, Row, is_utf8, missing_field
from gapsel.corpus.texts import NO_FIELD
from gapsel.errors import DataError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


class MissingLabelError(DataError):
    """No document has the label field."""


def labels(
    paths: Sequence[str | os.PathLike[str]],
    label_field: str,
    *,
    text_field: str = "text",
    id_field: str = "id",
    batch_rows: int = 1024,
    setting: str = "label_field",
) -> Iterator[tuple[str, NDArray[np.int64], list[str | None]]]:
    """Stream (source, rows (r,) int64, r labels) for the documents that `read` gives, in its order and batches.

    A label is the field's string; numbers are written in digits, booleans as true or false, lists and objects as JSON,
    and what is not UTF-8 with backslashes. It is None where a row lacks the field or has null in it.

    Raises as `read` does, and MissingLabelError, a DataError, at the end if no row has the field; it names the
    ``setting`` that did.
    """
    fields = Fields(text_field, id_field, label_field)
    return _labelled(paths, fields, usable_rows(paths, fields, batch_rows, Rejects()), setting)


def _labelled(
    paths: Sequence[str | os.PathLike[str]], fields: Fields, held: Iterator[tuple[str, list[Row]]], setting: str
) -> Iterator[tuple[str, NDArray[np.int64], list[str | None]]]:
    """Yield rows and labels, and raise at the end if there was no label field."""
    found = False
    for source, rows in held:
        found = found or any(row.label is not NO_FIELD for row in rows)
        yield source, np.array([row.number for row in rows], np.int64), [_label_of(row.label) for row in rows]
    if not found:
        raise _no_label(sources(paths), fields, setting)


def _label_of(value: object) -> str | None:
    """Return a field's value as a label."""
    if value is None or value is NO_FIELD:
        return None
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, bool | list | dict):
        value = json.dumps(value, ensure_ascii=False, default=str)
    label = str(value)
    return label if is_utf8(label) else label.encode(errors="backslashreplace").decode()


def _no_label(files: list[str], fields: Fields, setting: str) -> MissingLabelError:
    """Return the error for files that all lack the label field."""
    there = dict.fromkeys(name for file in files for name in _field_names(file, fields))
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    plain = missing_field(f"{files[0]}{more}", str(fields.label), list(there), setting=setting)
    return MissingLabelError(str(plain))


def _field_names(source: str, fields: Fields) -> list[str]:
    """Return the names of the fields of one file; of JSON, those of its first document."""
    kind = str(kind_of(source))
    if kind in TABLES:
        return list(tables.schema(source).names)
    if kind in ("csv", "tsv"):
        with reading(source), open_stream(source) as stream:
            return csv_header(stream, source, kind)
    if kind == "txt":
        return []
    documents = (row.raw for row in source_rows(source, fields) if isinstance(row, Row))
    return list(json.loads(str(next(documents, "{}"))))
