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
        return np.random.default_rng(problem.seed).choice(problem.n, problem.k, replace=False).astype(np.int64)
