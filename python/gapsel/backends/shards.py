"""Shards as all fast backends read them: where they lie, row after row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapsel.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# By name: NumPy has no bfloat16 of its own, ml_dtypes brings one.
READABLE = ("float16", "bfloat16", "float32")


def readable(shard: NDArray[np.floating], index: int) -> NDArray[np.floating]:
    """Return a shard that can be read where it lies, or say what to do; pools are too large to copy quietly."""
    if shard.dtype.name not in READABLE:
        msg = f"shard {index} is {shard.dtype}: give {', '.join(READABLE)}, as shard.astype(numpy.float32) does"
        raise DataError(msg)
    if not (shard.flags.c_contiguous and shard.flags.aligned):
        msg = f"shard {index} does not lie row after row in memory: pass numpy.ascontiguousarray of it"
        raise DataError(msg)
    return shard
