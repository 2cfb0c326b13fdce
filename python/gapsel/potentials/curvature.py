"""What the solver believes about the Hessian of the dual, and the steps that follow from it.

    H_mu = (1/eps) [diag(q_G) - G + diag(max(l - q, 0)) + mu diag(q)]
    G = sum_i v_i w_i p_i p_i',  q_G = sum_i v_i r_i p_i     (from some sweep's Gram, which has the rows with v_i > 0)
    l = (b - q) / log(b / q)                                 the logarithmic mean of b and q, which is q at the solution

mu = 0 is Newton's step, where q = b; a large mu, which works on the larger of q and the diagonal before it, a shortened
Sinkhorn step. A column that holds far less than its mass needs a long way: Newton would ask for (b - q) / q, far too
long, and hold back all other columns; with l it asks for Sinkhorn's log(b / q). On shortlists that cuts the sweeps by a
third or more. q_G and G have the same rows, so that constants stay in the null space where row masses are fixed.
Where there is no Gram, secants stand in for it (L-BFGS around the diagonal). Where the dual is tilted, b stands for
what the columns are then to hold; where columns are trimmed, for what they hold at g, and how they answer to it is
added.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials.linear import solved

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.potentials.dual import Dual, Point

# Below this the two nearly equal terms of H_mu cannot be told apart after float32 products.
LEAST_DAMPING = 1e-6
# In units of eps: how far a step may first move one target, and what that may grow to. Where the rows near a few
# targets are all full or all at their bottom, the dual is flat there until they are not, and Newton's step far too
# long. It is cut there and nowhere else. Tried: to shorten the whole step, or to damp it: that holds back all targets.
# A reach for each target, narrowed where its gradient turned: at a mass of 1 nine looks at a plan became eight, and at
# eps .01 of the mean cost thirteen became fifteen.
_FIRST_REACH, _LONGEST_REACH, _SHORTEST_REACH = 4.0, 20.0, 0.05
_SECANTS = 20
# Of two numbers whose logarithms differ by less, either is their logarithmic mean.
_NEARLY_EQUAL = 1e-6
# Ratios of the rise of D to the predicted one that raise the damping, leave it, lower it and lower it fast.
_POOR, _FAIR, _GOOD = 0.2, 0.4, 0.75
_NEARLY_CUT = 0.9
# Damping that changes no step by much.
_HOLDS_BACK = 1e-5


@dataclass(slots=True)
class Curvature:
    """A model of -D'': diagonal (m,) minus Gram, damping mu of q (m,), and secant pairs (step, fall of the gradient).

    ``reach``, in units of eps, is how far a step may move one target.
    """

    eps: float
    q: NDArray[np.float64]
    diagonal: NDArray[np.float64]
    gram: NDArray[np.float64] | None
    damping: float = LEAST_DAMPING
    reach: float = _FIRST_REACH
    secants: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=list)

    @classmethod
    def of(cls, dual: Dual, point: Point, damping: float = LEAST_DAMPING) -> Curvature:
        """Take what a sweep says; without a Gram it is the diagonal alone."""
        b, q, rows_q = point.columns, point.sweep.q, point.sweep.gram_q
        diagonal = (q if rows_q is None else rows_q) + np.maximum(_logarithmic_mean(b, q) - q, 0.0)
        gram = point.sweep.gram
        if dual.trimmed is not None:
            slope = dual.eps * dual.trimmed.at(dual.target.b, point.g).slope
            diagonal, gram = diagonal + slope, None if gram is None else gram + dual.trimmed.together(slope)
        # A column without weight stays put.
        absent = dual.target.b == 0
        return cls(dual.eps, np.where(absent, 1.0, q), np.where(absent, 1.0, diagonal), gram, damping)

    def renew(self, dual: Dual, point: Point) -> None:
        """Replace Gram and diagonal by those of this point."""
        fresh = Curvature.of(dual, point)
        self.q, self.diagonal, self.gram = fresh.q, fresh.diagonal, fresh.gram
        self.secants.clear()

    def step(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return H^-1 gradient by the two-loop recursion around H_mu, cut at the reach."""
        rest, shares = gradient.copy(), []
        for s, y in reversed(self.secants):
            shares.append((s @ rest) / (s @ y))
            rest -= shares[-1] * y
        step = self._solve(rest)
        for (s, y), share in zip(self.secants, reversed(shares), strict=True):
            step += s * (share - (y @ step) / (s @ y))
        return np.clip(step, -self.reach * self.eps, self.reach * self.eps)

    def is_free(self, gradient: NDArray[np.float64]) -> bool:
        """Whether neither reach nor damping holds back the step that a gradient (m,) asks for."""
        return self.damping < _HOLDS_BACK and float(np.abs(self.step(gradient)).max()) < self.reach * self.eps

    def learn(self, step: NDArray[np.float64], fall: NDArray[np.float64]) -> None:
        """Keep a step (m,) and by how much the gradient fell (m,), where that shows the concavity that D has."""
        if step @ fall > 1e-12 * np.linalg.norm(step) * np.linalg.norm(fall):
            self.secants.append((step, fall))
            del self.secants[:-_SECANTS]

    def trust(self, ratio: float, step: NDArray[np.float64]) -> None:
        """Adapt mu and the reach to the ratio of the rise of D to the predicted one (Levenberg-Marquardt)."""
        longest = float(np.abs(step).max()) / self.eps
        if ratio < _POOR:
            self.damping = max(4.0 * self.damping, 1e-3)
            self.reach = max(longest / 4.0, _SHORTEST_REACH)
        elif ratio > _FAIR:
            self.damping = max(self.damping * (0.2 if ratio > _GOOD else 0.5), LEAST_DAMPING)
            if ratio > _GOOD and longest > _NEARLY_CUT * self.reach:
                self.reach = min(2.0 * self.reach, _LONGEST_REACH)

    def _solve(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        diagonal = self.diagonal + self.damping * np.maximum(self.q, self.diagonal)
        if self.gram is None:
            return self.eps * v / diagonal
        return self.eps * solved(diagonal, self.gram, v)


def _logarithmic_mean(b: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (b - q) / log(b / q), b where they are equal; a column that has lost all mass counts as exp(-30) of it."""
    least = np.maximum(q, b * np.exp(-30.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        log_ratio = np.log(b / least)
        return np.where(np.abs(log_ratio) > _NEARLY_EQUAL, (b - least) / log_ratio, b)
