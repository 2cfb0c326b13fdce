"""Shards written as the vectors come, and taken up again after an interruption.

What store.json lists is complete. A writer that meets such shards, made with the same fingerprint, keeps those whose
texts are still the same at the same places; from the first shard that differs on, everything is redone.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gapsel.errors import DataError, UsageError
from gapsel.files import whole
from gapsel.store.provenance import SCHEMA, TableFile
from gapsel.store.shards import (
    INDEX,
    Entry,
    Index,
    Store,
    file_hash,
    load_index,
    open,  # noqa: A004 - the store's own
    open_shard,
    save_index,
    table_path,
    vectors_hash,
    vectors_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray

SHARD_ROWS = 65536
MATRIX = 2


class Writer:
    """Writes a store, shard by shard.

    ``fingerprint`` says what makes the vectors and must survive JSON. ``finished_rows`` is the number of leading
    documents that the folder already holds. If it is not 0, call `keep` before `append`.

    Raises DataError when the folder holds vectors made otherwise (by another fingerprint or dtype), UsageError for
    shards of less than one row or a dtype other than float16 and float32.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        fingerprint: Mapping[str, object],
        shard_rows: int = SHARD_ROWS,
        dtype: DTypeLike = np.float16,
    ) -> None:
        self.folder = Path(folder)
        self._shard_rows = shard_rows
        self._dtype = np.dtype(dtype)
        if shard_rows < 1 or self._dtype not in (np.float16, np.float32):
            msg = f"shard_rows is {shard_rows} and dtype {self._dtype}: give at least 1, and float16 or float32"
            raise UsageError(msg)
        self._index = self._found(json.loads(json.dumps(fingerprint)))
        self._unchecked = bool(self._index.shards)
        self._block = np.empty((0, 0), self._dtype)
        self._filled = 0
        self._columns: list[pa.Table] = []

    @property
    def finished_rows(self) -> int:
        """The number of leading documents in complete shards."""
        return sum(entry.rows for entry in self._index.shards)

    def keep(self, hashes: Iterable[bytes]) -> int:
        """Keep the shards whose texts are unchanged and return how many leading documents they hold.

        ``hashes`` are the text hashes (16 bytes) of all documents in order; no more of them are taken than are needed.
        Where one differs, its shard and those after it are deleted and have to be appended again.
        """
        coming = iter(hashes)
        kept = 0
        while kept < len(self._index.shards) and self._same_texts(kept, coming):
            kept += 1
        self._cut(kept)
        self._unchecked = False
        return self.finished_rows

    def adopt(self, folder: Path) -> int:
        """Take over the shards that follow, as far as they lie in ``folder``, and return how many documents there are.

        Each lies in a folder of its own, named by its number, as a store of that one shard, made alike.
        """
        while self._follows(part := folder / f"{len(self._index.shards):05d}"):
            at, entry = len(self._index.shards), load_index(part).shards[0]
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in (vectors_path, table_path):
                _copy(name(part, 0), name(self.folder, at))
            self._save(replace(self._index, d=load_index(part).d, shards=(*self._index.shards, entry), finished=False))
        return self.finished_rows

    def _follows(self, part: Path) -> bool:
        """Tell whether a folder holds a sound shard made alike, and the last one here is full."""
        if any(entry.rows != self._shard_rows for entry in self._index.shards[-1:]) or not (part / INDEX).exists():
            return False
        index = load_index(part)
        alike = (index.fingerprint, index.dtype) == (self._index.fingerprint, self._index.dtype)
        return alike and len(index.shards) == 1 and _is_sound(part, 0, index)

    def append(  # noqa: PLR0917 - one batch, in the order of its columns
        self,
        vectors: NDArray[np.floating],
        ids: Sequence[str],
        source: str | Sequence[str],
        rows: NDArray[np.integer],
        hashes: Sequence[bytes],
        tokens: NDArray[np.integer],
    ) -> None:
        """Add r documents after all others.

        ``vectors`` (r, d); r ids; one source for all, or r; ``rows`` (r,), 0-based within their source; r text
        hashes of 16 bytes; ``tokens`` (r,).

        Raises DataError for vectors of another d than before, or with values that are not finite in the store's dtype,
        UsageError when the parts differ in length or `keep` has to come first.
        """
        if self._unchecked:
            msg = f"{self.folder}: holds {self.finished_rows} documents: check them with keep() before more are added"
            raise UsageError(msg)
        sources = [source] * len(ids) if isinstance(source, str) else source
        parts = (ids, sources, rows, hashes, tokens)
        if vectors.ndim != MATRIX or any(len(part) != len(vectors) for part in parts):
            msg = f"vectors of shape {vectors.shape} do not go with {[len(part) for part in parts]} of their columns"
            raise UsageError(msg)
        stored = self._stored(vectors, ids)
        table = pa.table([pa.array(part, kind) for part, kind in zip(parts, SCHEMA.types, strict=True)], schema=SCHEMA)
        self._fill(stored, table)

    def finish(self) -> Store:
        """Write the last shard and open the store. Raises DataError when no document was added."""
        if self._filled:
            self._flush()
        if not self._index.shards:
            msg = f"{self.folder}: no document was embedded: the input is empty"
            raise DataError(msg)
        if not self._index.finished:
            self._save(replace(self._index, finished=True))
        return open(self.folder)

    # ---- writing

    def _stored(self, vectors: NDArray[np.floating], ids: Sequence[str]) -> NDArray[np.floating]:
        """Return the vectors in the store's dtype, checked."""
        d = self._index.d or vectors.shape[1]
        if vectors.shape[1] != d:
            msg = f"{self.folder}: the vectors have {vectors.shape[1]} dimensions, those before {d}: use one embedder"
            raise DataError(msg)
        with np.errstate(over="ignore", invalid="ignore"):
            stored = vectors.astype(self._dtype)
        bad = np.flatnonzero(~np.isfinite(stored).all(axis=1))
        if len(bad):
            msg = (
                f"document {ids[bad[0]]!r}: its vector holds values that are not finite in {self._dtype} ({len(bad)} "
                f"of {len(ids)} documents): check the embedder, or store float32"
            )
            raise DataError(msg)
        self._index = replace(self._index, d=d)
        return stored

    def _fill(self, vectors: NDArray[np.floating], table: pa.Table) -> None:
        """Add rows to the shard in memory and write it whenever it is full."""
        if not self._block.size:
            self._block = np.empty((self._shard_rows, vectors.shape[1]), self._dtype)
        done = 0
        while done < len(vectors):
            take = min(len(vectors) - done, self._shard_rows - self._filled)
            self._block[self._filled : self._filled + take] = vectors[done : done + take]
            self._columns.append(table.slice(done, take))
            self._filled += take
            done += take
            if self._filled == self._shard_rows:
                self._flush()

    def _flush(self) -> None:
        """Write the shard in memory, its table, and then that both are there."""
        at = len(self._index.shards)
        vectors = self._block[: self._filled]
        with whole(vectors_path(self.folder, at)) as out:
            np.save(out, vectors, allow_pickle=False)
        with whole(table_path(self.folder, at)) as out:
            pq.write_table(pa.concat_tables(self._columns), out)
        entry = Entry(self._filled, vectors_hash(vectors), file_hash(table_path(self.folder, at)))
        self._save(replace(self._index, shards=(*self._index.shards, entry), finished=False))
        self._filled = 0
        self._columns = []

    def _save(self, index: Index) -> None:
        self._index = index
        save_index(self.folder, index)

    # ---- taking up again

    def _found(self, fingerprint: dict[str, object]) -> Index:
        """Return what the folder already holds."""
        if not (self.folder / INDEX).exists():
            return Index(0, str(self._dtype), finished=False, fingerprint=fingerprint, shards=())
        index = load_index(self.folder)
        other = _differences({**index.fingerprint, "dtype": index.dtype}, {**fingerprint, "dtype": str(self._dtype)})
        if other:
            msg = f"{self.folder}: holds vectors made otherwise ({other}): choose another folder, or delete this one"
            raise DataError(msg)
        sound = 0
        while sound < len(index.shards) and _is_sound(self.folder, sound, index):
            sound += 1
        return replace(index, shards=index.shards[:sound], finished=index.finished and sound == len(index.shards))

    def _same_texts(self, shard: int, coming: Iterator[bytes]) -> bool:
        """Tell whether the next hashes that come are those of the shard."""
        stored = TableFile(table_path(self.folder, shard)).column("text_hash").to_pylist()
        return all(old == new for old, new in zip_longest(stored, islice(coming, len(stored))))

    def _cut(self, kept: int) -> None:
        """Delete the shards from ``kept`` on; first from the list, so that it never names what is not there."""
        if kept < len(self._index.shards):
            self._save(replace(self._index, shards=self._index.shards[:kept], finished=False))
        at = kept
        while vectors_path(self.folder, at).exists() or table_path(self.folder, at).exists():
            vectors_path(self.folder, at).unlink(missing_ok=True)
            table_path(self.folder, at).unlink(missing_ok=True)
            at += 1


def _copy(source: Path, target: Path) -> None:
    """Give a file a second name, so that a kill before the index is saved loses nothing; or copy it."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        with whole(target) as out, source.open("rb") as stream:
            shutil.copyfileobj(stream, out)


def _is_sound(folder: Path, at: int, index: Index) -> bool:
    """Tell whether a listed shard is there and of the right size."""
    try:
        open_shard(folder, at, index)
    except DataError:
        return False
    return True


def _differences(there: Mapping[str, object], now: Mapping[str, object]) -> str:
    """Say in words how two fingerprints differ, "" if they do not."""
    names = [name for name in sorted({*there, *now}) if there.get(name) != now.get(name)]
    return ", ".join(f"{name} {there.get(name)!r} there and {now.get(name)!r} now" for name in names)
