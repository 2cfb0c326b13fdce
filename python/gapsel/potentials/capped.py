"""The problem with caps on groups of rows: solved for g and for the groups' prices in turn.

With a cap C_c on the mass of each group c, the dual has a price p_c >= 0 for each, which is added to f in the row rule:

    D(g, p) = <b, g> + sum_i phi_i(f_i(g) + p_c(i)) - sum_c p_c C_c

It is concave in both together. At a given f the best prices are known: with tau_c the threshold at which group c would
hold just its cap, and tau the one at which all groups, none above its cap, make up the selection, p_c is
max(0, tau - tau_c). At given prices g is solved for as without them, from where it was. Anderson's extrapolation of the
prices (Walker and Ni 2011) makes a few rounds of it enough.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials.recipe import solve
from gapsel.potentials.task import Solution, Start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials.rows import Rows
    from gapsel.potentials.task import Task
    from gapsel.records import Box, Stage

# Rounds of prices; they end when no group takes more than this times its cap, at eta's temperature.
_ROUNDS, _NEAR = 8, 1.03
# Steps that an extrapolation looks back on, and halvings of the range in which a threshold is looked for.
_DEPTH, _HALVINGS = 3, 48


@dataclass(frozen=True, slots=True, eq=False)
class Cap:
    """No group may be more than ``share`` of the selection; ``codes`` (n,) int32, from 0, has the group of each row."""

    share: float
    codes: NDArray[np.int32]

    def part(self, rows: NDArray[np.int64]) -> Cap:
        """Return the same cap for some rows (r,) alone."""
        return Cap(self.share, self.codes[rows])

    def prices(self, f: NDArray[np.floating], box: Box, mass: float) -> NDArray[np.float64]:
        """Return the best price of each group (c,) at f (n,), for a row rule without prices and a mass in all."""
        groups = int(self.codes.max()) + 1
        low = np.full(groups, float(f.min()) - 100.0 * box.eta)
        high = np.full(groups, float(f.max()) + 100.0 * box.eta)
        full = _begins(low, high, lambda tau: self.taken(f, box, tau) >= self.share * mass)
        whole = _begins(low[:1], high[:1], lambda tau: self.taken(f, box, np.minimum(tau, full)).sum() >= mass)
        return np.maximum(0.0, whole - full)

    def taken(self, f: NDArray[np.floating], box: Box, tau: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what each group takes of the selection's mass (c,) at its threshold (c,)."""
        room = np.asarray(box.hi) - box.lo
        taken = room * np.exp(-np.logaddexp(0.0, (f - tau[self.codes]) / box.eta))
        return np.asarray(np.bincount(self.codes, weights=taken, minlength=len(tau)), np.float64)


def solve_capped(
    task: Task,
    backend: Backend,
    caps: Sequence[Cap],
    *,
    start: Start | None = None,
    watch: Callable[[Stage], None] | None = None,
) -> Solution:
    """Solve as `solve` does; at a mass above 0 under caps, whose tolls are taken off the values in the evidence."""
    if not caps or task.mass == 0:
        return solve(task, backend, start=start, watch=watch)
    # The start was solved for at other prices.
    first = found = solve(task, backend, watch=watch)
    box, paths = task.box(), [_Path(np.zeros(int(cap.codes.max()) + 1)) for cap in caps]
    sweeps, trace = found.potentials.evidence.full_sweeps, found.potentials.evidence.trace
    for _ in range(_ROUNDS):
        f = task.rows.priced(found.f)
        if _kept(caps, paths, f, box, task.mass):
            break
        for at, cap in enumerate(caps):
            others = _price(caps, paths, without=at)
            paths[at].go(cap.prices(f + others, box, task.mass))
        priced = replace(task, rows=_with(task.rows, _price(caps, paths)))
        known = Start(task.k, found.potentials.g, found.f, first.potentials.evidence.plain_value)
        found = solve(priced, backend, start=known, watch=watch)
        sweeps += found.potentials.evidence.full_sweeps
        trace += found.potentials.evidence.trace
    toll = task.mass * sum(cap.share * path.prices.sum() for cap, path in zip(caps, paths, strict=True))
    said = found.potentials.evidence
    said = replace(
        said, full_sweeps=sweeps, trace=trace, dual_value=said.dual_value - toll, hard_bound=said.hard_bound - toll
    )
    return replace(found, potentials=replace(found.potentials, evidence=said))


def priced(task: Task, caps: Sequence[Cap], f: NDArray[np.float32]) -> Task:
    """Return a task with the prices that are best: where it was solved for, nearly those it was solved at.

    f (n,) are the potentials with what rows cost by themselves.
    """
    if not caps or task.mass == 0:
        return task
    box, paths = task.box(), [_Path(np.zeros(int(cap.codes.max()) + 1)) for cap in caps]
    for _ in range(_ROUNDS if len(caps) > 1 else 1):
        for at, cap in enumerate(caps):
            paths[at].prices = cap.prices(f + _price(caps, paths, without=at), box, task.mass)
    return replace(task, rows=_with(task.rows, _price(caps, paths)))


class _Path:
    """The prices of one cap, and the steps they took."""

    def __init__(self, prices: NDArray[np.float64]) -> None:
        self.prices = prices
        self._seen: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []

    def go(self, best: NDArray[np.float64]) -> None:
        """Go on from the prices that are best at the f just seen: to where the last steps point."""
        self._seen = [*self._seen[-_DEPTH:], (self.prices, best - self.prices)]
        now, step = self._seen[-1]
        moved = np.array([now - one for one, _ in self._seen[:-1]]).reshape(-1, len(now)).T
        turned = np.array([step - one for _, one in self._seen[:-1]]).reshape(-1, len(now)).T
        back = np.linalg.lstsq(turned, step, rcond=1e-6)[0]
        self.prices = np.maximum(0.0, now + step - (moved + turned) @ back)


def _kept(caps: Sequence[Cap], paths: Sequence[_Path], f: NDArray[np.float32], box: Box, mass: float) -> bool:
    """Whether the caps are kept at f (n,) and these prices, nearly."""
    dear = f + _price(caps, paths)
    taken = (cap.taken(dear, box, np.zeros(len(path.prices))) for cap, path in zip(caps, paths, strict=True))
    return all(one.max() <= _NEAR * cap.share * mass for one, cap in zip(taken, caps, strict=True))


def _price(caps: Sequence[Cap], paths: Sequence[_Path], without: int = -1) -> NDArray[np.float64]:
    """Return what each row (n,) costs by all caps, or all but one."""
    price = np.zeros(len(caps[0].codes))
    for at, (cap, path) in enumerate(zip(caps, paths, strict=True)):
        if at != without:
            price += path.prices[cap.codes]
    return price


def _with(rows: Rows, price: NDArray[np.float64]) -> Rows:
    """Return rows that cost so much (n,) more."""
    return replace(rows, price=rows.price + price)


def _begins(
    low: NDArray[np.float64], high: NDArray[np.float64], enough: Callable[[NDArray[np.float64]], NDArray[np.bool_]]
) -> NDArray[np.float64]:
    """Return where conditions that hold from some point on begin to, by halving the ranges."""
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        held = enough(middle)
        low, high = np.where(held, low, middle), np.where(held, middle, high)
    return high
