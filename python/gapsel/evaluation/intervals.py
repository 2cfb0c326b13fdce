"""What a few seeds say: a mean with its confidence interval, and whether a paired difference can be told from none.

Student's t with nu degrees of freedom and theta = arctan(t / sqrt(nu)) lies within -t .. t with probability

    nu even   sin(theta) (1 + 1/2 cos^2 + 1 3/(2 4) cos^4 + ... + [1 3 .. (nu-3)] / [2 4 .. (nu-2)] cos^(nu-2))
    nu odd    2/pi (theta + sin(theta) (cos + 2/3 cos^3 + ... + [2 4 .. (nu-3)] / [3 5 .. (nu-2)] cos^(nu-2)))

(Abramowitz and Stegun, 26.7.3 and 26.7.4). That is exact, and spares a library for one function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL = 0.95
Verdict = Literal["better", "worse", "not told apart"]
_TOO_LARGE = 1e9


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over seeds, and the two ends of its confidence interval; they are nan where there is one seed alone."""

    mean: float
    lower: float
    upper: float


def mean_of(values: Sequence[float], level: float = LEVEL) -> Mean:
    """Return the mean of independent values with its confidence interval by Student's t."""
    mean = fmean(values)
    if len(values) == 1:
        return Mean(mean, math.nan, math.nan)
    half = quantile(level, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Mean(mean, mean - half, mean + half)


def verdict_of(difference: Mean) -> Verdict:
    """Say what an interval of differences of losses shows: below 0 is better."""
    if difference.upper < 0:
        return "better"
    return "worse" if difference.lower > 0 else "not told apart"


def quantile(level: float, freedom: int) -> float:
    """Return the t within whose bounds -t .. t Student's t lies with probability ``level``, by halving."""
    low, high = 0.0, 1.0
    while _within(high, freedom) < level and high < _TOO_LARGE:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in {low, high}:
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """Return the probability of -t .. t."""
    theta = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(theta) if odd else 1.0
    total = 0.0 if freedom == 1 else term
    for power in range(2 + odd, freedom - 1, 2):
        term *= math.cos(theta) ** 2 * (power - 1) / power
        total += term
    total *= math.sin(theta)
    return 2 / math.pi * (theta + total) if odd else total
