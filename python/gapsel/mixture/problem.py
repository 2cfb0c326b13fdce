"""What is asked of a mixture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.mixture.domains import Domains
    from gapsel.records import Cost, CostScale, Target


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What is asked: the pool by domains, the target, cost and scale, eps (absolute), largest weights ``hi`` (u,)."""

    domains: Domains
    target: Target
    cost: Cost
    scale: CostScale
    eps: float
    hi: NDArray[np.float64]
    tolerance: float = 1e-3
    max_sweeps: int = 60
    seed: int = 0


def capacities(counts: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Return the largest weights (u,) at which domains of so many rows (u,) give k documents, none of them twice."""
    return np.minimum(1.0, counts / k)
