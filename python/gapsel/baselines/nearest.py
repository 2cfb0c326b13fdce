"""Nearest neighbours: the k rows with the smallest cost to any target, min_j c_ij.

One sweep at g = 0 and its hard minimum. On a target of several topics the densest topic of the pool takes all, since
nothing discounts what has been chosen already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.records import Box, Query

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.baselines.problem import Problem
    from gapsel.records import Target

# The hard minimum does not know eps; any positive number will do.
_EPS = 1.0


@dataclass(frozen=True, slots=True)
class Nearest:
    """The k rows nearest to any target, in order of (cost, row)."""

    key = "nearest"
    name = "nearest neighbours"

    def choose(self, problem: Problem, backend: Backend) -> NDArray[np.int64]:
        """Return k rows (k,); see Baseline.choose."""
        smallest = smallest_costs(problem, problem.target, backend)
        return problem.first_of(lambda count: backend.topk(smallest, count))


def smallest_costs(problem: Problem, target: Target, backend: Backend) -> NDArray[np.float32]:
    """Return what each row of the pool (n,) costs to the nearest of these targets."""
    smallest = np.empty(problem.n, np.float32)
    g, box = np.zeros(len(target.b)), Box.fixed(1 / problem.n)
    backend.sweep(problem.shards, Query(target, g, box, _EPS, problem.cost, hard=smallest))
    return smallest
