"""Weights of u domains, 0 <= w <= hi, sum w = 1: the best for given slopes, softly and exactly.

    w = argmin <w, F> + eta KL(w | ref) = min(ref_d exp((tau - F_d) / eta), hi_d),    tau so that sum w = 1

With ref moved to the last w each time, that is the proximal point method with entropy as its distance (Rockafellar,
SIAM J. Control Optim. 14, 1976; Chen and Teboulle, SIAM J. Optim. 3, 1993): the limit is the minimum over w itself, at
any eta, so that eta need not be small, where the rule would be sharp and hard to solve for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A domain that the reference has given up may come back from this share.
_LEAST = 1e-9
_HALVINGS = 200
# exp of minus this is nothing.
_NOTHING = 700.0


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """The reference weights ``ref`` (u,), the bounds ``hi`` (u,), and the temperature eta, in units of the cost."""

    ref: NDArray[np.float64]
    hi: NDArray[np.float64]
    eta: float

    def weights(self, slopes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return w (u,) for the slopes F (u,), by bisection for tau."""
        z = (slopes - slopes.min()) / self.eta - np.log(self._ref)
        low, high = float(z.min()) - _NOTHING, float(z.max())
        for _ in range(_HALVINGS):
            tau = 0.5 * (low + high)
            if tau in {low, high}:
                break
            low, high = (tau, high) if self._bounded(tau - z).sum() < 1.0 else (low, tau)
        return self._bounded(high - z)

    def value(self, slopes: NDArray[np.float64], w: NDArray[np.float64]) -> float:
        """Return <w, F> + eta KL(w | ref) at these weights (u,)."""
        some = w > 0
        return float(w @ slopes + self.eta * (w[some] @ np.log(w[some] / self._ref[some])))

    def bend(self, w: NDArray[np.float64], marginals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return dq/dw dw/dg (m, m), which weights that move with g add to the dual's curvature.

        ``marginals`` (u, m) has the q_d of each domain. Over the domains below their bounds, with weights v and mean
        marginal q, it is (1/eta) sum v_d (q_d - q) (q_d - q)'.
        """
        free = w < self.hi
        q, v = marginals[free], w[free]
        if v.sum() <= 0:
            return np.zeros((marginals.shape[1],) * 2)
        centred = q - (v @ q) / v.sum()
        return np.asarray((centred.T * v) @ centred / self.eta)

    @property
    def _ref(self) -> NDArray[np.float64]:
        return np.maximum(self.ref, _LEAST)

    def _bounded(self, exponents: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.minimum(np.exp(np.minimum(exponents, 0.0)), self.hi)


def lowest(slopes: NDArray[np.float64], hi: NDArray[np.float64]) -> float:
    """Return the least <w, slopes> (u,) over all weights: the domains of least slope are filled first."""
    order = np.argsort(slopes, kind="stable")
    room = hi[order]
    taken = np.clip(1.0 - (np.cumsum(room) - room), 0.0, room)
    return float(taken @ slopes[order])
