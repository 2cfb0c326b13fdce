"""The pool as it was given: shards on the host or in a GPU's memory, cut into blocks of rows of one type."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.backends.shards import readable
from gapsel.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gapsel.backends.gpu.device import Array, Device

# How the kernels call the types that they read.
TYPES = {"float16": 0, "bfloat16": 1, "float32": 2}
_MATRIX = 2


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows of one type: the first one's number, how many, their type, and the arrays that hold them."""

    first: int
    rows: int
    dtype: str
    parts: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class PoolRows:
    """Shards (n_s, d) of consecutive rows; all of them on the host or, if ``device`` is set, all in that GPU's memory.

    ``starts`` are the numbers of the shards' first rows, and that of the row after the last.
    """

    shards: tuple[Any, ...]
    starts: tuple[int, ...]
    d: int
    device: Device | None = None

    @property
    def rows(self) -> range:
        """The numbers of the rows."""
        return range(self.starts[0], self.starts[-1])

    @property
    def dtypes(self) -> frozenset[str]:
        """The types of the shards."""
        return frozenset(shard.dtype.name for shard in self.shards)

    @property
    def keepable(self) -> bool:
        """Whether copies may be kept: nobody can write to these arrays."""
        return self.device is None and not any(shard.flags.writeable for shard in self.shards)

    def blocks(self, wanted: range, most: int) -> Iterator[Block]:
        """Cut the rows into blocks of at most ``most`` rows; a block ends where the type changes."""
        parts: list[Any] = []
        start = count = 0
        for begin, shard in self._parts(wanted):
            at = 0
            while at < len(shard):
                if count and (count == most or shard.dtype != parts[0].dtype):
                    yield Block(start, count, parts[0].dtype.name, tuple(parts))
                    parts, count = [], 0
                start = start if count else begin + at
                take = min(most - count, len(shard) - at)
                parts.append(shard[at : at + take])
                at, count = at + take, count + take
        if count:
            yield Block(start, count, parts[0].dtype.name, tuple(parts))

    def row(self, row: int) -> NDArray[np.float32]:
        """Return one row (d,) on the host."""
        _, shard = next(self._parts(range(row, row + 1)))
        values = shard if self.device is None else self.device.download(shard)
        return np.asarray(values[0], np.float32)

    def _parts(self, wanted: range) -> Iterator[tuple[int, Any]]:
        """Cut the rows by shards: each part's first row, and the part."""
        for shard, (begin, end) in zip(self.shards, pairwise(self.starts), strict=True):
            low, high = max(wanted.start, begin), min(wanted.stop, end)
            if low < high:
                yield low, shard[low - begin : high - begin]


def gather(shards: Sequence[object], d: int, devices: Sequence[Device], first: int = 0) -> PoolRows:
    """Line the shards up, from row number ``first`` on.

    Raises DataError if they are empty, of another width, or cannot be read where they lie.
    """
    adopted = [_adopted(shard, devices) for shard in shards]
    owners = {id(device): device for _, device in adopted}
    if len(owners) > 1:
        msg = "the shards lie in several places: give all of them on the host, or all on one GPU"
        raise DataError(msg)
    device = next(iter(owners.values()), None)
    arrays = [_checked(array, index, device) for index, (array, _) in enumerate(adopted)]
    for index, array in enumerate(arrays):
        if array.ndim != _MATRIX or array.shape[1] != d:
            found = f"{array.shape[1]} dimensions" if array.ndim == _MATRIX else f"{array.ndim} axes"
            msg = f"shard {index} has {found}, the target has {d}: both must come from one embedder"
            raise DataError(msg)
    starts = tuple(np.cumsum([first, *(len(array) for array in arrays)], dtype=np.int64).tolist())
    if starts[-1] == first:
        msg = "the pool is empty: give it at least one row"
        raise DataError(msg)
    return PoolRows(tuple(arrays), starts, d, device)


def _adopted(shard: object, devices: Sequence[Device]) -> tuple[Any, Device | None]:
    """Return a shard as an array of the device that holds it, or as a host array and None."""
    if not isinstance(shard, np.ndarray):
        for device in devices:
            array = device.adopt(shard)
            if array is not None:
                return array, device
    return shard, None


def _checked(array: Array, index: int, device: Device | None) -> Array:
    if device is None:
        return readable(np.asarray(array), index)
    if array.dtype.name not in TYPES:
        msg = f"shard {index} is {array.dtype}: give {', '.join(TYPES)}"
        raise DataError(msg)
    if not array.flags.c_contiguous:
        msg = f"shard {index} does not lie row after row in memory: pass a contiguous copy of it"
        raise DataError(msg)
    return array
