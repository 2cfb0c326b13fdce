"""What a selection must beat: simple ways to choose k rows of the pool for a target, behind one protocol.

    random.py      any k rows
    nearest.py     the k rows with the smallest cost to any target
    roundrobin.py  targets take turns, each takes its nearest row that is still free
    problem.py     what each of them is given; the pool as rows, however it is cut into shards

None of them looks at the pool as a distribution: that is what they are there to show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gapsel.baselines.nearest import Nearest
from gapsel.baselines.problem import Problem
from gapsel.baselines.random import Random
from gapsel.baselines.roundrobin import RoundRobin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gapsel.backends import Backend

__all__ = ["ALL", "Baseline", "Nearest", "Problem", "Random", "RoundRobin"]


class Baseline(Protocol):
    """A way to choose rows of the pool. ``name`` is what a table of results calls it."""

    name: str

    def choose(self, problem: Problem, backend: Backend) -> NDArray[np.int64]:
        """Return k distinct rows (k,) of the pool, best first, numbered across the shards.

        The cut into shards changes nothing. Targets of weight 0 take part in nothing. ``backend`` is for baselines that
        sweep. Raises DataError for values that do not fit, naming the row.
        """
        ...


ALL: tuple[Baseline, ...] = (Random(), Nearest(), RoundRobin())
