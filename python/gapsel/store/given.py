"""Tables and arrays of ready-made vectors, here or by URL: their heads, and their rows block by block from any row on.

Memory does not grow with a file: of a .npy it holds one block, of a Parquet file one block and what a column's reader
buffers.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gapsel import files, remote
from gapsel.corpus.vector_lines import meant
from gapsel.errors import DataError
from gapsel.store.columns import ids_in, vectors_in

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

MATRIX = 2
READY: tuple[np.dtype[np.floating], ...] = (np.dtype(np.float16), np.dtype(np.float32))
BLOCK_ROWS = 8192
_BLOCK_BYTES = 1 << 24


class Block(NamedTuple):
    """Some rows of a file: vectors (r, d), and their own ids or None."""

    vectors: NDArray[np.floating]
    ids: pa.Array | None


class Given(Protocol):
    """One file of ready-made vectors: ``rows`` of ``d`` numbers each."""

    @property
    def source(self) -> str:
        """The path or URL."""
        ...

    @property
    def rows(self) -> int:
        """How many vectors there are."""
        ...

    @property
    def d(self) -> int:
        """How many numbers each has."""
        ...

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """Their type."""
        ...

    @property
    def in_place(self) -> bool:
        """Whether the vectors can be used where they lie: a .npy here, float16 or float32, row after row."""
        ...

    def blocks(self, first: int = 0) -> Iterator[Block]:
        """Read from row ``first`` to the end. Raises DataError for rows that are no vectors of d floats."""
        ...


def reading(source: str) -> AbstractContextManager[None]:
    """Turn what goes wrong while a file is read into a DataError that names it and what to do."""
    otherwise = "the file is damaged, cut short or not numeric; write it again"
    return files.reading(source, (EOFError, ValueError, pa.ArrowException), otherwise)


def mapped(source: str) -> NDArray[np.floating]:
    """Map a .npy file that lies here."""
    array: NDArray[np.floating] = np.lib.format.open_memmap(source, mode="r")
    return array


def check_form(dtype: np.dtype[np.floating], shape: tuple[int, ...], name: str) -> None:
    """Raise DataError unless an array is (rows, d), of floats, and not empty."""
    if dtype.kind != "f":
        msg = f"{name}: is of type {dtype}: vectors are float16, float32 or float64"
        raise DataError(msg)
    if len(shape) != MATRIX:
        msg = f"{name}: is of shape {shape}: vectors are two-dimensional, (rows, d)"
        raise DataError(msg)
    if 0 in shape:
        raise empty(name)


def empty(name: str) -> DataError:
    """Return the error for vectors that are none."""
    return DataError(f"{name}: is empty: give at least one vector of at least one dimension")


def block_rows(d: int) -> int:
    """Return how many rows of d numbers are read at a time."""
    return max(1, min(BLOCK_ROWS, _BLOCK_BYTES // (8 * d)))


# ---- .npy


@dataclass(frozen=True, slots=True)
class Npy:
    """A .npy file; ``offset`` is where its numbers begin."""

    source: str
    rows: int
    d: int
    dtype: np.dtype[np.floating]
    in_place: bool
    offset: int = 0

    @classmethod
    def of(cls, array: NDArray[np.floating], source: str) -> Npy:
        """Describe a mapped file."""
        check_form(array.dtype, array.shape, source)
        rows, d = array.shape
        return cls(source, rows, d, array.dtype, array.dtype in READY and array.flags.c_contiguous)

    def blocks(self, first: int = 0) -> Iterator[Block]:
        """Read on from row ``first``."""
        step = block_rows(self.d)
        with reading(self.source):
            if not remote.is_url(self.source):
                array = mapped(self.source)
                yield from (Block(array[at : at + step], None) for at in range(first, self.rows, step))
                return
            with remote.opened(self.source) as stream:
                _skip(stream, self.offset + first * self.d * self.dtype.itemsize)
                for at in range(first, self.rows, step):
                    yield Block(self._next(stream, min(step, self.rows - at)), None)

    def _next(self, stream: io.BufferedReader, count: int) -> NDArray[np.floating]:
        data = stream.read(count * self.d * self.dtype.itemsize)
        return np.frombuffer(data, self.dtype, count * self.d).reshape(count, self.d)


def look_at_npy(source: str) -> Npy:
    """Read the head of a .npy file."""
    return _look_at_url(source) if remote.is_url(source) else Npy.of(mapped(source), source)


def _look_at_url(url: str) -> Npy:
    with remote.opened(url) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(stream)
        check_form(dtype, shape, url)
        if by_columns:
            msg = f"{url}: its numbers lie column by column: save numpy.ascontiguousarray of it"
            raise DataError(msg)
        (rows, d), offset = shape, stream.tell()
        size = offset + rows * d * dtype.itemsize
        if stream.seekable() and stream.seek(0, 2) < size:
            msg = f"{url}: is cut short ({stream.tell()} bytes of {size}): write it again"
            raise DataError(msg)
    return Npy(url, rows, d, dtype, in_place=False, offset=offset)


def _skip(stream: io.BufferedReader, count: int) -> None:
    if stream.seekable():
        stream.seek(count)
        return
    while count and (passed := stream.read(min(count, remote.BLOCK))):
        count -= len(passed)


# ---- Parquet


@dataclass(frozen=True, slots=True)
class Parquet:
    """A Parquet file: its column of vectors, and whether it has ids."""

    source: str
    rows: int
    d: int
    dtype: np.dtype[np.floating]
    column: str
    has_ids: bool
    in_place: bool = False

    def blocks(self, first: int = 0) -> Iterator[Block]:
        """Read on from row ``first``; row groups before it are left out."""
        columns = [self.column, *(["id"] if self.has_ids else [])]
        with reading(self.source), opened_parquet(self.source) as file:
            ends = np.cumsum([file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)])
            groups = [at for at, end in enumerate(ends) if end > first]
            start = int(ends[groups[0] - 1]) if groups and groups[0] else 0
            for batch in file.iter_batches(block_rows(self.d), row_groups=groups, columns=columns):
                block = self._block(batch, start)
                skip = max(0, first - start)
                start += batch.num_rows
                if skip < batch.num_rows:
                    yield Block(block.vectors[skip:], None if block.ids is None else block.ids.slice(skip))

    def _block(self, batch: pa.RecordBatch, start: int) -> Block:
        vectors = vectors_in(batch.column(self.column), self.d, self.source, start)
        return Block(vectors, ids_in(batch.column("id"), self.source, start) if self.has_ids else None)


@contextmanager
def opened_parquet(source: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file to be read a little at a time, however large its row groups are."""
    with (
        remote.in_any_order(source) as stream,
        pq.ParquetFile(stream, pre_buffer=False, buffer_size=remote.BLOCK) as file,
    ):
        yield file


def look_at_parquet(source: str, column: str | None) -> Parquet:
    """Read the head of a Parquet file."""
    with opened_parquet(source) as file:
        name = vector_column(source, file.schema_arrow, column)
        first = next(file.iter_batches(1, columns=[name]), None)
        if first is None or not first.num_rows:
            raise empty(source)
        d = pc.list_value_length(first.column(0))[0].as_py()
        if not d:
            msg = f"{source} row 0: the vector is missing or empty: remove or repair the row"
            raise DataError(msg)
        half = pa.types.is_float16(file.schema_arrow.field(name).type.value_type)
        dtype: np.dtype[np.floating] = READY[0] if half else READY[1]
        return Parquet(source, file.metadata.num_rows, d, dtype, name, "id" in file.schema_arrow.names)


def vector_column(source: str, schema: pa.Schema, column: str | None) -> str:
    """Return the name of the column of lists of floats. Raises DataError unless there is one that is meant."""
    lists = [field.name for field in schema if _is_vector(field.type)]
    return meant(source, lists, column, ("column of lists of floats", "columns of lists of floats"))


def _is_vector(kind: pa.DataType) -> bool:
    types = pa.types
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(is_list and types.is_floating(kind.value_type))
