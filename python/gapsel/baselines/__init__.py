"""What a selection must beat: simple ways to choose k rows of the pool for a target, behind one protocol.

    random.py      any k rows
    nearest.py     the k rows with the smallest cost to any target
    roundrobin.py  targets take turns, each takes its nearest row that is still free
    pool.py        the pool as rows, however it is cut into shards

None of them looks at the pool as a distribution: that is what they are there to show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gapsel.baselines.nearest import Nearest
from gapsel.baselines.random import Random
from gapsel.baselines.roundrobin import RoundRobin

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.records import Cost, Target

__all__ = ["ALL", "Baseline", "Nearest", "Random", "RoundRobin"]


class Baseline(Protocol):
    """A way to choose rows of the pool. ``name`` is what a table of results calls it."""

    name: str

    def choose(
        self,
        shards: Sequence[NDArray[np.floating]],
        target: Target,
        cost: Cost,
        k: int,
        *,
        backend: Backend,
        seed: int = 0,
    ) -> NDArray[np.int64]:
        """Return k distinct rows (k,) of the pool, best first, numbered across the shards.

        The shards are those of `backends.Backend`, n rows of d dimensions; their cut changes nothing. Targets of weight
        0 take part in nothing. ``seed`` is for baselines that draw, ``backend`` for those that sweep.

        Raises UsageError unless 1 <= k <= n, DataError for shapes and values that do not fit, naming the row.
        """
        ...


ALL: tuple[Baseline, ...] = (Random(), Nearest(), RoundRobin())
