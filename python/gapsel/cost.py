"""The ground cost, dense and in float64, and its scale: what eps is measured against.

    mean    = E c(x, y)                          over random pool rows and the weighted targets
    row_std = sqrt(E var_y c(x, y))              the spread of one document's costs, averaged over documents

For embeddings of text the costs of one document lie close together around a large mean, so that eps is given
relative to row_std; relative to the mean it would say little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapsel.blas import one_thread
from gapsel.errors import DataError
from gapsel.records import CostScale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.records import Cost, Target

# As many targets as are needed to know a standard deviation to about a per cent.
_TARGETS_MEASURED = 4096


def cost_matrix(x: NDArray[np.floating], y: NDArray[np.floating], cost: Cost) -> NDArray[np.float64]:
    """Return c (n, m) between the rows of x (n, d) and y (m, d). Raises DataError on a row without direction."""
    u, v = x.astype(np.float64), y.astype(np.float64)
    if cost.normalize or cost.kind == "cosine":
        u, v = _unit_rows(u, "pool"), _unit_rows(v, "target")
    if cost.kind == "cosine":
        return np.asarray(1.0 - u @ v.T)
    # In place: these matrices are the largest of a run's first second, and fresh memory costs more than sums do.
    squared = u @ v.T
    squared *= -2.0
    squared += (u**2).sum(1)[:, None] + (v**2).sum(1)
    np.maximum(squared, 0.0, out=squared)
    return np.sqrt(squared, out=squared) if cost.kind == "euclidean" else squared


def measure_scale(sample: NDArray[np.floating], target: Target, cost: Cost) -> CostScale:
    """Measure the cost's scale on a random sample (s, d) of the pool's rows."""
    weighing = np.flatnonzero(target.b)
    some = weighing[:: -(-len(weighing) // _TARGETS_MEASURED)]
    b = target.b[some] / target.b[some].sum()
    with one_thread():
        c = cost_matrix(sample, target.y[some], cost)
        mean = c @ b
        c -= mean[:, None]
        c *= c
        variance = np.maximum(c @ b, 0.0)
    return CostScale(mean=float(mean.mean()), row_std=float(np.sqrt(variance.mean())))


def _unit_rows(x: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    bad = np.flatnonzero(~(norm[:, 0] > 0) | ~np.isfinite(norm[:, 0]))
    if bad.size:
        msg = f"{what} row {bad[0]} has norm {norm[bad[0], 0]}: it cannot be scaled to unit length; remove the row"
        raise DataError(msg)
    return np.asarray(x / norm)
