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
# Where all rows are alike, what is left of the squared distances is rounding, of about this share of a squared norm.
_ROUNDING = 1e-28


def cost_matrix(x: NDArray[np.floating], y: NDArray[np.floating], cost: Cost) -> NDArray[np.float64]:
    """Return c (n, m) between the rows of x (n, d) and y (m, d). Raises DataError on a row without direction."""
    u, v = _prepared(x, y, cost)
    if cost.kind == "cosine":
        return np.asarray(1.0 - u @ v.T)
    # In place: these matrices are the largest of a run's first second, and fresh memory costs more than sums do.
    squared = u @ v.T
    squared *= -2.0
    squared += _squared_norms(u)[:, None]
    squared += _squared_norms(v)
    np.maximum(squared, 0.0, out=squared)
    return np.sqrt(squared, out=squared) if cost.kind == "euclidean" else squared


def measure_scale(sample: NDArray[np.floating], target: Target, cost: Cost) -> CostScale:
    """Measure the cost's scale on a random sample (s, d) of the pool's rows."""
    weighing = np.flatnonzero(target.b)
    some = weighing[:: -(-len(weighing) // _TARGETS_MEASURED)]
    b, y = target.b[some] / target.b[some].sum(), target.y[some]
    with one_thread():
        if cost.kind == "euclidean":
            c = cost_matrix(sample, y, cost)
            mean, variance = float((c @ b).mean()), float((((c - (c @ b)[:, None]) ** 2) @ b).mean())
        else:
            mean, variance = _squared_scale(*_prepared(sample, y, cost), b)
    # Of unit vectors 1 - <x, y> is half of |x - y|^2.
    unit = 0.5 if cost.kind == "cosine" else 1.0
    return CostScale(mean=unit * mean, row_std=unit * float(np.sqrt(max(variance, 0.0))))


def _squared_scale(u: NDArray[np.float64], v: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    """Return E |x - y|^2 and E var_y |x - y|^2 over rows x of u (s, d) and rows y of v (m, d) with weights b (m,).

    Both are overwritten. With y and x less E y, so that E y = 0, and r = |y|^2, for each x:
    var_y = E (r - E r)^2 - 4 <x, E r y> + 4 E <x, y>^2.
    """
    centre = b @ v
    u -= centre
    v -= centre
    r = _squared_norms(v)
    mean = float(_squared_norms(u).mean() + b @ r)
    if mean <= _ROUNDING * float(centre @ centre):
        return 0.0, 0.0
    variance = float(b @ (r - b @ r) ** 2 - 4.0 * u.mean(0) @ ((b * r) @ v))
    return mean, variance + 4.0 * _mean_squared_product(u, v, b)


def _mean_squared_product(u: NDArray[np.float64], v: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return E <x, y>^2; by the second moments of both sides where these are smaller than the matrix of products.

    v is overwritten.
    """
    if u.shape[1] > len(v):
        return float((((u @ v.T) ** 2) @ b).mean())
    v *= np.sqrt(b)[:, None]
    return float(np.vdot(u.T @ u, v.T @ v)) / len(u)


def _prepared(
    x: NDArray[np.floating], y: NDArray[np.floating], cost: Cost
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both sides in float64, as unit vectors where the cost is one of these."""
    u, v = x.astype(np.float64), y.astype(np.float64)
    if cost.normalize or cost.kind == "cosine":
        return _unit_rows(u, "pool"), _unit_rows(v, "target")
    return u, v


def _unit_rows(x: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    """Scale rows to unit length, in place."""
    norm = np.sqrt(_squared_norms(x))
    bad = np.flatnonzero(~(norm > 0) | ~np.isfinite(norm))
    if bad.size:
        msg = f"{what} row {bad[0]} has norm {norm[bad[0]]}: it cannot be scaled to unit length; remove the row"
        raise DataError(msg)
    x /= norm[:, None]
    return x


def _squared_norms(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.einsum("ij,ij->i", x, x))
