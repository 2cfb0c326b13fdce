"""Columns that need not all be served: the dearest may be let go, up to a share of each group of them.

    minimise  <q, g> + eta H(q)   over  0 <= q_j <= b_j / (1 - share) = c_j,   sum_{j in t} q_j = w_t = sum_{j in t} b_j
    H(q) = sum_j c_j [z_j log z_j + (1 - z_j) log(1 - z_j)],  z_j = q_j / c_j

    q_j = c_j / (1 + exp((g_j - tau_t) / eta))                        tau_t such that the sum of the group is w_t
    value = sum_t [w_t tau_t - eta sum_{j in t} c_j log(1 + exp((tau_t - g_j) / eta))]
    -dq / dg = (1 / eta) sum_t [diag(s^t) - s^t s^t' / sum s^t],  s_j = c_j z_j (1 - z_j)

The mirror of the row rule (`records.Box`): transport whose columns are boxed, which is unbalanced transport with a
range constraint (Chizat et al., Scaling algorithms for unbalanced optimal transport problems, 2018), and for eta -> 0
trimmed transport: the mean of g without the share of the highest. The value is concave in g; t added to all g adds t.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Halvings of the interval that holds tau: beyond what float64 tells apart.
_HALVINGS = 64
_FAR = 50.0


@dataclass(frozen=True, slots=True)
class Columns:
    """What trimmed columns are at one g: they hold ``held`` (m,), cost ``value``, and answer with ``slope`` (m,)."""

    held: NDArray[np.float64]
    value: float
    slope: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trimmed:
    """Of the weight of each group ``of`` (m,) of columns a ``share``, below 1, may be let go; ``eta`` absolute."""

    share: float
    of: NDArray[np.intp]
    eta: float

    def at(self, b: NDArray[np.float64], g: NDArray[np.float64]) -> Columns:
        """Return what columns of the weights b (m,) are at g (m,)."""
        most, weight = b / (1.0 - self.share), np.asarray(np.bincount(self.of, b), np.float64)
        tau = self._thresholds(most, weight, g)
        over = (g - tau[self.of]) / self.eta
        kept = np.exp(-np.logaddexp(0.0, over))
        value = float(weight @ tau - self.eta * (most @ np.logaddexp(0.0, -over)))
        return Columns(most * kept, value, most * kept * (1.0 - kept) / self.eta)

    def together(self, slope: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return s s' / sum s of each group, (m, m): what is to be taken from diag(slope (m,)) to make -dq / dg."""
        total = np.maximum(np.bincount(self.of, slope), np.finfo(float).tiny)
        return np.asarray(np.outer(slope, slope / total[self.of]) * (self.of[:, None] == self.of))

    def _thresholds(
        self, most: NDArray[np.float64], weight: NDArray[np.float64], g: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the tau (t,) at which each group holds its weight, by bisection."""
        low, high = np.full(len(weight), np.inf), np.full(len(weight), -np.inf)
        np.minimum.at(low, self.of, g)
        np.maximum.at(high, self.of, g)
        low, high = low - _FAR * self.eta, high + _FAR * self.eta
        for _ in range(_HALVINGS):
            tau = 0.5 * (low + high)
            held = np.bincount(self.of, most * np.exp(-np.logaddexp(0.0, (g - tau[self.of]) / self.eta)))
            low, high = np.where(held < weight, tau, low), np.where(held < weight, high, tau)
        return 0.5 * (low + high)
