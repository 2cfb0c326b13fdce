"""A fit on a random part of a large pool, and what that costs, read off rows that the solver has not seen.

g is m numbers, and a few million rows tell as much about them as the whole pool does. The solver is given ``most`` rows
at most, and never more than four fifths of a pool that has more, since as many others are swept once, with its g:

    f on them      calibrates scores and thresholds, with none of the solver's own luck in it
    q on them      misses b by the chance of the s rows of the fit and of these t, so that the whole pool of n would
                   miss it by about  |q - b| sqrt((1/s - 1/n) / (1/s + 1/t))
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.calibration import Calibration
from gapsel.errors import UsageError
from gapsel.potentials import solve, weigh

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials import Start, Task, Weighed, Weighing
    from gapsel.records import Potentials, Stage

_LARGEST_PART = 0.8
# A sample in which fewer rows would be chosen does not tell where the choice ends.
_FEWEST_CHOSEN = 10


@dataclass(frozen=True, slots=True)
class Fitted:
    """Potentials, how f lies on the pool, and f (n,) of all of its rows where the solver has read them all.

    ``weighed`` says how the potentials' target got its weights, where they were to be found.
    """

    potentials: Potentials
    calibration: Calibration
    f: NDArray[np.float32] | None
    weighed: Weighed | None = None


def fit(
    task: Task,
    most: int,
    backend: Backend,
    *,
    weighing: Weighing | None = None,
    start: Start | None = None,
    watch: Callable[[Stage], None] | None = None,
) -> Fitted:
    """Solve on all rows of the task, or on ``most`` random ones of more; from the fit for another k, if there is one.

    Where the target is to be weighed that is done before, on the same rows; another k then has other weights, so that
    there is no ``start``.

    Raises UsageError where the mass is above 0 and too few rows of such a sample would be chosen.
    """
    rows = task.rows
    if rows.n <= most:
        task, weighed = _weighed(task, weighing, backend, watch)
        solution = solve(task, backend, start=start, watch=watch)
        return Fitted(solution.potentials, Calibration.of(solution.f, rows.a), solution.f, weighed)
    seen, fresh = _parted(task, most)
    known = start and replace(start, k=max(1, round(start.k * len(seen) / rows.n)), f=start.f[seen])
    part, weighed = _weighed(replace(task, rows=rows.part(seen)), weighing, backend, watch)
    found = solve(part, backend, start=known, watch=watch).potentials
    fitted = _calibrated(found, replace(part, rows=rows.part(fresh)), rows.n, backend)
    return replace(fitted, weighed=weighed)


def _weighed(
    task: Task, weighing: Weighing | None, backend: Backend, watch: Callable[[Stage], None] | None
) -> tuple[Task, Weighed | None]:
    """Return the problem with the weights that its target is to have, and how they were found."""
    if weighing is None or not weighing.asks:
        return task, None
    found = weigh(task, weighing, backend, watch)
    return found.task, found


def part_sizes(n: int, most: int) -> tuple[int, int]:
    """Return of how many of n rows a fit on ``most`` is made, and how many others it then looks at."""
    size = n if n <= most else min(most, int(_LARGEST_PART * n))
    return size, min(size, n - size)


def _parted(task: Task, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows to solve on and those to look at afterwards, random and ascending."""
    n = task.rows.n
    size, fresh = part_sizes(n, most)
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
    drawn = rng.choice(n, size + fresh, replace=False)
    return np.sort(drawn[:size]), np.sort(drawn[size:])


def _calibrated(found: Potentials, fresh: Task, n: int, backend: Backend) -> Fitted:
    """Sweep the rows that the solver has not seen, at its g."""
    f = np.empty(fresh.rows.n, np.float32)
    q = backend.sweep(
        fresh.rows.shards, fresh.target, found.g, fresh.box(), eps=found.eps, cost=found.cost, f=f
    ).q  # fmt: skip
    s, t = found.evidence.rows, fresh.rows.n
    error = float(np.abs(q - fresh.target.b).sum() * np.sqrt((1 / s - 1 / n) / (1 / s + 1 / t)))
    evidence = replace(found.evidence, sampling_error=error)
    return Fitted(replace(found, evidence=evidence), Calibration.of(f, fresh.rows.a, n, fresh=True), None)
