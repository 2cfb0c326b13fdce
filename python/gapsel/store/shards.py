"""The store: memory maps of the vectors, and their provenance looked up when it is asked for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gapsel.errors import DataError
from gapsel.files import write_json
from gapsel.store.provenance import SCHEMA, TableFile
from gapsel.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from gapsel.store.provenance import Provenance

FORMAT = 1
INDEX = "store.json"
_HASH_ROWS = 16384


class Entry(NamedTuple):
    """What store.json says of one shard: its rows, and the hashes of its vectors' bytes and of its table's file."""

    rows: int
    vectors: str
    table: str


@dataclass(frozen=True, slots=True)
class Index:
    """What store.json says: dimensions, type and shards, what made them, and whether the last one is written."""

    d: int
    dtype: str
    finished: bool
    fingerprint: Mapping[str, object]
    shards: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Store:
    """Vectors (n, d) in shards, each a read-only (rows, d) array of float16 or float32, rows numbered across shards.

    ``files`` is what messages call each shard; ``fingerprint`` what made the vectors (embedder, pooling, length,
    input); ``content`` and ``tables`` are the hashes of each shard's vectors and table as they were written; ``folder``
    is None for vectors that gapsel did not write. Lookups read one shard's provenance at a time.
    """

    shards: tuple[NDArray[np.floating], ...]
    files: tuple[str, ...]
    provenance: tuple[Provenance, ...]
    fingerprint: Mapping[str, object]
    content: tuple[str, ...]
    tables: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def n(self) -> int:
        """The number of rows."""
        return sum(len(shard) for shard in self.shards)

    @property
    def d(self) -> int:
        """The number of dimensions."""
        return int(self.shards[0].shape[1])

    @property
    def starts(self) -> NDArray[np.int64]:
        """The first row of each shard, and n: (shards + 1,) int64."""
        return np.cumsum([0, *(len(shard) for shard in self.shards)], dtype=np.int64)

    @property
    def fingerprint_hex(self) -> str:
        """A hash (32 hex digits) of the contents and of what made them. Reads ready-made vectors once."""
        content = self.content or tuple(vectors_hash(shard) for shard in self.shards)
        made = json.dumps([self.fingerprint, content], sort_keys=True)
        return hashlib.blake2b(made.encode(), digest_size=16).hexdigest()

    def joined(self) -> NDArray[np.float32]:
        """Return all vectors (n, d) in one array, for sides that are small."""
        return np.ascontiguousarray(np.concatenate([np.asarray(shard, np.float32) for shard in self.shards]))

    def table(self, first: int, stop: int) -> pa.Table:
        """Return id, source, row, text_hash and tokens of the rows from ``first`` up to ``stop``, across shards."""
        starts, parts = self.starts, []
        for start, end, one in zip(starts, starts[1:], self.provenance, strict=False):
            low, high = max(first, int(start)), min(stop, int(end))
            if low < high:
                parts.append(one.table(low - int(start), high - int(start)))
        return pa.concat_tables(parts) if parts else SCHEMA.empty_table()

    def source_counts(self) -> dict[str, int]:
        """Return how many rows come from each file."""
        counts: dict[str, int] = {}
        for one in self.provenance:
            for source, rows in one.sources().items():
                counts[source] = counts.get(source, 0) + rows
        return counts

    def ids(self, rows: NDArray[np.integer]) -> list[str]:
        """Return the document ids of some rows, in their order. Raises DataError for a row out of range."""
        return cast("list[str]", self._lookup("id", rows))

    def sources(self, rows: NDArray[np.integer]) -> list[str]:
        """Return the files that some rows came from."""
        return cast("list[str]", self._lookup("source", rows))

    def row_numbers(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the 0-based rows within their sources, int64."""
        return np.array(self._lookup("row", rows), dtype=np.int64)

    def text_hashes(self, rows: NDArray[np.integer]) -> list[bytes]:
        """Return the 16-byte text hashes of some rows; zeros for ready-made vectors."""
        return cast("list[bytes]", self._lookup("text_hash", rows))

    def tokens(self) -> int:
        """Return the number of tokens of all rows together; 0 for ready-made vectors."""
        return sum(one.tokens() for one in self.provenance)

    def tokens_at(self, rows: NDArray[np.integer]) -> int:
        """Return the number of tokens of some rows together."""
        return sum(cast("list[int]", self._lookup("tokens", rows)))

    def _lookup(self, name: str, rows: NDArray[np.integer]) -> list[object]:
        """Return the values of one column at some rows, in their order."""
        rows = np.asarray(rows, dtype=np.int64)
        starts = self.starts
        outside = np.flatnonzero((rows < 0) | (rows >= starts[-1]))
        if len(outside):
            msg = f"row {rows[outside[0]]} is out of range: the store has {counted(int(starts[-1]), 'row')}"
            raise DataError(msg)
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[order], starts)
        found: list[object] = [None] * len(rows)
        for shard in np.flatnonzero(np.diff(bounds)):
            places = order[bounds[shard] : bounds[shard + 1]]
            values = self.provenance[shard].take(name, rows[places] - starts[shard]).to_pylist()
            for place, value in zip(places, values, strict=True):
                found[place] = value
        return found


def open(folder: Path | str, *, verify: bool = False) -> Store:  # noqa: A001 - store.open is what it does
    """Open a finished store; ``verify`` reads all of it and compares the content hashes.

    Raises DataError, with the file's name, for a folder that is no store or not finished, another format version, a
    missing, truncated or altered shard.
    """
    folder = Path(folder)
    index = load_index(folder)
    if not index.finished:
        msg = f"{folder}: the store is not finished: run the command that was interrupted again, and it goes on"
        raise DataError(msg)
    shards = tuple(open_shard(folder, at, index) for at in range(len(index.shards)))
    provenance = tuple(TableFile(table_path(folder, at)) for at in range(len(shards)))
    content, tables = (tuple(getattr(entry, name) for entry in index.shards) for name in ("vectors", "table"))
    files = tuple(str(vectors_path(folder, at)) for at in range(len(shards)))
    found = Store(shards, files, provenance, index.fingerprint, content, tables, folder)
    if verify:
        _verify_all(found)
    return found


def verify(store: Store, at: int) -> None:
    """Read a shard of a store, and raise DataError unless its vectors and its table are those that were written."""
    table = table_path(Path(store.files[at]).parent, at)
    if vectors_hash(store.shards[at]) != store.content[at]:
        raise _damaged(Path(store.files[at]), "its contents do not match their hash")
    if file_hash(table) != store.tables[at]:
        raise _damaged(table, "its contents do not match their hash")


def _verify_all(store: Store) -> None:
    for at in range(len(store.shards)):
        verify(store, at)


def vectors_path(folder: Path, shard: int) -> Path:
    """Return the file of a shard's vectors."""
    return folder / f"{shard:05d}.npy"


def table_path(folder: Path, shard: int) -> Path:
    """Return the file of a shard's provenance."""
    return folder / f"{shard:05d}.parquet"


def load_index(folder: Path) -> Index:
    """Return what store.json says. Raises DataError when it is not there, damaged, or of another version."""
    path = folder / INDEX
    if not path.is_file():
        msg = f"{folder}: is not a store of vectors (it has no {INDEX}): check the path"
        raise DataError(msg)
    try:
        stored = json.loads(path.read_bytes())
        version = stored.pop("format")
        entries = tuple(Entry(**entry) for entry in stored.pop("shards"))
        index = Index(shards=entries, **stored) if version == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path}: is damaged ({error}): delete the folder and embed again"
        raise DataError(msg) from error
    if index is None:
        msg = f"{path}: is of format version {version}, this gapsel reads {FORMAT}: embed again, or change gapsel"
        raise DataError(msg)
    return index


def save_index(folder: Path, index: Index) -> None:
    """Write store.json, whole or not at all."""
    shards = [entry._asdict() for entry in index.shards]
    write_json(folder / INDEX, {"format": FORMAT, **asdict(index), "shards": shards})


def open_shard(folder: Path, at: int, index: Index) -> NDArray[np.floating]:
    """Return the memory map of one shard. Raises DataError unless both files are there and of the right size."""
    path, rows = vectors_path(folder, at), index.shards[at].rows
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        size = vectors.offset + vectors.nbytes
        found = (str(vectors.dtype), vectors.shape, path.stat().st_size)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    if found != (index.dtype, (rows, index.d), size):
        raise _damaged(path, f"{found[0]} {found[1]} in {found[2]} bytes, not {index.dtype} ({rows}, {index.d})")
    _check_table(table_path(folder, at), rows)
    return cast("NDArray[np.floating]", vectors)


def _check_table(path: Path, rows: int) -> None:
    """Raise DataError unless a shard's table is there and of the right size."""
    try:
        metadata = pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, str(error)) from error
    if metadata.num_rows != rows or metadata.schema.names != SCHEMA.names:
        raise _damaged(path, f"{metadata.num_rows} rows of {', '.join(metadata.schema.names)}, not {rows}")


def _damaged(path: Path, problem: str) -> DataError:
    return DataError(f"{path}: is damaged or missing ({problem}): delete it and run the command that embeds again")


def vectors_hash(vectors: NDArray[np.floating]) -> str:
    """Return the BLAKE2b hash (64 hex digits) of the bytes of an array in C order."""
    digest = hashlib.blake2b(digest_size=32)
    for start in range(0, len(vectors), _HASH_ROWS):
        digest.update(np.ascontiguousarray(vectors[start : start + _HASH_ROWS]).view(np.uint8).data)
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """Return the BLAKE2b hash (64 hex digits) of a file, small enough to be held in memory."""
    return hashlib.blake2b(path.read_bytes(), digest_size=32).hexdigest()


def embedders(files: Iterable[str]) -> set[str]:
    """Return the hashes of the embedders that are known to have made some vectors: of those that are shards of stores.

    A .npy has no place to say it, so that of one that was copied away from its store nothing is known.
    """
    made = (_embedder(folder / INDEX) for folder in {Path(file).parent for file in files})
    return {one for one in made if one is not None}


def _embedder(index: Path) -> str | None:
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["fingerprint"]["embedder"]["hash"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None
