"""The least mean of f that any choice can have: a fractional knapsack, and one with a cap on each group of rows.

    minimise sum_i w_i f_i   over  0 <= w_i <= u_i,  sum w = U,  and with a quota  sum of w over each group <= C

Filling up in order of f, each group to its cap, is exact (a greedy on a polymatroid; Edmonds 1970). Of several quotas
each is looked at alone: to leave the others out makes the least mean smaller, so that the largest of these is still a
bound for choices that keep to all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.rules.budget import Budget
    from gapsel.rules.quotas import Quota


def least_mean(f: NDArray[np.float32], budget: Budget, quotas: Sequence[Quota], units: int) -> float:
    """Return a bound from below on the mean of f (n,) of any choice of so many units of the budget.

    Units are documents or tokens; a choice may take a part of a row here. Quotas are shares of the whole budget.
    """
    order = np.argsort(f, kind="stable")
    room = budget.allowed()[order].astype(np.float64)
    kept = [_capped(room, quota.codes[order], quota.most(budget.amount)) for quota in quotas]
    return max(_mean_of_first(f[order], one, units) for one in (kept or [room]))


def _capped(room: NDArray[np.float64], codes: NDArray[np.int32], most: int) -> NDArray[np.float64]:
    """Return what each row (n,), in order, may take until its group has reached the cap."""
    by_group = np.argsort(codes, kind="stable")
    sums = np.cumsum(room[by_group])
    first = np.flatnonzero(np.diff(codes[by_group], prepend=-1))
    lengths = np.diff(first, append=len(codes))
    before = np.repeat(sums[first] - room[by_group[first]], lengths)
    out = np.empty_like(room)
    out[by_group] = np.clip(most - (sums - before - room[by_group]), 0.0, room[by_group])
    return out


def _mean_of_first(f: NDArray[np.float32], room: NDArray[np.float64], units: float) -> float:
    """Return the mean of f over the first ``units`` of the rows' room, or over all of it where there is less."""
    sums = np.cumsum(room)
    taken = np.clip(units - (sums - room), 0.0, room)
    return float(taken @ f.astype(np.float64) / taken.sum())
