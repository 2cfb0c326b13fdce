"""Parquet and Arrow files as rows.

Both are read record batch by record batch. Arrow files are IPC streams, as Hugging Face `datasets` writes them, or IPC
files. Strings are taken as bytes and decoded one by one, so that one that is not UTF-8 spoils its own row alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gapsel import remote
from gapsel.corpus.find import kind_of, reading
from gapsel.corpus.rows import Fault, Fields, Row, id_of, missing_field, text_fault
from gapsel.corpus.texts import NO_FIELD, SAYS, fields_of, joined
from gapsel.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_ARROW_FILE_MAGIC = b"ARROW1"


def schema(source: str) -> pa.Schema:
    """Return the columns of a file and their types."""
    with reading(source), remote.in_any_order(source) as stream:
        return pq.read_schema(stream) if kind_of(source) == "parquet" else _arrow_reader(stream).schema


def table_rows(source: str, fields: Fields, batch_rows: int) -> Iterator[Row | Fault]:
    """Yield the rows of a file; ``raw`` is left empty.

    Raises DataError when the text column is missing or holds no strings.
    """
    names = _columns(source, fields)
    number = 0
    for batch in _batches(source, names, batch_rows):
        yield from batch_documents(batch, number, fields)
        number += batch.num_rows


def whole_rows(source: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield all rows with all their columns. Raises DataError for a file that cannot be read."""
    names = schema(source).names
    with reading(source):
        yield from _batches(source, names, batch_rows)


def chosen_rows(source: str, rows: NDArray[np.int64], batch_rows: int) -> Iterator[tuple[pa.RecordBatch, slice]]:
    """Yield the chosen rows with all their columns: (some of them, where these lie within ``rows``).

    ``rows`` are ascending. Row groups of a Parquet file without a chosen row are not read.
    """
    for start, batch in _numbered_batches(source, rows, batch_rows):
        low, high = np.searchsorted(rows, [start, start + batch.num_rows])
        if low < high:
            yield batch.take(pa.array(rows[low:high] - start)), slice(int(low), int(high))


def batch_sizes(source: str) -> Iterator[tuple[int, int]]:
    """Yield (bytes, rows) of the record batches of an Arrow file, in order."""
    return ((batch.nbytes, batch.num_rows) for batch in _arrow_batches(source))


def decoded(column: pa.Array) -> list[object]:
    """Return the values of a column; of strings, those that are not UTF-8 stay bytes."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not _is_text(column.type):
        return cast("list[object]", column.to_pylist())
    return [_decode(value) for value in column.cast(pa.large_binary()).to_pylist()]


def texts_of(batch: pa.RecordBatch, fields: Fields) -> list[object]:
    """Return the text of each row; bytes where that is not UTF-8, and what else is no text as it is."""
    names = fields_of(fields.text, batch.schema.names)
    columns = [decoded(batch.column(name)) for name in names]
    if len(columns) == 1 and not _is_list(batch.schema.field(names[0]).type):
        return columns[0]
    # Rows without any text are those that have null in all of the columns.
    return [None if all(one is None for one in row) else joined(row) for row in zip(*columns, strict=True)]


def _columns(source: str, fields: Fields) -> list[str]:
    """Return the columns to read, once they are known to be there and of the right type."""
    columns = schema(source)
    check_text(columns, source, fields)
    wanted = (*fields_of(fields.text, columns.names), fields.id, fields.label)
    return [name for name in dict.fromkeys(wanted) if name is not None and name in columns.names]


def check_text(columns: pa.Schema, source: str, fields: Fields) -> None:
    """Raise DataError unless there is a text column, and it holds strings or conversations."""
    names = fields_of(fields.text, columns.names)
    if not names:
        raise missing_field(source, fields.text, columns.names)
    other = next((name for name in names if not _holds_text(columns.field(name).type)), None)
    if other is not None:
        strings = [field.name for field in columns if _holds_text(field.type)]
        msg = (
            f"{source}: column {other!r} is of type {columns.field(other).type} and not a string; columns of strings: "
            f"{', '.join(strings) or 'none'}: name the right one (text_field, --text-field)"
        )
        raise DataError(msg)


def _batches(source: str, names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the named columns of a file in order."""
    if kind_of(source) == "parquet":
        with remote.in_any_order(source) as stream, _parquet(stream) as file:
            yield from file.iter_batches(batch_size=batch_rows, columns=names)
    else:
        for batch in _arrow_batches(source):
            yield batch.select(names)


def _numbered_batches(source: str, rows: NDArray[np.int64], batch_rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (number of its first row, batch with all columns) where chosen rows may lie."""
    if kind_of(source) == "parquet":
        yield from _parquet_groups(source, rows, batch_rows)
        return
    start = 0
    for batch in _arrow_batches(source):
        yield start, batch
        start += batch.num_rows


def _parquet_groups(source: str, rows: NDArray[np.int64], batch_rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the batches of the row groups that hold a chosen row."""
    with remote.in_any_order(source) as stream, _parquet(stream) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        bounds = np.cumsum([0, *sizes])
        taken = np.diff(np.searchsorted(rows, bounds))
        for group in np.flatnonzero(taken):
            start = int(bounds[group])
            for batch in file.iter_batches(batch_size=batch_rows, row_groups=[int(group)]):
                yield start, batch
                start += batch.num_rows


def _parquet(stream: pa.NativeFile) -> pq.ParquetFile:
    """Open a Parquet file to be read a little at a time, however large its row groups are."""
    return pq.ParquetFile(stream, pre_buffer=False, buffer_size=remote.BLOCK)


def _arrow_batches(source: str) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of an Arrow file, of either kind."""
    with remote.in_any_order(source) as stream:
        reader = _arrow_reader(stream)
        if isinstance(reader, pa.RecordBatchFileReader):
            yield from (reader.get_batch(index) for index in range(reader.num_record_batches))
        else:
            yield from reader


def _arrow_reader(stream: pa.NativeFile) -> pa.RecordBatchStreamReader | pa.RecordBatchFileReader:
    """Open an IPC stream or file, told apart by the first bytes."""
    magic = stream.read(len(_ARROW_FILE_MAGIC))
    stream.seek(0)
    return pa.ipc.open_file(stream) if magic == _ARROW_FILE_MAGIC else pa.ipc.open_stream(stream)


def batch_documents(batch: pa.RecordBatch, first: int, fields: Fields) -> Iterator[Row | Fault]:
    """Yield the rows of one batch."""
    texts = texts_of(batch, fields)
    ids = _column_or(batch, fields.id, None)
    labels = _column_or(batch, fields.label, NO_FIELD)
    for number, (text, own, label) in enumerate(zip(texts, ids, labels, strict=True), first):
        fault = "not UTF-8" if isinstance(text, bytes) else text_fault(text)
        if fault:
            yield Fault(number + 1, fault, _shown(text))
        else:
            yield Row(number, id_of(own), cast("str", text), "", label)


def _column_or(batch: pa.RecordBatch, name: str | None, otherwise: object) -> list[object]:
    """Return the values of a column, ``otherwise`` for every row if there is none of that name."""
    return decoded(batch.column(name)) if name in batch.schema.names else [otherwise] * batch.num_rows


def _holds_text(kind: pa.DataType) -> bool:
    """Tell whether a column holds texts, in a dictionary perhaps, or conversations."""
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    messages = _is_list(kind) and pa.types.is_struct(kind.value_type)
    return bool(messages and any(kind.value_type.get_field_index(name) >= 0 for name in SAYS)) or _is_text(kind)


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    """Tell whether a column holds strings; bytes are let through, since Parquet files often lack the mark of UTF-8."""
    types = pa.types
    view = getattr(types, "is_string_view", None)
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or (view and view(kind))
    )


def _decode(value: bytes | None) -> str | bytes | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _shown(value: object) -> str:
    return value[:80].decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)[:80]
