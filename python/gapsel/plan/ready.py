"""Ready-made vectors looked at without reading them: their sizes from headers, some rows from places all over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gapsel.corpus.find import reading
from gapsel.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MATRIX = 2
# Rows looked at: so many from each of so many places.
_PLACES, _ROWS = 32, 64


@dataclass(frozen=True, slots=True)
class Ready:
    """Vectors in files: n rows of d, bytes of a number as it is swept, ``converted`` if it is not as it lies.

    ``some`` (s, d) float32 are some of the rows; ``bytes`` those of the files.
    """

    n: int
    d: int
    number_bytes: int
    converted: bool
    bytes: int
    some: NDArray[np.float32]


def look(paths: Sequence[str]) -> Ready:
    """Look at files of vectors (.npy, .parquet). Raises DataError for what is none or differs in d."""
    found = [_parquet(Path(path)) if path.lower().endswith(".parquet") else _npy(Path(path)) for path in paths]
    odd = next((path for path, one in zip(paths, found, strict=True) if one.d != found[0].d), None)
    if odd is not None:
        msg = f"{odd}: has not {found[0].d} dimensions as the files before it: use vectors of one embedder"
        raise DataError(msg)
    return Ready(
        n=sum(one.n for one in found),
        d=found[0].d,
        number_bytes=max(one.number_bytes for one in found),
        converted=any(one.converted for one in found),
        bytes=sum(one.bytes for one in found),
        some=np.concatenate([one.some for one in found]),
    )


def _npy(path: Path) -> Ready:
    with reading(str(path)):
        try:
            vectors = np.lib.format.open_memmap(path, mode="r")
        except ValueError as error:
            msg = f"{path}: cannot be read as vectors ({error}): give .npy or .parquet files"
            raise DataError(msg) from error
    if vectors.ndim != MATRIX or vectors.dtype.kind != "f" or not vectors.size:
        msg = f"{path}: is {vectors.dtype} of shape {vectors.shape}: vectors are floats, (rows, d)"
        raise DataError(msg)
    starts = np.unique(np.linspace(0, max(0, len(vectors) - _ROWS), _PLACES).astype(int))
    some = np.concatenate([np.asarray(vectors[at : at + _ROWS], np.float32) for at in starts])
    as_it_lies = vectors.dtype in (np.float16, np.float32) and vectors.flags.c_contiguous
    size = vectors.dtype.itemsize if as_it_lies else 4
    return Ready(len(vectors), vectors.shape[1], size, not as_it_lies, path.stat().st_size, some)


def _parquet(path: Path) -> Ready:
    with reading(str(path)), pq.ParquetFile(path, pre_buffer=False) as file:
        name = _column(path, file.schema_arrow)
        batch = next(file.iter_batches(batch_size=_PLACES * _ROWS, columns=[name]), None)
        if batch is None or not batch.num_rows:
            msg = f"{path}: is empty: give at least one vector of at least one dimension"
            raise DataError(msg)
        values = batch.column(0).flatten().cast(pa.float32()).to_numpy(zero_copy_only=False)
        some = values.reshape(batch.num_rows, -1)
        return Ready(file.metadata.num_rows, some.shape[1], 4, True, path.stat().st_size, some)  # noqa: FBT003 - converted


def _column(path: Path, schema: pa.Schema) -> str:
    """Return the first column of lists of floats."""
    lists = [
        field
        for field in schema
        if pa.types.is_list(field.type) or pa.types.is_large_list(field.type) or pa.types.is_fixed_size_list(field.type)
    ]
    name = next((field.name for field in lists if pa.types.is_floating(field.type.value_type)), None)
    if name is None:
        msg = f"{path}: has no column of lists of floats: give a Parquet file of vectors"
        raise DataError(msg)
    return str(name)
