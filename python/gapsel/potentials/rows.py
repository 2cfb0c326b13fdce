"""Sets of pool rows for the solver: the whole pool, a random sample of it, a weighted shortlist.

Whatever the set, it stands for the whole pool: its base weights a sum to 1, and a row that stands for v rows of the
pool carries v times their weight and v times their capacity.

Where a base says what the model has already, its rows come after the pool's: they have all of the weight and no
capacity, and the pool's rows capacity and no weight. Each side is then sampled by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from gapsel.cost import measure_scale
from gapsel.errors import UsageError
from gapsel.potentials.gathering import gather
from gapsel.records import Box, frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.potentials.caps import Cap
    from gapsel.records import Cost, CostScale, KeptPlan, Target

_Number = TypeVar("_Number", bound=np.floating)
_SCALE_ROWS = 2048


@dataclass(frozen=True, slots=True)
class Rows:
    """Pool rows with their weights.

    ``shards``: arrays (n_s, d), together n rows. ``a``: base weights, one number or (n,), sum 1. ``capacity``: the
    largest share of the selection that a row may be, 1/k for each row of the whole pool; one number or (n,). A row of
    capacity 0 may not be chosen, and is known all the same. ``base``: how many of the rows, the last ones, are those of
    a base. ``price``: what it costs to choose a row, in units of the cost, one number or (n,); it is part of what is
    minimised, and the lowest f + price are chosen. ``caps``: what groups of rows may be of the selection at most.
    ``kept``: the rows' plan at some g and eps: at that eps it is looked at in the place of their vectors.
    """

    shards: tuple[NDArray[np.floating], ...]
    a: float | NDArray[np.float64]
    capacity: float | NDArray[np.float64]
    base: int = 0
    price: float | NDArray[np.floating] = 0.0
    caps: tuple[Cap, ...] = ()
    kept: KeptPlan | None = None

    def __post_init__(self) -> None:
        # The solver reads the same rows many times; a GPU keeps what nobody can change.
        object.__setattr__(self, "shards", tuple(frozen(shard) for shard in self.shards))

    @classmethod
    def whole(cls, shards: Sequence[NDArray[np.floating]], k: int, a: NDArray[np.float64] | None = None) -> Rows:
        """Return all rows of the pool, equally weighted or by a (n,), which is scaled to sum 1."""
        n = sum(len(shard) for shard in shards)
        return cls(tuple(shards), 1.0 / n if a is None else a / a.sum(), 1.0 / k)

    def beside(self, base: Sequence[NDArray[np.floating]], weights: NDArray[np.float64] | None = None) -> Rows:
        """Return these rows as what may be chosen, and all the weight on a base, equally or by weights (rows,)."""
        n, rows = self.n, sum(len(shard) for shard in base)
        w = np.full(rows, 1.0 / rows) if weights is None else weights / weights.sum()
        capacity = np.broadcast_to(np.asarray(self.capacity), (n,))
        return Rows(
            (*self.shards, *base), np.concatenate([np.zeros(n), w]), np.concatenate([capacity, np.zeros(rows)]), rows
        )

    def under(self, caps: Sequence[Cap]) -> Rows:
        """Return the same rows under caps on those that may be chosen."""
        return replace(self, caps=tuple(cap.beside(self.base) if self.base else cap for cap in caps))

    @property
    def n(self) -> int:
        """The number of rows."""
        return sum(len(shard) for shard in self.shards)

    @property
    def pool_rows(self) -> int:
        """The number of rows that may be chosen: the first ones."""
        return self.n - self.base

    @property
    def pool(self) -> Rows:
        """The rows that may be chosen, alone and equally weighted where there is a base."""
        if not self.base:
            return self
        return Rows(self._shards(0, self.pool_rows), 1.0 / self.pool_rows, _of(self.capacity, slice(self.pool_rows)))

    @property
    def present(self) -> Rows:
        """The rows that say what the model has: the base, where there is one."""
        if not self.base:
            return self
        at = self.pool_rows
        return Rows(self._shards(at, self.n), _of(self.a, slice(at, None)), 1.0 / self.k)

    @property
    def carrying(self) -> Rows:
        """The rows that weigh something, where there is a base: few beside a pool."""
        return self.weighing(self.n) if self.base else self

    def weighing(self, most: int) -> Rows:
        """Return the rows that weigh something alone, where these are at most so many; else all."""
        if isinstance(self.a, float) or np.count_nonzero(self.a) > most:
            return self
        picked = np.flatnonzero(self.a)
        return Rows((gather(self.shards, picked),), self.a[picked], 1.0 / self.k)

    @property
    def d(self) -> int:
        """The number of dimensions."""
        return int(self.shards[0].shape[1])

    @property
    def k(self) -> float:
        """How many rows the selection is, where each is as much of it as the mean one of those that may be chosen."""
        if isinstance(self.capacity, float):
            return 1.0 / self.capacity
        return float(np.count_nonzero(self.capacity) / self.capacity.sum())

    def box(self, mass: float, eta: float) -> Box:
        """Return the row rule (1 - mass) a + [0, mass capacity]: the selection has the share ``mass`` of the whole."""
        if mass == 0:
            return Box.fixed(self.a)
        lo = (1.0 - mass) * self.a
        return Box(lo, lo + mass * self.capacity, eta, self.price)

    def priced(self, f: NDArray[np.float32], at: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float32]:
        """Return f + price (s,), by which rows are chosen, of f (s,) of all rows or those ``at`` some places."""
        price = np.asarray(_of(self.price, at), np.float32)
        return f + price if price.any() else f

    def allowing(self, capacity: float | NDArray[np.float64]) -> Rows:
        """Return the same rows with another capacity of those of the pool, one number or (n,)."""
        if self.base:
            of_pool = np.broadcast_to(np.asarray(capacity), (self.pool_rows,))
            capacity = np.concatenate([of_pool, np.zeros(self.base)])
        return replace(self, capacity=capacity)

    @property
    def a_of_pool(self) -> float | NDArray[np.float64]:
        """The weights of the rows that may be chosen: 0 beside a base."""
        return _of(self.a, slice(self.pool_rows))

    def sample(self, count: int, rng: np.random.Generator) -> Rows:
        """Return ``count`` random rows in random order, so that each prefix is a random sample too."""
        picked = rng.choice(self.n, size=count, replace=False)
        order = np.argsort(picked)
        vectors = np.empty((count, self.d), self.shards[0].dtype)
        vectors[order] = gather(self.shards, picked[order])
        a = 1.0 / count if isinstance(self.a, float) else shares(self.a[picked])
        return Rows((vectors,), a, _of(self.capacity, picked) * (self.n / count), price=_of(self.price, picked))

    def part(self, picked: NDArray[np.int64]) -> Rows:
        """Return some rows (s,), random ones of each side in ascending order, standing for the whole.

        Raises UsageError where none of them weighs anything: they would pose another problem.
        """
        if not np.any(_of(self.a, picked)):
            msg = f"none of {len(picked):,} random rows to fit on weighs anything: raise --fit-rows"
            raise UsageError(msg)
        a = 1.0 / len(picked) if isinstance(self.a, float) else shares(self.a[picked])
        of_pool = int(np.searchsorted(picked, self.pool_rows))
        capacity = _of(self.capacity, picked) * (self.pool_rows / of_pool)
        return Rows(
            (gather(self.shards, picked),), a, capacity, len(picked) - of_pool, _of(self.price, picked),
            self._caps(picked),
        )  # fmt: skip

    def prefix(self, count: int) -> Rows:
        """Return the first ``count`` rows of a set that lies in one shard, standing for the whole again."""
        a = 1.0 / count if isinstance(self.a, float) else shares(self.a[:count])
        return Rows(
            (self.shards[0][:count],),
            a,
            _of(self.capacity, slice(count)) * (self.n / count),
            price=_of(self.price, slice(count)),
        )

    def only(self, chosen: NDArray[np.int64], shares: NDArray[np.float64] | None = None) -> Rows:
        """Return the chosen rows (k,) alone, weighted by their shares, which sum to 1, or equally."""
        order = np.argsort(chosen)
        return Rows((gather(self.shards, chosen[order]),), 1.0 / len(chosen) if shares is None else shares[order], 1.0)

    def mixed(self, chosen: NDArray[np.int64], mass: float, shares: NDArray[np.float64] | None = None) -> Rows:
        """Return all rows, weighted (1 - mass) as they were and mass on the chosen (k,), by their shares or evenly."""
        r = np.broadcast_to((1.0 - mass) * np.asarray(self.a), (self.n,)).copy()
        r[chosen] += mass / len(chosen) if shares is None else mass * shares
        return Rows(self.shards, r, self.capacity, self.base, self.price)

    def shortlist(
        self, f: NDArray[np.float32], lowest: int, extra: int, rng: np.random.Generator, *, dense: int | None = None
    ) -> Shortlist:
        """Return the ``lowest`` rows by f (n,) as they are and ``extra`` random rows that stand for the rest.

        With fewer ``dense`` than ``lowest``, half of these are the lowest of all, and half random ones of the others.
        Rows that may not be chosen carry what they carry, whatever their f: they are the last to be kept as they are.
        Of a base, whose f do not matter, there are ``extra`` more.
        """
        f = self.priced(f)[: self.pool_rows]
        if not isinstance(self.capacity, float):
            f = np.where(self.capacity[: len(f)] > 0, f, np.float32(np.inf))
        dense = lowest if dense is None else min(dense, lowest)
        as_they_are = lowest if dense == lowest else dense // 2
        order = np.argpartition(f, [as_they_are - 1, lowest - 1])
        strata = (
            (order[as_they_are:lowest], dense - as_they_are),
            (order[lowest:], extra),
            (np.arange(self.pool_rows, self.n), extra),
        )
        drawn = [rng.choice(rows, size=min(size, len(rows)), replace=False) for rows, size in strata if len(rows)]
        stood = [len(rows) / min(size, len(rows)) for rows, size in strata if len(rows)]
        picked = np.concatenate([order[:as_they_are], *drawn])
        stands_for = np.concatenate([np.ones(as_they_are), *map(np.full, map(len, drawn), stood)])
        ascending = np.argsort(picked)
        picked, stands_for = picked[ascending], stands_for[ascending]
        a = np.asarray(_of(self.a, picked) * stands_for)
        rows = Rows(
            (gather(self.shards, picked),), shares(a), _of(self.capacity, picked) * stands_for,
            int((picked >= self.pool_rows).sum()), _of(self.price, picked), self._caps(picked),
        )  # fmt: skip
        return Shortlist(rows, picked, order[:lowest])

    def _caps(self, picked: NDArray[np.int64]) -> tuple[Cap, ...]:
        return tuple(cap.part(picked) for cap in self.caps)

    def _shards(self, first: int, stop: int) -> tuple[NDArray[np.floating], ...]:
        """Return the vectors of consecutive rows."""
        starts = np.cumsum([0, *map(len, self.shards)])
        parts = [
            shard[max(first - at, 0) : max(stop - at, 0)] for shard, at in zip(self.shards, starts[:-1], strict=True)
        ]
        return tuple(
            shard if len(part) == len(shard) else part
            for shard, part in zip(self.shards, parts, strict=True)
            if len(part)
        )


def scale_of(rows: Rows, target: Target, cost: Cost, seed: int) -> CostScale:
    """Measure the scale of the cost between some random rows and the target."""
    size, rng = min(_SCALE_ROWS, rows.pool_rows), np.random.default_rng(seed)
    return measure_scale(rows.pool.sample(size, rng).shards[0], target, cost)


@dataclass(frozen=True, slots=True)
class Shortlist:
    """A weighted part of the pool, the numbers (s,) of its rows in the pool, and of the lowest that it is made for."""

    rows: Rows
    index: NDArray[np.int64]
    lowest: NDArray[np.int64]


def shares(a: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights (s,) scaled to sum 1; even ones where none of a sample weighs anything, as rare ones may not."""
    total = float(a.sum())
    return a / total if total > 0 else np.full(len(a), 1.0 / len(a))


def _of(weights: float | NDArray[_Number], rows: NDArray[np.int64] | slice) -> float | NDArray[_Number]:
    return weights if isinstance(weights, float) else weights[rows]
