"""Centroid: the k rows nearest to the mean of the target.

What a vector database does with one query. A mean of several topics lies near none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.baselines.nearest import smallest_costs
from gapsel.errors import DataError
from gapsel.records import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.baselines.problem import Problem


@dataclass(frozen=True, slots=True)
class Centroid:
    """The k rows nearest to the target's weighted mean, of unit vectors where the cost takes them so."""

    key = "centroid"
    name = "centroid"

    def choose(self, problem: Problem, backend: Backend) -> NDArray[np.int64]:
        """Return k rows (k,); see Baseline.choose. Raises DataError where unit vectors cancel to no direction."""
        cost, y = problem.cost, problem.target.y.astype(np.float64)
        unit = cost.normalize or cost.kind == "cosine"
        if unit:
            y /= np.linalg.norm(y, axis=1, keepdims=True)
        mean = problem.target.b @ y / problem.target.b.sum()
        if unit and not np.linalg.norm(mean) > np.finfo(np.float32).eps:
            msg = "the target's vectors cancel each other, so that their mean has no direction: leave the centroid out"
            raise DataError(msg)
        centre = Target(np.ascontiguousarray(mean[None], np.float32), np.ones(1))
        smallest = smallest_costs(problem, centre, backend)
        return problem.first_of(lambda count: backend.topk(smallest, count))
