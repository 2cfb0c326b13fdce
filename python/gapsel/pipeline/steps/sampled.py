"""A fit on a random part of a large pool, and what that costs, read off rows that the solver has not seen.

g is m numbers, and a few million rows tell as much about them as the whole pool does. The solver is given ``most`` rows
at most, and never more than four fifths of a pool that has more, since as many others are swept once, with its g:

    f on them      calibrates scores and thresholds, with none of the solver's own luck in it
    q on them      misses b by the chance of the s rows of the fit and of these t, so that the whole pool of n would
                   miss it by about  |q - b| sqrt((1/s - 1/n) / (1/s + 1/t))

A base is a side of its own: the smaller of the two is taken whole, where it is less than half of ``most``. At mass 0
g follows from the base alone, and the pool is only looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.calibration import Calibration
from gapsel.errors import UsageError
from gapsel.model import potential
from gapsel.potentials import Solution, look, solve, solve_plain, weigh

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials import Aversion, Cap, Rows, Start, Task, Weighed, Weighing
    from gapsel.records import Avoided, Potentials, Stage

_LARGEST_PART = 0.8
# A sample in which fewer rows would be chosen does not tell where the choice ends.
_FEWEST_CHOSEN = 10


@dataclass(frozen=True, slots=True)
class Fitted:
    """Potentials, how f lies on the pool, and f (n,) of all of its rows where the solver has read them all.

    ``f`` has in it what the rows cost where something is to be ``avoided``; ``price`` is that alone. ``weighed`` says
    how the potentials' target got its weights, where they were to be found.
    """

    potentials: Potentials
    calibration: Calibration
    f: NDArray[np.float32] | None
    price: float | NDArray[np.floating] = 0.0
    avoided: Avoided | None = None
    weighed: Weighed | None = None


def fit(
    task: Task,
    most: int,
    backend: Backend,
    *,
    aversion: Aversion | None = None,
    weighing: Weighing | None = None,
    caps: Sequence[Cap] = (),
    start: Start | None = None,
    watch: Callable[[Stage], None] | None = None,
) -> Fitted:
    """Solve on all rows of the task, or on ``most`` random ones of more; from the fit for another k, if there is one.

    What is to be avoided is solved for at first, on the same rows, which then have its prices. Where the target is to
    be weighed that is done before, on the same rows without prices, with which a task could close more of its gap by
    being chosen for beside others than alone; another k then has other weights, so that there is no ``start``.

    ``caps`` are on groups of the pool's rows, the same share of the selection in a part of them as in all.

    Raises UsageError where the mass is above 0 and too few rows of such a sample would be chosen.
    """
    rows = task.rows
    if rows.n <= most:
        task, avoided = _priced(task, aversion, backend, watch)
        task, weighed = _weighed(task, weighing, backend, watch)
        solution = _solved(replace(task, rows=task.rows.under(caps)), backend, start, watch)
        f = task.rows.priced(solution.f)
        potentials = _as_sure(solution.potentials, avoided)
        return Fitted(potentials, _calibration(f, task), f, task.rows.price, avoided, weighed)
    (pool, base), seen, fresh = _parted(task, most)
    known = start and replace(start, k=max(1, round(start.k * pool.seen / pool.n)), f=start.f[seen])
    part, avoided = _priced(replace(task, rows=rows.part(seen)), aversion, backend, watch)
    part, weighed = _weighed(part, weighing, backend, watch)
    found = _solved(replace(part, rows=_capped(part.rows, caps, seen)), backend, known, watch).potentials
    share = max(base.share_unseen, pool.share_unseen if task.mass > 0 or not base.n else 0.0)
    others = _capped(rows.part(fresh), caps, fresh)
    if avoided is not None:
        others = replace(others, price=avoided.price(potential(avoided.potentials, others.shards, backend)))
    fitted = _calibrated(_as_sure(found, avoided), replace(part, rows=others), pool, share, backend)
    return replace(fitted, avoided=avoided, weighed=weighed)


def _capped(part: Rows, caps: Sequence[Cap], picked: NDArray[np.int64]) -> Rows:
    """Return a part of the rows, (s,) ascending, under the caps of all."""
    return part.under([cap.part(picked[: part.pool_rows]) for cap in caps])


def _priced(
    task: Task, aversion: Aversion | None, backend: Backend, watch: Callable[[Stage], None] | None
) -> tuple[Task, Avoided | None]:
    """Return the problem with the prices that its rows have by what is to be avoided, and what prices any others."""
    if aversion is None:
        return task, None
    rows, avoided = aversion.priced(task.rows, backend, watch)
    return replace(task, rows=rows), avoided


def _as_sure(found: Potentials, avoided: Avoided | None) -> Potentials:
    """Return potentials that are as converged as those of what is avoided are."""
    if avoided is None:
        return found
    own, other = found.evidence, avoided.potentials.evidence
    worse = max(own.marginal_error, other.marginal_error)
    both = own.converged and other.converged
    return replace(found, evidence=replace(own, converged=both, marginal_error=worse))


def _weighed(
    task: Task, weighing: Weighing | None, backend: Backend, watch: Callable[[Stage], None] | None
) -> tuple[Task, Weighed | None]:
    """Return the problem with the weights that its target is to have, and how they were found."""
    if weighing is None or not weighing.asks:
        return task, None
    found = weigh(replace(task, rows=replace(task.rows, price=0.0)), weighing, backend, watch)
    return replace(found.task, rows=task.rows), found


def part_sizes(n: int, most: int) -> tuple[int, int]:
    """Return of how many of n rows a fit on ``most`` is made, and how many others it then looks at."""
    size = n if n <= most else min(most, int(_LARGEST_PART * n))
    return size, min(size, n - size)


@dataclass(frozen=True, slots=True)
class _Side:
    """Of ``n`` rows some are solved on and some looked at afterwards; all are both where they are few."""

    n: int
    seen: int
    fresh: int

    @classmethod
    def of(cls, n: int, most: int) -> _Side:
        seen, fresh = part_sizes(n, most)
        return cls(n, seen, fresh or n)

    @property
    def share_unseen(self) -> float:
        """What the whole misses, in units of what seen and fresh rows differ by."""
        if self.seen == self.n:
            return 0.0
        return float(np.sqrt((1 / self.seen - 1 / self.n) / (1 / self.seen + 1 / self.fresh)))

    def drawn(self, first: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows to solve on and those to look at, random and ascending, numbered from ``first``."""
        if self.seen == self.n:
            every = np.arange(first, first + self.n)
            return every, every
        drawn = first + rng.choice(self.n, self.seen + self.fresh, replace=False)
        return np.sort(drawn[: self.seen]), np.sort(drawn[self.seen :])


def _parted(task: Task, most: int) -> tuple[tuple[_Side, _Side], NDArray[np.int64], NDArray[np.int64]]:
    """Return the two sides, the rows to solve on and those to look at afterwards, random and ascending."""
    n, base = task.rows.pool_rows, task.rows.base
    of_base = min(base, max(most // 2, most - n))
    pool, beside = _Side.of(n, most - of_base), _Side.of(base, of_base)
    size = pool.seen
    chosen = task.k * size / n
    if task.mass > 0 and chosen < _FEWEST_CHOSEN:
        msg = (
            f"k is {task.k:,} of {n:,} documents, of which {size:,} random ones would be fitted on: that is "
            f"{chosen:.2g} chosen documents, too few to tell where the choice ends; raise --fit-rows to "
            f"{-(-_FEWEST_CHOSEN * n // task.k):,} or more, choose more documents, or take mass 0"
        )
        raise UsageError(msg)
    # A stream of its own, so that the solver's samples are not those that the seed gives here.
    rng = np.random.default_rng([task.seed, n])
    drawn = [side.drawn(first, rng) for side, first in ((pool, 0), (beside, n))]
    seen, fresh = (np.concatenate(of_sides) for of_sides in zip(*drawn, strict=True))
    return (pool, beside), seen, fresh


def _solved(task: Task, backend: Backend, start: Start | None, watch: Callable[[Stage], None] | None) -> Solution:
    """Solve, and return f of all rows."""
    if task.mass > 0 or not task.rows.base:
        return solve(task, backend, start=start, watch=watch)
    return solve_plain(task, backend, watch)


def _calibrated(found: Potentials, fresh: Task, pool: _Side, share: float, backend: Backend) -> Fitted:
    """Sweep the rows that the solver has not seen, at its g; of what they miss, the whole misses a share."""
    seen = look(fresh, found.g, backend)
    evidence = replace(found.evidence, sampling_error=seen.error * share)
    calibration = _calibration(fresh.rows.priced(seen.f), fresh, pool.n, fresh=pool.seen < pool.n)
    return Fitted(replace(found, evidence=evidence), calibration, None)


def _calibration(f: NDArray[np.float32], task: Task, n: int = 0, *, fresh: bool = False) -> Calibration:
    """Measure f + price of rows, of a pool of n; at mass 0 beside a base the solver has seen none of the pool's."""
    base = task.rows.base
    return Calibration.of(f, task.rows.a, n, fresh=fresh or (base > 0 and task.mass == 0), base=base)
