"""How f lies on the pool: what scores are measured from, and thresholds for streams with what they will keep.

Of n rows with potentials f, r lie at or below the quantile t. What share p of everything like them does is then known
exactly: r is binomial, and with B(u; a, b) the quantile function of the beta distribution

    B(alpha / 2; r, n - r + 1)  <=  p  <=  B(1 - alpha / 2; r + 1, n - r)            with probability >= 1 - alpha

(Clopper and Pearson, Biometrika 26, 1934). That also holds where t is the r-th lowest f of a continuous distribution,
since p is then distributed as beta(r, n - r + 1) (David and Nagaraja, Order Statistics, 2003, section 2.1), and where
many rows have one f, since r counts all of them.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CONFIDENCE = 0.95
# Every share of three digits has its quantile: 1.00 %, 1.01 %, .. 9.99 %, and so on down by powers of ten.
_LEVELS = np.arange(100, 1000) / 1000
# A share that fewer rows tell of is known to no better than a factor of two.
_FEWEST = 10
_TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Threshold:
    """A score, and what share of everything like the pool lies at or below it: expected, and between two bounds.

    ``rank`` of ``rows`` rows lie there; the bounds hold with the probability ``CONFIDENCE``, for rows that are
    ``fresh`` to the solver. For others they are those of chance alone.
    """

    score: float
    share: float
    low: float
    high: float
    rank: int
    rows: int
    fresh: bool


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """How f lies on ``rows`` rows, which are a pool of ``pool_rows`` or a random part of it.

    ``fresh``: the solver has not seen them. On rows that it has seen, the lowest f are a little too high, since it
    raised them; more of a stream than of them then lies below the threshold of the choice. ``mean`` is that of f under
    the base weights, ``weight`` what one more document of the pool has of these. ``ranks[i]`` of the rows have an f of
    at most ``quantiles[i]``: (q,) int64 and (q,) float32, both ascending, on a logarithmic grid.
    """

    rows: int
    pool_rows: int
    fresh: bool
    mean: float
    weight: float
    ranks: NDArray[np.int64]
    quantiles: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        f: NDArray[np.float32],
        a: float | NDArray[np.float64],
        pool_rows: int = 0,
        *,
        fresh: bool = False,
        base: int = 0,
    ) -> Calibration:
        """Measure f (n,) under the base weights, of all rows of a pool or of a random part of ``pool_rows``.

        The last ``base`` rows are those of a base, which has all the weight: the pool's rows then have none.
        """
        values = np.sort(f[: len(f) - base])
        quantiles = np.unique(values[_ranks(len(values)) - 1])
        ranks = np.searchsorted(values, quantiles, side="right")
        of = pool_rows or len(values)
        weight = 0.0 if base else 1.0 / of
        return cls(len(values), of, fresh, mean_of(f, a), weight, ranks.astype(np.int64), quantiles)

    def score(self, f: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the scores (n,) of documents with potentials f (n,), each as one of the pool with an equal weight."""
        return scores(f, self.weight, self.mean)

    def keep(self, share: str) -> Threshold:
        """Return the threshold that keeps a share, like "1%", of what is like the pool; known to three digits.

        Raises UsageError for what is no share, and for one that too few rows tell of.
        """
        wanted = parse_share(share)
        if wanted * (self.rows + 1) < _FEWEST:
            finest = 100.0 * _FEWEST / (self.rows + 1)
            msg = (
                f"keep is {share}, and the model is calibrated on {self.rows:,} rows, of which fewer than {_FEWEST} "
                f"would tell where that is: keep {finest:.2g}% or more, fit on more rows (--fit-rows), or name a score "
                "(--threshold)"
            )
            raise UsageError(msg)
        at = int(np.argmin(np.abs(self.ranks - wanted * (self.rows + 1))))
        score = float(self.score(self.quantiles[at : at + 1])[0])
        return Threshold(score, *self._interval(int(self.ranks[at])), int(self.ranks[at]), self.rows, self.fresh)

    def _interval(self, rank: int) -> tuple[float, float, float]:
        return rank / (self.rows + 1), *binomial_interval(rank, self.rows)


def mean_of(f: NDArray[np.float32], a: float | NDArray[np.float64]) -> float:
    """Return the mean of f (n,) under the base weights."""
    return float(np.average(f.astype(np.float64), weights=None if isinstance(a, float) else a))


def scores(f: NDArray[np.float32], a: float | NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Return the calibrated gradients (n,) of f (n,), given its mean; 0 for a row that is all the mass.

        score_i = f_i - sum_{l != i} a_l f_l / (1 - a_i) = (f_i - mean) / (1 - a_i)                     (GOT-D, eq. 6)

    Where all a_i are equal, scores have the order of f.
    """
    centred = f.astype(np.float64) - mean
    rest = 1.0 - np.asarray(a)
    return np.asarray(np.divide(centred, rest, out=np.zeros_like(centred), where=rest > 0))


def parse_share(share: str) -> float:
    """Return a share between 0 and 1 of a "1%". Raises UsageError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)%", share.strip())
    value = float(match[1]) / 100 if match else 0.0
    if not 0 < value < 1:
        msg = f"keep is {share!r}: give per cent between 0 and 100, like 1%"
        raise UsageError(msg)
    return value


@functools.cache
def binomial_interval(rank: int, rows: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return Clopper and Pearson's bounds on a probability, where ``rank`` of ``rows`` trials succeeded."""
    tail = (1.0 - confidence) / 2
    low = 0.0 if rank == 0 else _solved(lambda p: incomplete_beta(rank, rows - rank + 1, p), tail)
    high = 1.0 if rank == rows else _solved(lambda p: incomplete_beta(rank + 1, rows - rank, p), 1.0 - tail)
    return low, high


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Return I_x(a, b), the regularised incomplete beta function, for a, b > 0 and x from 0 to 1.

    By its continued fraction (DLMF 8.17.22), which converges fast below the mean, and I_x(a, b) = 1 - I_{1-x}(b, a)
    above it.
    """
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(scale) / (a * _fraction(a, b, x))


def _fraction(a: float, b: float, x: float) -> float:
    """Return 1 + d_1 / (1 + d_2 / (1 + ...)) of DLMF 8.17.22, by Lentz's method as Thompson and Barnett have it."""
    value = numerator = 1.0
    denominator = 0.0
    # Some sqrt(max(a, b)) terms are needed; the bound only ends what would never end.
    for term in range(1, 10_000_000):
        m = term // 2
        if term % 2:
            d = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            d = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        denominator = 1.0 / (1.0 + d * denominator or _TINY)
        numerator = 1.0 + d / numerator or _TINY
        value *= numerator * denominator
        if abs(numerator * denominator - 1.0) < 1e-14:  # noqa: PLR2004 - rounding
            break
    return value


def _solved(rising: Callable[[float], float], level: float) -> float:
    """Return where a function that rises on [0, 1] takes the level, by bisection."""
    low, high = 0.0, 1.0
    while high - low > 1e-9 * high + _TINY:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if rising(middle) < level else (low, middle)
    return 0.5 * (low + high)


def _ranks(rows: int) -> NDArray[np.int64]:
    """Return the ranks, from 1 to ``rows``, of all shares of three digits that so many rows tell of."""
    decades = 10.0 ** -np.arange(math.ceil(math.log10(rows + 1)) + 1)
    ranks = np.rint(np.outer(decades, _LEVELS) * (rows + 1)).astype(np.int64)
    return np.unique([*np.clip(ranks.ravel(), 1, rows), rows])
