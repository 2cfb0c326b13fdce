"""Random: k rows of the pool, every set of k as likely as any other.

A selection that is no better than this has learned nothing from the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.baselines.pool import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.records import Cost, Target


@dataclass(frozen=True, slots=True)
class Random:
    """k distinct rows, uniform, in random order; the same for the same n, k and seed."""

    name = "random"

    def choose(
        self,
        shards: Sequence[NDArray[np.floating]],
        target: Target,
        cost: Cost,  # noqa: ARG002 - neither target nor cost matters
        k: int,
        *,
        backend: Backend,  # noqa: ARG002 - nothing is swept
        seed: int = 0,
    ) -> NDArray[np.int64]:
        """Return k rows (k,); see Baseline.choose."""
        n = size(shards, target, k)
        return np.random.default_rng(seed).choice(n, k, replace=False).astype(np.int64)
