"""Curated: random rows among those whose label is one of the target's.

What a person takes who knows the domains, without looking inside them (the curated selection that GOT-D is compared
with is of this kind). It needs labels, which gapsel's own choice never reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.baselines.problem import Problem


@dataclass(frozen=True, slots=True)
class Curated:
    """Random rows of the target's labels, in random order; where these are fewer than k, random others after them."""

    key = "curated"
    name = "curated"

    def choose(self, problem: Problem, backend: Backend) -> NDArray[np.int64]:  # noqa: ARG002 - nothing is swept
        """Return k rows (k,); see Baseline.choose. Raises UsageError without labels, or where no row is akin."""
        if problem.akin is None or not problem.akin.any():
            why = "there are no labels" if problem.akin is None else "no row of the pool has a label of the target's"
            msg = f"curated: {why}: name the field that both have (--label-field), or leave this method out"
            raise UsageError(msg)
        order = np.random.default_rng(problem.seed).permutation(problem.n)
        own = problem.akin[order]
        order = np.concatenate([order[own], order[~own]])
        return problem.first_of(lambda count: order[:count])
