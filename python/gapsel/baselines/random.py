"""Random: k rows of the pool, every set of k as likely as any other.

A selection that is no better than this has learned nothing from the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.baselines.problem import Problem


@dataclass(frozen=True, slots=True)
class Random:
    """k distinct rows, uniform, in random order; the same for the same n, k and seed."""

    key = "random"
    name = "random"

    def choose(self, problem: Problem, backend: Backend) -> NDArray[np.int64]:  # noqa: ARG002 - nothing is swept
        """Return k rows (k,); see Baseline.choose."""
        rng, order = np.random.default_rng(problem.seed), np.zeros(0, np.int64)

        def first(count: int) -> NDArray[np.int64]:
            nonlocal order
            if len(order) < count:
                order = np.concatenate([order, _more(rng, problem.n, order, count - len(order))])
            return order[:count]

        return problem.first_of(first)


def _more(rng: np.random.Generator, n: int, before: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return so many of the rows that did not come before, in random order."""
    if not len(before):
        return rng.choice(n, count, replace=False)
    left = np.delete(np.arange(n), before)
    return left[rng.choice(len(left), count, replace=False)]
