"""The unregularised transport distance between weighted rows and the target, as an interval that holds it.

    lower   <b, g> + sum_i r_i min_j (c_ij - g_j)                              weak duality, for any g
    upper   <P, C> + (L1 / 2) max_i (max_j c_ij - min_j c_ij)                  the plan, its columns put right

The plan P of a small eps is nearly optimal. g is found on the rows that carry most and a sample of the rest, then on
all rows in a few sweeps: both bounds hold whatever g is, a better g only brings them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapsel.findings import Interval
from gapsel.potentials import Dual, annealed, ascend
from gapsel.records import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials import Point, Rows
    from gapsel.records import Cost, CostScale, Target

# Small enough that the plan is close to the unregularised one, large enough to be reached in a few sweeps.
_EPS_OF_ROW_STD = 0.05
_SAMPLE = 32
_SMALL = 8192
_FULL_SWEEPS = 4
# At 1e-2 intervals were two to three times as wide for a tenth less rows read (40,000 rows, 600 targets).
_TOLERANCE = 1e-3


def distance(
    backend: Backend, rows: Rows, target: Target, cost: Cost, scale: CostScale, *, heavy: int = 0, seed: int = 0
) -> Interval:
    """Return an interval around the transport cost between the rows, weighted by ``rows.a``, and the target.

    ``heavy`` says how many rows of largest weight are too few and too heavy to be left to a random sample.
    """
    eps = scale.eps(_EPS_OF_ROW_STD)
    extra = max(_SAMPLE * len(target.b), _SMALL)
    part = rows if heavy + extra >= rows.n else _part(rows, heavy, extra, np.random.default_rng(seed))
    solved = annealed(backend, part, target, cost=cost, scale=scale, eps=eps, tolerance=_TOLERANCE)
    point = solved.point
    if part is not rows:
        dual = Dual(backend, rows, target, Box.fixed(rows.a), eps, cost)
        point = ascend(dual, point.g, tolerance=_TOLERANCE, max_sweeps=_FULL_SWEEPS, curvature=solved.curvature).point
    lower = float(target.b @ point.g) + point.sweep.hard
    upper = plan_cost(point, target, eps) + 0.5 * point.error * widest_row(rows, target, cost)
    return Interval(lower=lower, upper=max(upper, lower))


def plan_cost(point: Point, target: Target, eps: float) -> float:
    """Return <P, C> of the plan at a point with fixed row masses, from f = sum_j p (c - g) + eps KL(p | b)."""
    used = target.b > 0
    kl = -point.sweep.entropy - float(point.sweep.q[used] @ np.log(target.b[used]))
    return point.sweep.value + float(point.sweep.q @ point.g) - eps * kl


def _part(rows: Rows, heavy: int, extra: int, rng: np.random.Generator) -> Rows:
    if not heavy:
        return rows.sample(extra, rng)
    weights = np.broadcast_to(np.asarray(rows.a), (rows.n,))
    return rows.shortlist(-weights.astype(np.float32), heavy, extra, rng).rows


def widest_row(rows: Rows, target: Target, cost: Cost) -> float:
    """Bound max_i (max_j c_ij - min_j c_ij) by the triangle inequality around the targets' mean."""
    y = target.y[target.b > 0].astype(np.float64)
    unit = cost.normalize or cost.kind == "cosine"
    if unit:
        y = y / np.linalg.norm(y, axis=1, keepdims=True)
    centre = y.mean(axis=0)
    radius = float(np.linalg.norm(y - centre, axis=1).max())
    if cost.kind == "euclidean":
        return 2.0 * radius
    if unit:
        return 2.0 * radius * (2.0 if cost.kind == "sqeuclidean" else 1.0)
    farthest = max(_farthest(shard, centre) for shard in rows.shards)
    return 4.0 * radius * farthest + radius**2


def _farthest(shard: NDArray[np.floating], centre: NDArray[np.float64], block: int = 8192) -> float:
    blocks = (shard[i : i + block].astype(np.float64) for i in range(0, len(shard), block))
    return max((float(np.linalg.norm(x - centre, axis=1).max()) for x in blocks), default=0.0)
