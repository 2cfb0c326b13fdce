"""Ready-made vectors as a store, without a copy where their form allows it, and the check of all vectors before use.

What has to be converted (float64, Fortran order, Parquet) goes block by block into a temporary memory map, so that
memory does not grow with the file.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from typing import IO, TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa

from gapsel.errors import DataError, ResourceError
from gapsel.store.given import READY, Block, block_rows, check_form, empty, mapped, reading
from gapsel.store.heads import look
from gapsel.store.provenance import Numbered, Provenance
from gapsel.store.shards import Store
from gapsel.wording import counted

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Vectors = str | os.PathLike[str] | NDArray[np.floating]

_LARGEST = 8
_NOT_FINITE = "NaN or infinite values"
_ZERO = "all zeros, which is no direction"
_REMEDY = {
    _NOT_FINITE: "remove these rows or make their vectors again",
    _ZERO: "remove these rows, or choose a cost that does not normalize",
}


def from_vectors(
    vectors: Vectors | Sequence[Vectors], ids: Sequence[str] | None = None, *, column: str | None = None
) -> Store:
    """Return ready-made vectors as a store: .npy, .parquet or .jsonl files or arrays, one or several, each a shard.

    float16 and float32 in C order are used where they lie; other floats and layouts are converted to float32. A file of
    Parquet or JSON lines gives its column of lists of numbers (``column`` says which of several), and ``id`` if it has
    such a column.
    ``ids``, one for each row of all shards, default to that and else to the row number.

    Raises DataError for a file that cannot be read, another number of ids than rows, and arrays as in `check`.
    """
    several = list(vectors) if isinstance(vectors, list | tuple) else [cast("Vectors", vectors)]
    if not several:
        msg = "no vectors: name a .npy, .parquet or .jsonl file, or give an array"
        raise DataError(msg)
    shards, provenance, first = [], [], 0
    for at, one in enumerate(several):
        source = f"array {at}" if isinstance(one, np.ndarray) else str(one)
        shard, own = _load(one, source, column)
        shards.append(shard)
        provenance.append(Numbered(source, first, len(shard), own))
        first += len(shard)
    _check_d(shards, "vectors", [one.source for one in provenance])
    files = tuple(one.source for one in provenance)
    return Store(tuple(shards), files, _with_ids(provenance, ids), {"vectors": "ready-made"}, ())


def check(shards: Sequence[NDArray[np.floating]], *, name: str, normalize: bool, files: Sequence[str] = ()) -> None:
    """Read all vectors once, block by block, and raise DataError if they cannot be used.

    Faults are: no rows, arrays that are not (rows, d), types other than float, another d than in the shards before,
    rows with NaN or infinite values, and with ``normalize`` rows of zeros, which have no direction. The message names
    the array by its entry in ``files``, else by ``name``, the first bad row, counted from 0 within this array, and the
    number of bad rows in all.
    """
    names = files or _names(name, len(shards))
    for shard, own in zip(shards, names, strict=True):
        check_form(shard.dtype, shard.shape, own)
    _check_d(shards, name, names)
    found: dict[str, tuple[str, int, int]] = {}
    for own, start, block in _named_blocks(shards, names):
        for fault, flags in _faults(block, normalize=normalize):
            bad = np.flatnonzero(flags)
            if len(bad):
                where, first, count = found.get(fault, (own, start + int(bad[0]), 0))
                found[fault] = (where, first, count + len(bad))
    for fault, (where, first, count) in found.items():
        msg = f"{where} row {first}: {fault} ({count} such rows in all): {_REMEDY[fault]}"
        raise DataError(msg)


def check_block(block: NDArray[np.floating], source: str, first: int, *, normalize: bool) -> None:
    """Raise DataError, as `check` does, for a block (r, d) of a file that begins at row ``first`` of it."""
    for fault, flags in _faults(block, normalize=normalize):
        if flags.any():
            msg = f"{source} row {first + int(flags.argmax())}: {fault}: {_REMEDY[fault]}"
            raise DataError(msg)


# ---- loading


def _load(one: Vectors, source: str, column: str | None) -> tuple[NDArray[np.floating], pa.Array | None]:
    """Return one shard and its own ids."""
    if isinstance(one, np.ndarray):
        return _ready(one, source), None
    given = look(source, column)
    if given.in_place:
        with reading(source):
            return _ready(mapped(source), source), None
    ids: list[pa.Array] = []
    shard = _copied(_noting(given.blocks(), ids), (given.rows, given.d))
    return shard, pa.concat_arrays(ids) if ids else None


def _noting(blocks: Iterator[Block], ids: list[pa.Array]) -> Iterator[NDArray[np.floating]]:
    """Yield the vectors of the blocks, and note their ids."""
    for block in blocks:
        ids.extend([] if block.ids is None else [block.ids])
        yield block.vectors


def _ready(vectors: NDArray[np.floating], source: str) -> NDArray[np.floating]:
    """Return the vectors as they are, if float16 or float32 in C order, and else converted to float32."""
    check_form(vectors.dtype, vectors.shape, source)
    if vectors.dtype in READY and vectors.flags.c_contiguous:
        view = vectors.view()
        view.flags.writeable = False
        return view
    return _copied(_row_blocks(vectors), vectors.shape)


def _copied(blocks: Iterator[NDArray[np.floating]], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the blocks one after the other as a memory map of a temporary file, which is gone when it is let go."""
    with tempfile.TemporaryFile() as file:
        for block in blocks:
            _put(np.ascontiguousarray(block, np.float32), file)
        return np.memmap(file, np.float32, "r", shape=shape)


def _put(block: NDArray[np.float32], file: IO[bytes]) -> None:
    # Written, not copied into a map: on a full disk the write says so, where a map would end the process.
    try:
        file.write(block.data)
        file.flush()
    except OSError as error:
        msg = (
            f"the vectors cannot be converted in {tempfile.gettempdir()} ({error.strerror}): free some space there, "
            "name another folder in TMPDIR, or give float16 or float32 in C order"
        )
        raise ResourceError(msg) from error


def _with_ids(provenance: list[Numbered], ids: Sequence[str] | None) -> tuple[Provenance, ...]:
    """Return the provenance with the ids that the caller gives."""
    if ids is None:
        return tuple(provenance)
    rows = sum(one.rows for one in provenance)
    if len(ids) != rows:
        msg = f"{counted(len(ids), 'id')} for {counted(rows, 'vector')}: give one for each row"
        raise DataError(msg)
    given = pa.array(ids, pa.string())
    return tuple(replace(one, given=given.slice(one.first, one.rows)) for one in provenance)


# ---- checking


def _names(name: str, count: int) -> list[str]:
    """Return what the shards of this name are called in messages."""
    return [name] if count == 1 else [f"{name}, array {at}" for at in range(count)]


def _check_d(shards: Sequence[NDArray[np.floating]], name: str, names: Sequence[str]) -> None:
    """Raise DataError unless there are shards and all have the same d."""
    if not shards:
        raise empty(name)
    d = shards[0].shape[1]
    for shard, own in zip(shards, names, strict=True):
        if shard.shape[1] != d:
            msg = f"{own}: has {shard.shape[1]} dimensions, the shards before it {d}: use vectors of one embedder"
            raise DataError(msg)


def _named_blocks(
    shards: Sequence[NDArray[np.floating]], names: Sequence[str]
) -> Iterator[tuple[str, int, NDArray[np.floating]]]:
    """Yield (name of the shard, first row within it, block of rows)."""
    for shard, own in zip(shards, names, strict=True):
        start = 0
        for block in _row_blocks(shard):
            yield own, start, block
            start += len(block)


def _row_blocks(vectors: NDArray[np.floating]) -> Iterator[NDArray[np.floating]]:
    step = block_rows(vectors.shape[1])
    for start in range(0, len(vectors), step):
        yield vectors[start : start + step]


def _faults(block: NDArray[np.floating], *, normalize: bool) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield (fault, flags (r,) of the rows that have it).

    Without its sign, a float's bits are in the order of the floats, infinity above all numbers and NaN above that: one
    pass for the largest of a row tells both faults, several times as fast as NumPy's own tests of float16.
    """
    largest = _bits(block).max(axis=1)
    yield _NOT_FINITE, largest >= _bits(np.full(1, np.inf, block.dtype))
    if normalize:
        yield _ZERO, largest == 0


def _bits(values: NDArray[np.floating]) -> NDArray[np.unsignedinteger]:
    """Return the bits of floats as whole numbers of the same shape, without their signs."""
    # Of more than eight bytes only what float32 could hold will pass in the end, and float64 tells that.
    kind = values.dtype.newbyteorder("=") if values.dtype.itemsize <= _LARGEST else np.dtype(np.float64)
    values = np.ascontiguousarray(values, kind)
    unsigned = np.dtype(f"u{values.dtype.itemsize}")
    return np.asarray(values.view(unsigned) & unsigned.type(np.iinfo(unsigned).max >> 1))
