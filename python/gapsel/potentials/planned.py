"""The pool by its plan: a look at its vectors keeps it, it is solved on that, and the next look says how well.

A look at the plan costs a twentieth of one at the vectors. Its dual is given the gradient that the vectors had where it
was kept; so it is wrong only in what its rounding makes of the way from there: at mass 0 the next look sees what the
plan promised, to some 1e-4, and at a mass above 0 about 1e-2, since there the masses of rows answer sharply to f. That
look keeps a plan of its own, near enough to the solution for the rest, unless it should be the last one. Where no sweep
is left for it, the answer is the plan's, and what is known of it is what was seen before.

The measurements are in docs/method.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gapsel.potentials.ascent import first_has_gram
from gapsel.potentials.course import LOOKS_AT_A_PART

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gapsel.potentials.ascent import Ascent
    from gapsel.potentials.course import Course
    from gapsel.potentials.dual import Dual, Point

# The plan is solved to this share of the tolerance.
_LEFT = 0.25
_ROUNDS = 5
# At mass 0 what a plan promises is kept to well within this. To a larger tolerance it is solved to half of that, and no
# plan is kept of the look that sees it, which is a tenth of the look.
_PROMISED, _LEFT_AT_MASS_0 = 5e-4, 0.5


def first_kept(course: Course, dual: Dual, g: NDArray[np.float64]) -> tuple[Point, Dual]:
    """Look at the pool at g (m,), and return what was seen and the dual with its plan there.

    The plan is rounded to eight bits, and another look follows: costs need only be close.
    """
    return course.kept("pool", dual, g, close=dual.bears_closeness)


def solved_by_plan(course: Course, seen: Point, near: Dual, *, own_gram: bool = False) -> Ascent:
    """Solve on the pool from where it was ``seen``; ``near`` is its dual with the plan that was kept there.

    ``own_gram``: each look at the plan has a Gram of its own; see ascend.
    """
    task, curvature = course.task, None
    dual = replace(near, rows=task.rows)
    closing = task.mass == 0 and task.tolerance > _PROMISED
    left = (_LEFT_AT_MASS_0 if closing else _LEFT) * task.tolerance
    for _ in range(_ROUNDS):
        met = seen.error <= task.tolerance and not seen.rough
        if met or (curvature is not None and course.settled(dual, seen, curvature)):
            break
        gram = first_has_gram(near, own_gram=own_gram)
        own = course.look("plan", near, seen.g, gram=gram, want_f=True)
        at = course.ascended("plan", *near.corrected(own, seen), left, LOOKS_AT_A_PART, own_gram=own_gram, want_f=True)
        if not course.sweeps_left:
            return replace(at, seen=seen)
        before, curvature = seen.error, at.curvature
        if closing:
            seen = course.look("pool", dual, at.point.g, want_f=True)
            break
        seen, near = course.kept("pool", near, at.point.g)
        if seen.error >= before:
            break
    return course.ascended("pool", dual, seen, task.tolerance, kept=curvature, want_f=True)
