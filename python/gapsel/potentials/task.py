"""What is asked of the solver, what it gives, and what it may go on from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gapsel.records import frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gapsel.potentials.rows import Rows
    from gapsel.records import Box, Cost, CostScale, Potentials, Target

# eta, in units of eps, falls through these as far as it is above _SHARP row stds: at eps the box is easy to solve, at
# less its rows are full or at their bottom, so that the k lowest f are the choice that was solved for, not a rounding.
_ETAS = (1.0, 0.55, 0.3, 0.17, 0.1)
_SHARP = 0.08


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked: rows, target, cost and its scale; eps absolute; mass; when to stop; ``etas`` in units of eps.

    Without ``etas`` they are those that make the selection sharp.
    """

    rows: Rows
    target: Target
    cost: Cost
    scale: CostScale
    eps: float
    mass: float
    tolerance: float = 1e-3
    max_sweeps: int = 60
    seed: int = 0
    etas: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", replace(self.target, y=frozen(self.target.y)))

    @property
    def k(self) -> int:
        """The size of the selection, about, where rows are not all alike of it."""
        return min(self.rows.pool_rows, max(1, round(self.rows.k)))

    def box(self) -> Box:
        """Return the row rule that is solved for, at the last eta."""
        return self.rows.box(self.mass, self.falling_etas()[-1] * self.eps)

    def falling_etas(self) -> tuple[float, ...]:
        """Return what eta falls through, in units of eps."""
        sharp = _ETAS[2] * self.eps <= self.scale.eps(_SHARP)
        return self.etas or (_ETAS[:3] if sharp else _ETAS)


@dataclass(frozen=True, slots=True)
class Solution:
    """The potentials, and f (n,) float32 of every row of the pool at the same g.

    ``chosen`` (k,), where only the ranking was asked for, are the rows of the k lowest f one step further on; None
    where that step is too long for a shortlist to tell.
    """

    potentials: Potentials
    f: NDArray[np.float32]
    chosen: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """The solution of the same task for another ``k``, at a mass above 0: g (m,), f (n,) float32, dual value at 0."""

    k: int
    g: NDArray[np.float64]
    f: NDArray[np.float32]
    plain_value: float
