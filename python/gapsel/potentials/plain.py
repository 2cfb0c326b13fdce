"""Plain transport, mass 0, from nothing: on nested random samples, then on the pool.

On the first sample, of 4m rows, eps falls to its value, and it is solved to its own noise. Then the pool is looked at,
and where its plan can be kept it is solved on that. Where not, samples of 16m and 64m come first, which are looked at
once each, for a step with their Gram: a sample knows the Hessian long before it knows the solution. A pool that is
hardly larger is solved as the first sample is. For a mass above 0 only the order of f is wanted, to say who may be
chosen: the first sample does, and one look at the pool.

The measurements behind the constants are in docs/method.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials.ascent import Ascent, ahead, gram_pays
from gapsel.potentials.course import LOOKS_AT_A_PART
from gapsel.potentials.planned import first_kept, solved_by_plan
from gapsel.potentials.sizes import annealed_eps, sample_sizes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.potentials.course import Course
    from gapsel.potentials.dual import Dual, Point
    from gapsel.potentials.rows import Rows

# Marginal error of a sample of s rows against the pool is about this times sqrt(m / s): less is not worth solving for.
_SAMPLING_NOISE = 0.05
# An eps that falls on is solved to this, in so many looks, and goes one step further, which the next one looks at.
_ON_THE_WAY, _LOOKS_ON_THE_WAY = 0.3, 8
# How many plans of a sample are kept at the last eps, where that is small.
_PLANS = 6


def solved(course: Course, rng: np.random.Generator) -> Ascent:
    """Solve on the rows of the task."""
    start, task = _sampled(course, rng), course.task
    if isinstance(start, Ascent):
        return start
    dual = course.dual(task.rows, 0.0)
    if not dual.keeps:
        return course.ascended("pool", dual, start, task.tolerance, rough="first", want_f=True)
    return solved_by_plan(course, *first_kept(course, dual, start))


def near(course: Course, rng: np.random.Generator) -> Point:
    """Return a point near the solution, with f of all rows: one sweep of the pool, after a sample."""
    start = _sampled(course, rng)
    if isinstance(start, Ascent):
        return start.point
    dual = course.dual(course.task.rows, 0.0)
    return course.look("pool", dual, start, want_f=True, rough=dual.bears_rounding)


def annealed(course: Course, rows: Rows, tolerance: float, *, whole: bool) -> Ascent:
    """Solve on some rows, or the ``whole``, from g = 0 while eps falls; an eps on the way only hands its g on."""
    task, stage = course.task, "pool" if whole else "sample"
    g = _fallen(course, stage, rows)
    dual = _by_plan(course, stage, course.dual(rows, 0.0), g)
    looks = task.max_sweeps if whole else LOOKS_AT_A_PART
    return course.ascended(stage, dual, g, tolerance, looks, rough="first" if whole else "always", want_f=whole)


def after(course: Course, first: Rows) -> Ascent:
    """Solve on the rows of the task, where fewer, which stand for them, lead; see _at_few_columns."""
    g = _at_few_columns(course, first, _noise(course, first.n))
    dual = course.dual(course.task.rows, 0.0)
    if dual.keeps:
        return solved_by_plan(course, *first_kept(course, dual, g), own_gram=True)
    return course.ascended("pool", dual, g, course.task.tolerance, rough="first", want_f=True)


def _at_few_columns(course: Course, rows: Rows, tolerance: float) -> NDArray[np.float64]:
    """Return g (m,) of a sample at an eps so small that each row has but few columns.

    A Gram costs little then, and each look has its own; but steps are long, and one plan does not tell of them all.
    """
    g = _fallen(course, "sample", rows, own_gram=True)
    for _ in range(_PLANS):
        dual = _by_plan(course, "sample", course.dual(rows, 0.0), g)
        g = course.ascended("sample", dual, g, tolerance, LOOKS_AT_A_PART, rough="always", own_gram=True).point.g
        if not dual.is_far(g):
            break
    return g


def _fallen(course: Course, stage: str, rows: Rows, *, own_gram: bool = False) -> NDArray[np.float64]:
    """Return the g (m,) with which the last eps begins, from 0 while eps falls to it."""
    task, g = course.task, np.zeros(len(course.task.target.b))
    for eps in annealed_eps(task.scale.mean, task.eps)[:-1]:
        if stage == "pool" and course.sweeps_left <= 1:
            break
        dual = _by_plan(course, stage, course.dual(rows, 0.0, eps=eps), g)
        looks = _LOOKS_ON_THE_WAY
        g = ahead(dual, course.ascended(stage, dual, g, _ON_THE_WAY, looks, rough="always", own_gram=own_gram))
    return g


def _by_plan(course: Course, stage: str, dual: Dual, g: NDArray[np.float64]) -> Dual:
    """Return the dual of a sample with its plan at g (m,), where that can be kept."""
    if stage == "pool" or not dual.keeps:
        return dual
    return course.kept(stage, dual, g, rough=dual.bears_rounding)[1]


def from_g(course: Course, rows: Rows, g: NDArray[np.float64], tolerance: float) -> Ascent:
    """Solve on the rows of a shortlist from a g (m,)."""
    dual = course.dual(rows, 0.0)
    return course.ascended("shortlist", dual, g, tolerance, LOOKS_AT_A_PART, rough="always", want_f=True)


def _sampled(course: Course, rng: np.random.Generator) -> NDArray[np.float64] | Ascent:
    """Return a g (m,) for the pool, by samples; or, where the pool is small, what it is solved to itself."""
    task, rows = course.task, course.task.rows.present
    sizes = sample_sizes(rows.n, len(task.target.b))
    if not sizes and task.rows.base:
        return annealed(course, rows, _noise(course, rows.n), whole=False).point.g
    if not sizes:
        return annealed(course, rows, task.tolerance, whole=True)
    # A ranking for the shortlist, or a plan that is kept, needs no more than the first.
    sizes = sizes[:1] if task.mass > 0 or course.dual(rows, 0.0).keeps else sizes
    drawn = rows.sample(sizes[-1], rng)
    g = annealed(course, drawn.prefix(sizes[0]), _noise(course, sizes[0]), whole=False).point.g
    for size in sizes[1:]:
        g = _next_sample(course, drawn.prefix(size), g)
    return g


def _next_sample(course: Course, rows: Rows, g: NDArray[np.float64]) -> NDArray[np.float64]:
    """Go on from the g of a smaller sample: one step with this one's Gram, which the next stage will look at."""
    dual = course.dual(rows, 0.0)
    once = gram_pays(len(g), rows.d, rows.n)
    looks = 1 if once else LOOKS_AT_A_PART
    reached = course.ascended("sample", dual, g, _noise(course, rows.n), looks, rough="always")
    return ahead(dual, reached) if once else reached.point.g


def _noise(course: Course, size: int) -> float:
    """Return the marginal error to which a sample of so many rows is solved."""
    task = course.task
    return max(_SAMPLING_NOISE * float(np.sqrt(len(task.target.b) / size)), 0.1 * task.tolerance)
