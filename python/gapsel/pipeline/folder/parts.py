"""Scores in parts: scores/00000.parquet and on, the pool's rows in order, each part whole, recognised and checked.

A part is a shard of vectors, or a piece of a long one. All that it holds follows from the model, the pool's vectors and
weights, and which rows it has; a hash of these stands in its metadata, by which a part that is finished is known, by
whomever it was written. Pages carry checksums, which every reader compares.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from gapsel.errors import DataError
from gapsel.files import whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

SCORES = "scores"
# A longer shard is cut: seconds of work that a kill can cost, and the most rows that are in memory at once.
PART_ROWS = 1 << 19
_READ_ROWS = 1 << 16
_ABOUT = b"gapsel"
_REPEATED = ["source", "nearest"]


@dataclass(frozen=True, slots=True)
class Part:
    """Rows ``first`` up to ``stop`` of the pool, all of one ``shard``; ``signature``: what their scores follow from."""

    at: int
    shard: int
    first: int
    stop: int
    signature: str

    def __len__(self) -> int:
        return self.stop - self.first

    @property
    def file(self) -> str:
        """The part's file in the run folder."""
        return f"{SCORES}/{self.at:05d}.parquet"


def cut(starts: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return (shard, first row, last row + 1) of every part, from the first row of each shard, and n."""
    return [
        (shard, first, min(first + PART_ROWS, stop))
        for shard, (start, stop) in enumerate(itertools.pairwise(starts))
        for first in range(start, stop, PART_ROWS)
    ]


def write(folder: Path, part: Part, tables: Iterable[pa.Table], about: Mapping[str, Any]) -> None:
    """Write a part, table after table of one schema, with what there is to remember ``about`` it."""
    said = {_ABOUT: json.dumps({**about, "signature": part.signature}).encode()}
    with whole(folder / part.file) as stream:
        writer = None
        for table in tables:
            schema = table.schema.with_metadata(said)
            writer = writer or pq.ParquetWriter(stream, schema, use_dictionary=_REPEATED, write_page_checksum=True)
            writer.write_table(table.cast(schema))
        if writer is not None:
            writer.close()


def finished(folder: Path, part: Part) -> dict[str, Any] | None:
    """Return what was remembered about a part that is there as it should be, else None."""
    try:
        about = _about(pq.read_metadata(folder / part.file))
    except (OSError, pa.ArrowException):
        return None
    return about if about.get("signature") == part.signature else None


def discard_others(folder: Path, parts: Sequence[Part]) -> None:
    """Delete the files of scores that are none of these parts as they should be."""
    kept = {part.file for part in parts if finished(folder, part) is not None}
    for file in (folder / SCORES).glob("*.parquet"):
        if f"{SCORES}/{file.name}" not in kept:
            file.unlink()


def discard(folder: Path, parts: Iterable[Part]) -> None:
    """Delete the files of these parts."""
    for part in parts:
        (folder / part.file).unlink(missing_ok=True)


def potentials(folder: Path, parts: Sequence[Part]) -> Iterator[NDArray[np.float32]]:
    """Yield f of all rows, in batches (r,). Raises DataError for a part that is damaged or not the one it should be."""
    return _column(folder, parts, "potential")


def prices(folder: Path, parts: Sequence[Part]) -> Iterator[NDArray[np.float32]]:
    """Yield what rows cost where something is to be avoided, which f has in it; else as potentials does."""
    return _column(folder, parts, "price")


def _column(folder: Path, parts: Sequence[Part], name: str) -> Iterator[NDArray[np.float32]]:
    for part in parts:
        path = folder / part.file
        try:
            with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as opened:
                if _about(opened.metadata).get("signature") != part.signature:
                    raise _unusable(path, "it holds other scores")
                for batch in opened.iter_batches(_READ_ROWS, columns=[name], use_threads=False):
                    yield batch.column(0).to_numpy()
        except (OSError, pa.ArrowException) as error:
            raise _unusable(path, str(error).strip().split("\n", 1)[0]) from error


def _about(metadata: pq.FileMetaData) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((metadata.metadata or {})[_ABOUT])
    except (KeyError, ValueError):
        return {}
    return about


def _unusable(path: Path, problem: str) -> DataError:
    return DataError(f"{path}: cannot be used ({problem}): delete it, and give the same command again")
