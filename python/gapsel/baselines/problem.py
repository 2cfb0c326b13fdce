"""What a baseline is given, the rules included, and the pool in tiles of one height, however it is cut into shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from gapsel.errors import DataError, UsageError
from gapsel.rules import Budget, Rules, Walk
from gapsel.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from gapsel.records import Cost, Target

MATRIX = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """Choose k rows of a pool for a target, or under rules so many or about so many.

    ``shards`` are those of `backends.Backend`: n rows of d dimensions, numbered across the shards. ``seed`` is for
    baselines that draw; ``texts`` for those that read: each call of one of the two reads the documents of the pool, or
    of the target, anew, in the order of the rows; ``akin`` (n,) for those that know labels: whether a row's is one of
    the target's. ``begin`` starts a choice under the rules of a run; without it, so many rows are all that is asked.
    ``threads`` are for those that read the pool themselves, 0 for all that there are.

    Raises DataError for a shard or target that is not (rows, d) with the same d, UsageError unless 1 <= k <= n.
    """

    shards: Sequence[NDArray[np.floating]]
    target: Target
    cost: Cost
    k: int
    seed: int = 0
    texts: tuple[Callable[[], Iterable[str]], Callable[[], Iterable[str]]] | None = None
    akin: NDArray[np.bool_] | None = None
    begin: Callable[[], Walk] | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        y = self.target.y
        if y.ndim != MATRIX or not np.any(self.target.b > 0):
            msg = f"the target has shape {y.shape}: give (m, d) vectors, at least one of positive weight"
            raise DataError(msg)
        d = y.shape[1]
        for at, shard in enumerate(self.shards):
            if shard.ndim != MATRIX or shard.shape[1] != d:
                msg = f"shard {at} has shape {shard.shape}: give (rows, {d}), as the target has {d} dimensions"
                raise DataError(msg)
        if not 1 <= self.k <= self.n:
            msg = f"k is {self.k}: the pool has {counted(self.n, 'row')}, so give a number from 1 to {self.n:,}"
            raise UsageError(msg)

    @property
    def n(self) -> int:
        """The number of rows in the pool."""
        return sum(map(len, self.shards))

    def walk(self) -> Walk:
        """Begin a choice."""
        return Walk(Rules(Budget(self.n, self.k))) if self.begin is None else self.begin()

    def first_of(self, first: Callable[[int], NDArray[np.int64]]) -> NDArray[np.int64]:
        """Return the first rows (k,) of an order that keep to the rules; ``first`` returns so many rows of it."""
        walk = self.walk()
        walk.through(first)
        return walk.finish().rows


Tile: TypeAlias = "tuple[int, int, NDArray[np.float32]]"


def tiles(shards: Sequence[NDArray[np.floating]], height: int) -> Iterator[Tile]:
    """Yield (number of its first row, its rows, tile): the pool in tiles (height, d), the last filled up with zeros.

    A matrix product may round differently when its shape differs. Tiles start at multiples of the height and are all of
    one shape, so that the cut into shards changes no bit.
    """
    shape = height, shards[0].shape[1]
    tile, start, held = np.empty(shape, np.float32), 0, 0
    for shard in shards:
        at = 0
        while at < len(shard):
            count = min(height - held, len(shard) - at)
            tile[held : held + count] = shard[at : at + count]
            at, held = at + count, held + count
            if held == height:
                yield start, held, tile
                tile, start, held = np.empty(shape, np.float32), start + height, 0
    if held:
        tile[held:] = 0
        yield start, held, tile
