"""The judge: NumPy, float64, dense and obvious. Every other backend is tested against this file.

It holds the whole n x m matrix, so keep it to small problems.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapsel.cost import cost_matrix
from gapsel.records import Sweep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.records import Box, Query


# How many rows a column the Gram is taken from at least, how dear more of them may be, and the mass in units of 1/n
# below which rows are thinned in any case.
GRAM_ROWS, GRAM_COST, GRAM_MASS = 32, 1.0, 0.25
EXPONENTIALS = 32


class ReferenceBackend:
    """The two verbs, written as the formulas of docs/method.md stand."""

    name = "reference"
    resolution = 1e-14

    @property
    def identity(self) -> str:
        """NumPy, whatever BLAS it has."""
        return self.name

    @property
    def keeper(self) -> None:
        """Nobody: it is always exact."""
        return

    def sweep(self, shards: Sequence[NDArray[np.floating]], query: Query) -> Sweep:
        """Read the pool once; see Backend.sweep. It is always exact."""
        target, g, box, eps = query.target, query.g, query.box, query.eps
        x = np.concatenate([np.asarray(shard, np.float64) for shard in shards])
        keep = np.flatnonzero(target.b > 0)
        c = cost_matrix(x, target.y[keep], query.cost)
        f_all, p = soft_minimum(c, g[keep], target.b[keep], eps)
        reduced = c - g[keep]
        h = reduced.min(axis=1)
        r, slope, value = row_masses(f_all, box)
        v = stands_for(r, len(keep), x.shape[1])
        found = {"f": f_all, "hard": h, "nearest": keep[reduced.argmin(axis=1)]}
        for name, out in query.outputs.items():
            out[:] = found[name]
        top = self.topk(f_all.astype(np.float32), query.k) if query.k else None
        return Sweep(
            q=_spread(r @ p, keep, len(g)),
            value=value,
            hard=float(np.minimum(box.lo * h, box.hi * h + (np.asarray(box.hi) - box.lo) * box.price).sum()),
            entropy=float(-(r @ np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0.0).sum(axis=1))),
            gram=_gram(p, v * (r + eps * slope), keep, len(g)) if query.gram else None,
            gram_q=_spread((v * r) @ p, keep, len(g)) if query.gram else None,
            top=None if top is None else (top, f_all[top].astype(np.float32)),
        )

    def topk(self, values: NDArray[np.floating], k: int) -> NDArray[np.int64]:
        """Return the rows of the k lowest values, in order of (value, row)."""
        return np.argsort(values, kind="stable")[:k].astype(np.int64)


def soft_minimum(
    c: NDArray[np.float64], g: NDArray[np.float64], b: NDArray[np.float64], eps: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return f (n,) = -eps log sum_j b_j exp((g_j - c_ij) / eps) and the plan's rows p (n, m), which sum to 1."""
    z = (g - c) / eps + np.log(b)
    top = z.max(axis=1, keepdims=True)
    e = np.exp(z - top)
    total = e.sum(axis=1, keepdims=True)
    return -eps * (top + np.log(total))[:, 0], e / total


def row_masses(f: NDArray[np.float64], box: Box) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return the row masses r (n,), their slopes dr/df (n,), and the value sum_i phi_i(f_i)."""
    lo, hi = (np.broadcast_to(np.asarray(v, np.float64), f.shape) for v in (box.lo, box.hi))
    room = hi - lo
    x = (f + box.price) / box.eta
    share = np.exp(-np.logaddexp(0.0, x))  # 1 / (1 + exp(x)), whatever its size
    empty = np.exp(-np.logaddexp(0.0, -x))  # 1 - share
    value = lo * f - box.eta * room * np.logaddexp(0.0, -x)
    return lo + room * share, -room * share * empty / box.eta, float(value.sum())


def stands_for(r: NDArray[np.float64], m: int, d: int) -> NDArray[np.float64]:
    """Return how many rows like itself each row stands for in the Gram (n,), 0 where it is left out."""
    share = share_kept(r, m, d)
    return np.divide(1.0, share, out=np.zeros(len(r)), where=dice(len(r)) < share)


def share_kept(r: NDArray[np.float64], m: int, d: int) -> NDArray[np.float64]:
    """Return the probability (n,) with which each row stays in the Gram."""
    n = len(r)
    least = min(n / (GRAM_ROWS * m), GRAM_COST * m / (d + EXPONENTIALS))
    return np.minimum(1.0, n * r / max(least, GRAM_MASS))


def dice(n: int) -> NDArray[np.float64]:
    """Return numbers in [0, 1) that depend on the row alone (n,): the mixing of SplitMix64."""
    x = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(((x ^ (x >> np.uint64(31))) >> np.uint64(11)) / 2.0**53)


def _gram(p: NDArray[np.float64], w: NDArray[np.float64], keep: NDArray[np.intp], m: int) -> NDArray[np.float64]:
    out = np.zeros((m, m))
    out[np.ix_(keep, keep)] = p.T @ (w[:, None] * p)
    return out


def _spread(values: NDArray[np.float64], keep: NDArray[np.intp], m: int) -> NDArray[np.float64]:
    out = np.zeros(m)
    out[keep] = values
    return out
