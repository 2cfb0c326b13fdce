"""The unregularised transport distance between weighted rows and the target, as an interval that holds it.

    lower   <b, g> + sum_i r_i min_j (c_ij - g_j)                              weak duality, for any g
    upper   <P, C> + (L1 / 2) max_i (max_j c_ij - min_j c_ij)                  the plan, its columns put right

The plan P of a small eps is nearly optimal, and g is found on a sample: both bounds hold whatever g is, a better g
only brings them together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.findings import Interval
from gapsel.potentials import annealed_potentials
from gapsel.records import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials import Rows
    from gapsel.records import Cost, CostScale, Target

# Small enough that the plan is close to the unregularised one, large enough to be reached in a few sweeps.
_EPS_OF_ROW_STD = 0.05
_SAMPLE = 16
_SMALLEST_SAMPLE = 4096


def distance(
    backend: Backend, rows: Rows, target: Target, cost: Cost, scale: CostScale, *, seed: int = 0
) -> Interval:
    """Return an interval around the transport cost between the rows, weighted by ``rows.a``, and the target."""
    eps = scale.eps(_EPS_OF_ROW_STD)
    count = max(_SAMPLE * len(target.b), _SMALLEST_SAMPLE)
    part = rows if rows.n <= count else rows.sample(count, np.random.default_rng(seed))
    g = annealed_potentials(part, target, cost, scale, eps, backend)
    sweep = backend.sweep(rows.shards, target, g, Box.fixed(rows.a), eps=eps, cost=cost)
    dual = float(target.b @ g)
    used = target.b > 0
    plan_kl = -sweep.entropy - float(sweep.q[used] @ np.log(target.b[used]))
    plan_cost = sweep.value + float(sweep.q @ g) - eps * plan_kl
    error = float(np.abs(sweep.q - target.b).sum())
    upper = plan_cost + 0.5 * error * widest_row(rows, target, cost)
    return Interval(lower=dual + sweep.hard, upper=max(upper, dual + sweep.hard))


def widest_row(rows: Rows, target: Target, cost: Cost) -> float:
    """Bound max_i (max_j c_ij - min_j c_ij) by the triangle inequality around the targets' mean."""
    y = target.y.astype(np.float64)
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


def restrict(rows: Rows, chosen: NDArray[np.int64]) -> Rows:
    """Return the chosen rows alone, equally weighted."""
    from gapsel.potentials import gather

    return replace(rows, shards=(gather(rows.shards, np.sort(chosen)),), a=1.0 / len(chosen), capacity=1.0)


def _farthest(shard: NDArray[np.floating], centre: NDArray[np.float64], block: int = 8192) -> float:
    blocks = (shard[i : i + block].astype(np.float64) for i in range(0, len(shard), block))
    return max(float(np.linalg.norm(x - centre, axis=1).max()) for x in blocks)
