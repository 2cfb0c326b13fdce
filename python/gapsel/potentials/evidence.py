"""What is known at the end: how far off the answer is, what rounding may hide, what one more step would change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials.task import Solution
from gapsel.records import Evidence, Potentials

if TYPE_CHECKING:
    from gapsel.potentials.ascent import Ascent
    from gapsel.potentials.course import Course
    from gapsel.potentials.task import Task

# The mean over many rows is at most so many times less off by rounding than a row is: on 16,000 rows the marginal error
# of float32 costs was right to 3e-7 at an eps of 0.005 of the mean cost, where a row is off by 6e-5.
_ROWS_ROUND_AWAY, _COST_IN_STDS = 50.0, 10.0


def concluded(course: Course, reached: Ascent, plain_value: float = float("nan")) -> Solution:
    """Return the solution with its evidence.

    The dual value at mass 0 is the highest that the pool was seen to have there, by exact looks if there are any, or
    ``plain_value`` if there are none. Where the answer is a kept plan's, the evidence is of what was seen before.
    """
    task, point, seen = course.task, reached.point, reached.seen or reached.point
    dual, rounding = course.dual(task.rows, task.mass), _rounding(course)
    after, unsettled = course.next_choice(dual, point, reached.curvature)
    evidence = Evidence(
        converged=not seen.rough and seen.error <= task.tolerance and rounding <= task.tolerance,
        tolerance=task.tolerance,
        marginal_error=seen.error,
        rounding=rounding,
        unsettled=unsettled,
        dual_value=seen.value,
        hard_bound=float(task.target.b @ seen.g) + seen.sweep.hard,
        plain_value=max(course.plain_values, default=(False, plain_value))[1],
        full_sweeps=course.full_sweeps,
        perplexity=float(np.exp(seen.sweep.entropy)),
        rows=task.rows.n,
        sampling_error=0.0,
        trace=tuple(course.trace),
    )
    return Solution(
        Potentials(
            target=task.target, g=point.g, eps=task.eps, mass=task.mass, cost=task.cost, scale=task.scale,
            evidence=evidence,
        ),
        point.f,
        after if course.ranking else None,
    )  # fmt: skip


def _rounding(course: Course) -> float:
    """Return how far the marginal error may be off by the rounding of costs.

    What is the same along a row of costs falls out of the plan, so there their size is a few standard deviations within
    it; not out of f, which says what mass a row has. Of unit vectors it is the products <x, y> that are rounded, and
    these are near 1 where all of the pool is near all of the target. Rows round each on their own, and their mean is
    better than one of them; but g is rounded for all alike.
    """
    task, mean = course.task, course.task.scale.mean or 1.0
    in_plan = max(min(mean, _COST_IN_STDS * task.scale.row_std), _products(task)) / task.eps
    in_masses = mean / task.box().eta if task.mass > 0 else 0.0
    one_row = course.backend.resolution * (in_plan + in_masses)
    return one_row / min(float(np.sqrt(task.rows.n)), _ROWS_ROUND_AWAY)


def _products(task: Task) -> float:
    """Return the mean of what a cost of unit vectors has in products, <x, y> or twice that; 0 of other vectors."""
    most = {"sqeuclidean": 2.0 * task.cost.normalize, "cosine": 1.0}.get(task.cost.kind, 0.0)
    return max(most - task.scale.mean, 0.0)
