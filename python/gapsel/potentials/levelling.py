"""Weights of several tasks, moved until each closes the same share of what it could close.

log w_t falls by a step times what the share of the task is above their mean, in parts of it. A task's step is halved
where it went too far, and grows where it did not go far enough.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# Shares are level when none is off their mean by more than this part of it, beside what is granted; after so many
# rounds that is given up.
_LEVEL, _ROUNDS = 0.05, 16
_STEP, _LONGEST, _HALVED, _GROWN = 0.5, 1.0, 0.5, 1.5


@dataclass(frozen=True, slots=True)
class Balance:
    """The weights (t,) that were found, sum 1, and the share (t,) of what it could close that each task then closes.

    A share is nan where the pool has nothing for a task, which then keeps its part of equal weights. ``level`` says
    that no share is off their mean by more than 5 % of it and, of a choice of documents, what two of these are worth;
    else these are the levellest of the ``rounds``. ``reads`` are all rows looked at by all columns, in pools; nan where
    that was not counted.
    """

    weights: NDArray[np.float64]
    shares: NDArray[np.float64]
    level: bool
    rounds: int
    reads: float = float("nan")


def levelled(
    shares_at: Callable[[NDArray[np.float64]], NDArray[np.float64]], tasks: int, granted: float = 0.0
) -> Balance:
    """Move the weights of so many tasks until the shares at them are level, or as often as that may take.

    ``granted`` is by how much shares may be off their mean in any case.
    """
    weights = np.full(tasks, 1.0 / tasks)
    step, before, found = np.full(tasks, _STEP), np.zeros(tasks), list[Balance]()
    for rounds in range(1, _ROUNDS + 1):
        shares = shares_at(weights)
        off = _off(shares)
        found.append(Balance(weights, shares, _is_level(shares, granted), rounds))
        if found[-1].level or not off.any():
            break
        step *= np.select([off * before < 0, off * before > 0], [_HALVED, _GROWN], 1.0)
        moved = weights * np.exp(-np.clip(step * off, -_LONGEST, _LONGEST))
        known = np.isfinite(shares)
        weights, before = np.where(known, moved * (weights[known].sum() / moved[known].sum()), weights), off
    best = min(found, key=lambda one: float(np.abs(_off(one.shares)).max()))
    return replace(best, rounds=len(found))


def _is_level(shares: NDArray[np.float64], granted: float) -> bool:
    known = shares[np.isfinite(shares)]
    mean = float(known.mean()) if len(known) else 0.0
    return bool(np.all(np.abs(known - mean) <= _LEVEL * abs(mean) + granted))


def _off(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each share is off their mean, in parts of it; 0 for what has no share."""
    known = np.isfinite(shares)
    mean = float(np.mean(shares[known])) if known.any() else 0.0
    return np.where(known, shares / mean - 1.0, 0.0) if mean > 0 else np.zeros(len(shares))
