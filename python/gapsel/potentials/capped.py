"""The dual under caps on groups of rows: their prices give way at every look.

    D(g) = max over p >= 0 of  <b, g> + sum_i phi_i(f_i(g) + p_c(i)) - mass sum_c p_c C_c
    dD/dg = b - q at the best prices           -D'' = -D''_p - sum over groups with p_c > 0 of u_c u_c' / S_c
    u_c = sum_{i in c} s_i p_i,  S_c = sum_{i in c} s_i,  s_i = -dr_i/df_i           -D''_p: at fixed prices

D is concave: a maximum over p of what is concave in g and p together. So the loop that the solver has raises it, and
what it accepts is never below what was there. A look takes two reads, one for f, by which the best prices are known,
and one at these. (Where groups are of several fields, the columns of u are those of all priced groups, and S is a
matrix.)

Tried, and thrown away: to solve for g and for the prices in turn, with the prices extrapolated from round to round.
That is not monotone, and took two to seven times the reads for wider gaps (docs/method.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials.caps import best_prices
from gapsel.potentials.dual import Dual
from gapsel.potentials.gathering import gather
from gapsel.potentials.sizes import threshold
from gapsel.records import Box, Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.potentials.caps import Cap, Prices
    from gapsel.potentials.dual import Point
    from gapsel.potentials.task import Task

# Of the rows, those whose masses answer to f by more than this part of the sharpest; of the groups, those that answer
# most.
_ANSWERS, _MOST_GROUPS = 1e-4, 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CappedDual(Dual):
    """The dual of rows with caps at a ``mass`` above 0; values and bounds are less the prices of full groups."""

    mass: float

    @property
    def reads(self) -> int:
        """How often a look reads the rows."""
        return 2

    def at(self, g: NDArray[np.float64], *, gram: bool = False, want_f: bool = False, rough: bool = False) -> Point:
        """Read the rows at g (m,) for f, and once more at the prices that are best there."""
        f = Dual.at(self, g, want_f=True, rough=rough).f
        prices = self._prices(f, moves=False)
        box = replace(self.box, price=self.box.price + prices.rows)
        query = Query(self.target, g, box, self.eps, self.cost, gram=gram, rough=rough)
        sweep = self.swept(query)
        toll = prices.toll(self.rows.caps, self.mass)
        bent = None if sweep.gram is None else sweep.gram + self._bend(g, f, prices, box)
        sweep = replace(sweep, value=sweep.value - toll, hard=sweep.hard - toll, gram=bent)
        return self.point(g, sweep, f if want_f else f[:0], rough=rough)

    def threshold(self, f: NDArray[np.float32]) -> float:
        """Return the constant that is to be taken off f (n,) for the selection to have its mass, within the caps."""
        return threshold(f, replace(self.box, price=self.box.price + self._prices(f, moves=True).rows))

    def taken(self, f: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what rows carry above lo (n,) at f (n,) and the best prices there."""
        return replace(self.box, price=self.box.price + self._prices(f, moves=False).rows).taken(f)

    def _prices(self, f: NDArray[np.float32], *, moves: bool) -> Prices:
        return best_prices(self.rows.caps, f + self.box.price, self.box, self.mass, moves=moves)

    def _bend(self, g: NDArray[np.float64], f: NDArray[np.float32], prices: Prices, box: Box) -> NDArray[np.float64]:
        """Return eps times what prices that give way take from the curvature at fixed ones (m, m)."""
        kept = -(f.astype(np.float64) + box.price) / box.eta
        room = np.asarray(box.hi) - box.lo
        slope = room / box.eta * np.exp(-np.logaddexp(0.0, kept) - np.logaddexp(0.0, -kept))
        near = np.flatnonzero(slope > _ANSWERS * slope.max())
        groups = _priced_groups(self.rows.caps, prices, near, slope[near])
        if not len(groups):
            return np.zeros((len(g), len(g)))
        u = np.stack([self._answer(near[own], slope[near[own]], g) for own in groups])
        weighed = groups * slope[near]
        return np.asarray(self.eps * u.T @ np.linalg.pinv(weighed @ groups.T.astype(np.float64), hermitian=True) @ u)

    def _answer(
        self, rows: NDArray[np.int64], slope: NDArray[np.float64], g: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return sum_i s_i p_i (m,) over some rows (r,)."""
        part = (gather(self.rows.shards, rows),)
        return self.backend.sweep(part, Query(self.target, g, Box.fixed(slope), self.eps, self.cost)).q


def _priced_groups(
    caps: Sequence[Cap], prices: Prices, near: NDArray[np.int64], slope: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return which of some rows (r,) are of which priced group (c, r), the groups that answer most."""
    found = []
    for cap, own in zip(caps, prices.of, strict=True):
        codes = cap.codes[near]
        answers = np.bincount(codes, weights=slope, minlength=len(own)) * (own > 0)
        order = np.argsort(-answers, kind="stable")[:_MOST_GROUPS]
        found += [codes == code for code in order[answers[order] > 0].tolist()]
    return np.array(found, np.bool_).reshape(-1, len(near))


def priced(task: Task, caps: Sequence[Cap], f: NDArray[np.float32]) -> Task:
    """Return a task with the prices that are best: where it was solved for, nearly those it was solved at.

    f (n,) are the potentials with what rows cost by themselves.
    """
    if not caps or task.mass == 0:
        return task
    rows = task.rows.under(caps)
    found = best_prices(rows.caps, f, task.box(), task.mass, moves=True)
    return replace(task, rows=replace(task.rows, price=task.rows.price + found.rows))
