"""The pool by domains: u of them, each row in one, and each domain a distribution U_d over its rows.

U_d weighs the rows of domain d as the pool's base weights do among themselves, evenly where those are 0 all over it. A
mixture is sum_d w_d U_d, and the mean of f by domain, F_d = <U_d, f>, is the slope of its distance along w_d.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials import Rows, gather
from gapsel.potentials.rows import shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BLOCK = 1 << 20
_MOST_GATHERED = 1 << 20
# Rows of so many times the mean weight are heavy, while there are no more than so many of them.
_HEAVY, _MOST_HEAVY = 4.0, 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Domains:
    """The pool's shards, and the domain of each row: ``codes`` (n,) int32 from 0 to u - 1.

    ``counts`` (u,) int64 are the rows of each domain, ``natural`` (u,) its share of the base weights. ``a`` are weights
    of the rows, one number or (n,), of which the sum over a domain is ``totals`` (u,), positive.
    """

    shards: tuple[NDArray[np.floating], ...]
    codes: NDArray[np.int32]
    counts: NDArray[np.int64]
    natural: NDArray[np.float64]
    a: float | NDArray[np.float64]
    totals: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Rows, codes: NDArray[np.int32]) -> Domains:
        """Divide the pool's rows by ``codes`` (n,) int32, of which each from 0 to the largest occurs."""
        counts = np.bincount(codes).astype(np.int64)
        if isinstance(rows.a, float):
            return cls(rows.shards, codes, counts, counts / rows.n, 1.0, counts.astype(np.float64))
        totals = np.bincount(codes, weights=rows.a)
        weightless = totals == 0
        a = np.where(weightless[codes], 1.0, rows.a) if weightless.any() else rows.a
        return cls(rows.shards, codes, counts, totals / totals.sum(), a, np.where(weightless, counts, totals))

    @property
    def u(self) -> int:
        """The number of domains."""
        return len(self.counts)

    @property
    def n(self) -> int:
        """The number of rows."""
        return len(self.codes)

    def counted(self, barred: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """Return how many rows of each domain (u,) there are without those that are barred (n,)."""
        return self.counts if barred is None else np.bincount(self.codes[~barred], minlength=self.u).astype(np.int64)

    def masses(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the row masses (n,) of the mixture w (u,)."""
        r = (w / self.totals)[self.codes]
        r *= self.a
        return r

    def means(self, f: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return F_d (u,), the mean of f (n,) in each domain."""
        sums = np.zeros(self.u)
        for low in range(0, self.n, _BLOCK):
            some = slice(low, low + _BLOCK)
            weighted = f[some].astype(np.float64) * (self.a if isinstance(self.a, float) else self.a[some])
            sums += np.bincount(self.codes[some], weights=weighted, minlength=self.u)
        return np.asarray(sums / self.totals)

    def rows(self, w: NDArray[np.float64]) -> Rows:
        """Return all rows, weighted as the mixture w (u,)."""
        return Rows(self.shards, self.masses(w), 1.0)

    def occurring(self, w: NDArray[np.float64]) -> Rows:
        """Return the rows of the domains in a mixture w (u,), weighted by it; all rows where these are very many."""
        kept = np.flatnonzero((w > 0)[self.codes]) if (w == 0).any() else None
        if kept is None or len(kept) > _MOST_GATHERED:
            return self.rows(w)
        return Rows((gather(self.shards, kept),), self.masses(w)[kept], 1.0)

    def heavy(self, w: NDArray[np.float64]) -> int:
        """Return how many rows, of small domains with large weights w (u,), are too heavy to be left to a sample."""
        each, mean = w / self.counts, 1.0 / float(self.counts[w > 0].sum())
        order = np.argsort(-each, kind="stable")
        count = np.cumsum(self.counts[order])
        return int(max(count[(each[order] > _HEAVY * mean) & (count <= _MOST_HEAVY)], default=0))

    def sample(self, sizes: Sequence[int], rng: np.random.Generator) -> tuple[Rows, ...]:
        """Return random rows of each domain, so many or all that it has, weighted by U_d."""
        return tuple(self._of_one(domain, size, rng) for domain, size in enumerate(sizes))

    def _of_one(self, domain: int, size: int, rng: np.random.Generator) -> Rows:
        own = np.flatnonzero(self.codes == domain)
        if size < len(own):
            own = np.sort(rng.choice(own, size, replace=False))
        return self.part(own)

    def part(self, own: NDArray[np.int64]) -> Rows:
        """Return some rows (s,) of one domain, ascending, weighted by U_d to sum 1."""
        a = 1.0 / len(own) if isinstance(self.a, float) else shares(self.a[own])
        return Rows((gather(self.shards, own),), a, 1.0)
