"""What a selection must beat: simple ways to choose k rows of the pool for a target, behind one protocol.

    random.py      any k rows
    nearest.py     the k rows with the smallest cost to any target
    roundrobin.py  targets take turns, each takes its nearest row that is still free
    centroid.py    the k rows nearest to the mean of the target
    kde.py         targets spread over their nearest rows, near-copies share a part (TSDS)
    dsir.py        drawn by importance weights of hashed n-grams (DSIR); reads texts
    curated.py     random rows of the target's labels; knows labels
    problem.py     what each of them is given; the pool as rows, however it is cut into shards
    neighbours.py  the nearest rows of each target; parallel.py: by several threads

Each says in which order rows come. What is taken of them, and when it is enough, the rules say (`rules.Walk`), the same
that gapsel's own choice keeps to.

None of them looks at the pool as a distribution: that is what they are there to show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gapsel.baselines.centroid import Centroid
from gapsel.baselines.curated import Curated
from gapsel.baselines.dsir import Dsir
from gapsel.baselines.kde import Kde
from gapsel.baselines.nearest import Nearest
from gapsel.baselines.neighbours import nearest_rows
from gapsel.baselines.problem import Problem
from gapsel.baselines.random import Random
from gapsel.baselines.roundrobin import RoundRobin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gapsel.backends import Backend

__all__ = [
    "BY_KEY",
    "BY_VECTORS",
    "Baseline",
    "Centroid",
    "Curated",
    "Dsir",
    "Kde",
    "Nearest",
    "Problem",
    "Random",
    "RoundRobin",
    "nearest_rows",
]


class Baseline(Protocol):
    """A way to choose rows of the pool. ``key`` is what settings call it, ``name`` what a table of results does."""

    key: str
    name: str

    def choose(self, problem: Problem, backend: Backend) -> NDArray[np.int64]:
        """Return k distinct rows (k,) of the pool, best first, numbered across the shards.

        Under rules they are as many as these let through. The cut into shards changes nothing, and targets of weight 0
        take part in nothing. ``backend`` is for baselines that sweep. Raises DataError for values that do not fit,
        naming the row.
        """
        ...


BY_VECTORS: tuple[Baseline, ...] = (Random(), Nearest(), RoundRobin(), Centroid(), Kde())
BY_KEY: dict[str, Baseline] = {one.key: one for one in (*BY_VECTORS, Dsir(), Curated())}
