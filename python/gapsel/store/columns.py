"""Columns of vectors and of ids, checked: every vector of d numbers, no id missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gapsel.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def vectors_in(column: pa.Array, d: int, source: str, start: int) -> NDArray[np.floating]:
    """Return the vectors (r, d) of a column of lists, which begins at row ``start`` of its file.

    Raises DataError, with file and row, for a vector that is missing, of another d, or has a null in it.
    """
    lengths = pc.list_value_length(column).fill_null(-1).to_numpy()
    odd = np.flatnonzero(lengths != d)
    if len(odd):
        is_now = f"is of {lengths[odd[0]]} dimensions, others of {d}" if lengths[odd[0]] >= 0 else "is missing"
        raise _unusable(source, start + int(odd[0]), is_now)
    numbers = column.flatten()
    if numbers.null_count:
        null = int(np.flatnonzero(numbers.is_null().to_numpy(zero_copy_only=False))[0])
        raise _unusable(source, start + null // d, f"holds null at dimension {null % d}")
    values: NDArray[np.floating] = numbers.to_numpy(zero_copy_only=False).reshape(len(column), d)
    return values


def ids_in(ids: pa.Array, source: str, start: int) -> pa.Array:
    """Return a column of ids as texts. Raises DataError, with file and row, for one that is null."""
    if ids.null_count:
        null = start + int(np.flatnonzero(ids.is_null().to_numpy(zero_copy_only=False))[0])
        msg = f"{source} row {null}: its id, in column 'id', is null: fill or drop the column"
        raise DataError(msg)
    return ids.cast(pa.string())


def _unusable(source: str, row: int, is_now: str) -> DataError:
    return DataError(f"{source} row {row}: the vector {is_now}: remove or repair the row")
