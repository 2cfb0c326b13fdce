"""How rows of the pool travel: as the name of a file and a place in it, or as numbers through the object store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from gapsel.backends.ray.cluster import Shared, fetched

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


class UnseenError(Exception):
    """A machine does not see a file as the one does that handed it out."""


@dataclass(frozen=True, slots=True)
class MappedRows:
    """Rows of an array in a file, of which size and time of change are known."""

    path: str
    size: int
    changed: int
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, rows: NDArray[np.floating]) -> MappedRows | None:
        """Say where rows lie in their file, None if they lie in none that others could open."""
        root: Any = rows
        while isinstance(root.base, np.ndarray):
            root = root.base
        if not isinstance(root, np.memmap) or root.filename is None:
            return None
        try:
            there = Path(root.filename).stat()
        except OSError:
            return None
        offset = root.offset + rows.__array_interface__["data"][0] - root.__array_interface__["data"][0]
        return cls(str(root.filename), there.st_size, there.st_mtime_ns, rows.dtype, offset, rows.shape)

    def check(self) -> None:
        """Raise UnseenError where there is no such file, or another one."""
        try:
            there = Path(self.path).stat()
        except OSError as error:
            raise UnseenError(self.path) from error
        if (there.st_size, there.st_mtime_ns) != (self.size, self.changed):
            raise UnseenError(self.path)

    def open(self) -> NDArray[np.floating]:
        """Return the rows. Raises UnseenError where the file cannot be read."""
        try:
            # No memmap: of those, every view is an object of its own.
            return np.asarray(np.memmap(self.path, self.dtype, "r", self.offset, cast("Any", self.shape)))
        except OSError as error:
            raise UnseenError(self.path) from error


Message: TypeAlias = list["MappedRows | list[Any]"]


def in_files(message: Message) -> tuple[MappedRows, ...] | None:
    """Return the message if all of it lies in files, else None."""
    files = tuple(rows for rows in message if isinstance(rows, MappedRows))
    return files if len(files) == len(message) else None


def opened(message: Message) -> list[NDArray[np.floating]]:
    """Return the arrays that a message means, on the machine that got it."""
    found: list[NDArray[np.floating]] = []
    for rows in message:
        found.extend([rows.open()] if isinstance(rows, MappedRows) else fetched(rows))
    return found


class Pool:
    """The shards of a pool, and what of them lies in the object store: pieces of ``piece_rows`` rows, put there once.

    Pieces are kept as long as the pool is the same and nobody can write to it.
    """

    def __init__(self, shards: Sequence[NDArray[np.floating]], piece_rows: int) -> None:
        self.shards, self._piece_rows = list(shards), piece_rows
        self._starts = np.cumsum([0, *map(len, shards)], dtype=np.int64).tolist()
        self._pieces: dict[range, Shared[list[NDArray[np.floating]]]] = {}
        self._in_files = True

    @property
    def n(self) -> int:
        """The number of rows."""
        return int(self._starts[-1])

    def is_still(self, shards: Sequence[NDArray[np.floating]]) -> bool:
        """Tell whether these are the pool's shards, with the numbers that they had."""
        same = len(shards) == len(self.shards) and all(a is b for a, b in zip(shards, self.shards, strict=True))
        return same and not any(shard.flags.writeable for shard in self.shards)

    def message(self, rows: range) -> Message:
        """Return what a worker has to be told to read some rows, which are whole pieces."""
        if self._in_files:
            mapped = [MappedRows.of(part) for part in self._cut(rows)]
            if None not in mapped:
                return cast("Message", mapped)
        firsts = range(rows.start, rows.stop, self._piece_rows)
        return [self._piece(range(first, min(first + self._piece_rows, rows.stop))).reference() for first in firsts]

    def hand_out(self) -> None:
        """Send numbers from now on: not all machines see the files."""
        self._in_files = False

    def forget(self) -> None:
        """Put all into the object store anew: some of it was lost there."""
        self._pieces.clear()

    def _piece(self, rows: range) -> Shared[list[NDArray[np.floating]]]:
        if rows not in self._pieces:
            self._pieces[rows] = Shared(list(self._cut(rows)))
        return self._pieces[rows]

    def _cut(self, rows: range) -> Iterator[NDArray[np.floating]]:
        """Yield the arrays that some rows are, shard by shard."""
        for shard, start in zip(self.shards, self._starts, strict=False):
            part = shard[max(rows.start - start, 0) : max(rows.stop - start, 0)]
            if len(part):
                yield part
