"""Pieces of the input: which bytes of which files are looked at, and the rows in them.

Files of one format are laid end to end and cut into equal lengths; from each length one piece is read, so that every
byte has the same chance and a large file gets its share of pieces. Files of one row a line are entered anywhere, at the
next line. Where rows cannot be told from the middle (compressed files, CSV, JSON arrays, Arrow streams) it is the
file's beginning that is read, as much of it as would have been read all over. Parquet says its rows in its footer.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gapsel import remote
from gapsel.corpus.find import CODECS, kind_of, reading
from gapsel.corpus.read import source_rows, text_rows
from gapsel.corpus.rows import BOM, MAX_ROW, Fault, Fields, Row
from gapsel.corpus.tables import batch_sizes
from gapsel.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Bytes of a piece, and how many there are at most: 16 MiB in all.
PIECE, PIECES = 1 << 18, 64
# So much is read whole, and known instead of estimated; a compressed byte counts as several.
WHOLE, DEFLATED = 4 << 20, 4
# Files that are looked into however small they are.
_FEW = 8
# zstd gives whole blocks of 128 KiB only: of a short piece it would be unclear how much of it has been seen.
_LEAST_ZSTD = 1 << 20
# Rows of a Parquet or Arrow piece.
_TABLE_ROWS = 512
_BLOCK = 1 << 8
# The last line of a piece is read to its end, so far.
_BEYOND = 1 << 20
# Formats whose rows begin after any line break.
_LINES = ("jsonl", "txt")


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a file that stand for ``share`` of all pieces."""

    source: str
    offset: int
    length: int
    share: int
    size: int


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of a piece, good and bad, and the bytes of the file that they take; ``rows`` of them in all."""

    piece: Piece
    good: tuple[Row, ...]
    bad: tuple[Fault, ...]
    rows: float
    bytes: float


def alike(files: Sequence[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    """Return the files (name, bytes) in groups of one format and compression: bytes of others say nothing of theirs."""
    groups: dict[tuple[str | None, str], list[tuple[str, int]]] = {}
    for source, size in files:
        groups.setdefault((kind_of(source), suffix(source)), []).append((source, size))
    return list(groups.values())


def lay_out(files: Sequence[tuple[str, int]], most: int = 0) -> list[Piece]:
    """Return at most so many pieces (0: PIECES) to look at of files (name, bytes) that are alike."""
    total = sum(size for _, size in files)
    count = max(1, min(most or PIECES, max(total // PIECE, min(len(files), _FEW))))
    places = (np.arange(count) + 0.5) * total / count
    found: list[Piece] = []
    start = 0
    for source, size in files:
        first, last = np.searchsorted(places, (start, start + size))
        found += _of_file(source, size, [int(place) - start for place in places[first:last]])
        start += size
    return found


def _of_file(source: str, size: int, places: list[int]) -> Iterator[Piece]:
    """Yield the pieces of one file that hold the places, or as many bytes from its beginning."""
    if _enters(source):
        for place in places:
            offset = max(0, min(place - PIECE // 2, size - PIECE))
            yield Piece(source, offset, min(PIECE, size - offset), 1, size)
    elif places:
        codec = CODECS.get(suffix(source))
        least = _LEAST_ZSTD if codec == "zstd" else 0
        length = max(PIECE * len(places) // (DEFLATED if codec else 1), least)
        yield Piece(source, 0, min(length, size), len(places), size)


def suffix(source: str) -> str:
    """Return the last suffix of a path or URL, in small letters."""
    return PurePosixPath(remote.name_of(source).lower()).suffix


def bytes_of(source: str) -> int:
    """Return the size of a file, here or by URL."""
    with reading(source), remote.in_any_order(source) as stream:
        return int(stream.size())


def first(source: str, size: int) -> Piece:
    """Return a long piece at a file's beginning, for rows so long that none began in the others."""
    return Piece(source, 0, min(size, MAX_ROW), 1, size)


def look(piece: Piece, fields: Fields) -> Found:
    """Read the rows of a piece. Raises DataError as reading the corpus does."""
    kind = kind_of(piece.source)
    if kind == "parquet":
        return _parquet(piece, fields)
    if kind == "arrow":
        return _arrow(piece, fields)
    with reading(piece.source):
        text, read = _entered(piece) if _enters(piece.source) else _beginning(piece)
    rows = list(_rows(text, piece, fields))
    if kind in ("csv", "tsv") and piece.length < piece.size:
        rows = rows[:-1]  # it may break off within quotes
    return _found(piece, rows, len(rows), read)


def whole(source: str, size: int, fields: Fields) -> Found:
    """Read a file whole."""
    rows = list(source_rows(source, fields))
    return _found(Piece(source, 0, size, 1, size), rows, len(rows), size)


def _found(piece: Piece, rows: list[Row | Fault], count: float, read: float) -> Found:
    good = tuple(row for row in rows if isinstance(row, Row))
    return Found(piece, good, tuple(row for row in rows if isinstance(row, Fault)), count, read)


def is_beginning(piece: Piece) -> bool:
    """Tell whether more of its file could not have been looked at."""
    return not _enters(piece.source) and kind_of(piece.source) != "parquet"


def _enters(source: str) -> bool:
    """Tell whether rows can be found from any place in a file."""
    return kind_of(source) in _LINES and suffix(source) not in CODECS


def _entered(piece: Piece) -> tuple[bytes, float]:
    """Return the lines that begin in a piece, each whole, and the bytes of the piece."""
    raw = _read(piece, _BEYOND)
    begin = raw.find(b"\n", 0, piece.length) + 1 if piece.offset else 0
    if piece.offset and not begin:
        return b"", piece.length
    end = raw.find(b"\n", piece.length) + 1
    if not end:
        ends = piece.offset + len(raw) == piece.size
        end = len(raw) if ends else raw.rfind(b"\n", begin, piece.length) + 1
    return raw[begin:end], piece.length


def _beginning(piece: Piece) -> tuple[bytes, float]:
    """Return what can be read of a file's beginning, and the bytes of the file that it takes."""
    raw = _read(piece, 0)
    is_whole = len(raw) == piece.size
    codec = CODECS.get(suffix(piece.source))
    text = raw if codec is None else _inflated(raw, codec, is_whole=is_whole)
    if is_whole or _is_array(piece, text):
        return text, len(raw)
    kept = text[: text.rfind(b"\n") + 1]
    if not kept:
        return _beginning(replace(piece, length=min(4 * piece.length, piece.size)))
    return kept, len(raw) * len(kept) / len(text)


def _read(piece: Piece, beyond: int) -> bytes:
    with remote.in_any_order(piece.source) as stream:
        stream.seek(piece.offset)
        return bytes(stream.read(piece.length + beyond))


def _is_array(piece: Piece, text: bytes) -> bool:
    return kind_of(piece.source) == "json" and text.removeprefix(BOM).lstrip().startswith(b"[")


def _inflated(raw: bytes, codec: str, *, is_whole: bool) -> bytes:
    """Return what can be had of the beginning of a compressed file. Raises OSError where the whole one breaks off."""
    found = []
    with pa.CompressedInputStream(pa.BufferReader(raw), codec) as stream:
        try:
            while block := stream.read(_BLOCK):
                found.append(block)
        except OSError:
            if is_whole:
                raise
    return b"".join(found)


def _rows(text: bytes, piece: Piece, fields: Fields) -> Iterator[Row | Fault]:
    rows = text_rows(io.BufferedReader(io.BytesIO(text)), fields, piece.source)
    return _until_broken(rows) if _is_array(piece, text) else rows


def _until_broken(rows: Iterator[Row | Fault]) -> Iterator[Row | Fault]:
    """Yield the elements of an array that breaks off where the piece ends."""
    some = False
    try:
        for row in rows:
            yield row
            some = True
    except DataError:
        if not some:
            raise


def _parquet(piece: Piece, fields: Fields) -> Found:
    with reading(piece.source), remote.in_any_order(piece.source) as stream:
        count = pq.read_metadata(stream).num_rows
    rows = list(islice(source_rows(piece.source, fields, _TABLE_ROWS), _TABLE_ROWS * min(piece.share, 8)))
    return _found(piece, rows, count, piece.size)


def _arrow(piece: Piece, fields: Fields) -> Found:
    """Rows of the first batches; what they take in memory is what they take in the file, which is not compressed."""
    rows = list(islice(source_rows(piece.source, fields, _TABLE_ROWS), _TABLE_ROWS * min(piece.share, 8)))
    read, count = 0.0, 0
    with reading(piece.source):
        for size, held in batch_sizes(piece.source):
            read, count = read + size, count + held
            if read >= piece.length:
                break
    return _found(piece, rows, count, min(read, piece.size))
