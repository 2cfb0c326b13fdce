"""Caps on groups of rows, and the prices at which they are kept.

A cap C_c on what each group c takes of the selection's mass has a price p_c >= 0 in the dual, which is added to f in
the row rule. At given potentials the best prices are known,

    p_c = max(0, -tau_c)       tau_c: the threshold at which group c alone would hold just its cap

and if the constant of g may move with them, max(0, tau - tau_c), tau being the threshold at which all groups, none
above its cap, make up the selection. Of caps on several fields, each has the prices that are best at those of the
others, in turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.records import Box

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

# Rounds of prices where there are several fields, and halvings of the range in which a threshold is looked for.
_ROUNDS, _HALVINGS = 8, 48
# In units of eta: how far beyond the range of f prices are looked for, and above the threshold rows take part.
_BEYOND, _FAR = 100.0, 40.0


@dataclass(frozen=True, slots=True, eq=False)
class Cap:
    """No group may be more than ``share`` of the selection; ``codes`` (n,) int32, from 0, has the group of each row.

    ``groups`` is how many there are; left out, as many as the codes say.
    """

    share: float
    codes: NDArray[np.int32]
    groups: int = 0

    def __post_init__(self) -> None:
        if not self.groups:
            object.__setattr__(self, "groups", int(self.codes.max()) + 1)

    def part(self, rows: NDArray[np.int64]) -> Cap:
        """Return the same cap for some rows (r,) alone."""
        return Cap(self.share, self.codes[rows], self.groups)

    def beside(self, base: int) -> Cap:
        """Return the same cap for rows with so many of a base after them, of which nothing is chosen."""
        return Cap(self.share, np.concatenate([self.codes, np.zeros(base, np.int32)]), self.groups)

    def taken(self, f: NDArray[np.floating], box: Box, tau: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what each group takes of the selection's mass (c,) at its threshold (c,)."""
        taken = _room(box) * np.exp(-np.logaddexp(0.0, (f - tau[self.codes]) / box.eta))
        return np.asarray(np.bincount(self.codes, weights=taken, minlength=len(tau)), np.float64)

    def fills(self, f: NDArray[np.floating], box: Box, mass: float) -> NDArray[np.float64]:
        """Return the threshold (c,) at which each group holds its cap, by what each row (n,) costs in all."""
        low, high = _range(f, box)
        ends = np.full(self.groups, low), np.full(self.groups, high)
        return _begins(*ends, lambda tau: self.taken(f, box, tau) >= self.share * mass)

    def selects(self, f: NDArray[np.floating], box: Box, mass: float, full: NDArray[np.float64]) -> float:
        """Return the threshold at which all groups, none above its own (c,), make up the selection."""
        low, high = _range(f, box)
        ends = np.array([low]), np.array([high])
        return float(_begins(*ends, lambda tau: self.taken(f, box, np.minimum(tau, full)).sum() >= mass)[0])


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """What the caps cost: ``of`` (caps, each (c,)) the price of each group, ``rows`` (n,) of each row."""

    of: tuple[NDArray[np.float64], ...]
    rows: NDArray[np.float64]

    def toll(self, caps: Sequence[Cap], mass: float) -> float:
        """Return what is paid where all priced groups are at their caps: what the dual has less by the prices."""
        return mass * sum(cap.share * float(own.sum()) for cap, own in zip(caps, self.of, strict=True))


def best_prices(caps: Sequence[Cap], f: NDArray[np.floating], box: Box, mass: float, *, moves: bool) -> Prices:
    """Return the best prices at what rows cost without them (n,), for a row rule without a price of its own.

    With ``moves`` they are best together with a constant that is taken off all f.
    """
    if moves:
        found = _best(caps, f, box, mass, moves=True)
    else:
        # What lies far above the threshold takes nothing, whatever its price is: of a pool that is nearly all.
        near = np.flatnonzero(f < _FAR * box.eta)
        room = np.asarray(box.hi) - box.lo
        some = Box(0.0, room[near] if room.ndim else float(room), box.eta)
        found = _best([cap.part(near) for cap in caps], f[near], some, mass, moves=False)
    rows = np.zeros(len(f))
    for cap, own in zip(caps, found, strict=True):
        rows += own[cap.codes]
    return Prices(tuple(found), rows)


def _best(
    caps: Sequence[Cap], f: NDArray[np.floating], box: Box, mass: float, *, moves: bool
) -> list[NDArray[np.float64]]:
    found = [np.zeros(cap.groups) for cap in caps]
    dear = f.astype(np.float64)
    for _ in range((_ROUNDS if len(caps) > 1 else 1) if len(f) else 0):
        for at, cap in enumerate(caps):
            others = dear - found[at][cap.codes]
            full = cap.fills(others, box, mass)
            tau = cap.selects(others, box, mass, full) if moves else 0.0
            found[at] = np.maximum(0.0, tau - full)
            dear = others + found[at][cap.codes]
    return found


def _room(box: Box) -> NDArray[np.float64]:
    return np.asarray(np.asarray(box.hi) - box.lo, np.float64)


def _range(f: NDArray[np.floating], box: Box) -> tuple[float, float]:
    # With 0 in it: a group that never reaches its cap has no price.
    return min(0.0, float(f.min()) - _BEYOND * box.eta), max(0.0, float(f.max()) + _BEYOND * box.eta)


def _begins(
    low: NDArray[np.float64], high: NDArray[np.float64], enough: Callable[[NDArray[np.float64]], NDArray[np.bool_]]
) -> NDArray[np.float64]:
    """Return where conditions that hold from some point on begin to, by halving the ranges."""
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        held = enough(middle)
        low, high = np.where(held, low, middle), np.where(held, middle, high)
    return high
