"""At a mass above 0: on a shortlist, then on the pool, and back to the list as often as that leads on.

Where the pool's plan can be kept, that takes the place of the list once the pool was seen (planned.py).

The rows that a selection could choose lie among the lowest f of plain transport, or of the solution for another k: the
shortlist keeps these as they are, and a weighted sample stands for the rest. On the list eta falls to its value. Where
the pool shows then that the list missed rows, it is made anew; where the mass is large, it is tilted to the pool's
gradient and solved again, since there the chosen rows bend the dual most, and sharply, and the list has them all.

The measurements behind the constants are in docs/method.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials.ascent import ahead, gram_pays
from gapsel.potentials.caps import best_prices
from gapsel.potentials.course import LOOKS_AT_A_PART
from gapsel.potentials.planned import first_kept, solved_by_plan
from gapsel.potentials.rows import Shortlist
from gapsel.potentials.sizes import missed_mass, shortlist_sizes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.potentials.ascent import Ascent
    from gapsel.potentials.course import Course
    from gapsel.potentials.dual import Dual, Point
    from gapsel.potentials.rows import Rows
    from gapsel.potentials.task import Start

# A full sweep that is further off than _LISTED may find that rows off the list take part in the selection, by more than
# _MISSED of the error: the list is then made anew by the f it saw.
_ROUNDS = 5
_LISTED, _MISSED = 0.05, 0.3
# From this mass the rows that are chosen bend the dual more than those that are not: a list, tilted, leads on better
# than Newton's steps do; and each look at a plan is to have a Gram of its own (2.7 to 3.2 s with one at a mass of 1,
# 3.3 without; 2.5 and 2.0 s at 0.5). Each time the list's error falls to _LIST_LEAVES of the pool's, or to half of the
# tolerance.
LISTS_LEAD = 0.6
_LIST_LEAVES, _LEFT_AT_MOST = 0.1, 0.5
# From the solution for another k eta falls through so many of its last values. Tried: through one or two of them takes
# more looks at the list at a mass of 1, or at the pool at 0.5; and so does a list that is solved less well.
_ETAS_AGAIN = 3
# An eta that falls on, and the first list, are solved to this, and go one step further, which the next stage looks at.
# Tried: such a step from a list that was solved again: the pool's error stayed at 2e-3, for it is the list's own last
# digits that count there. A list's Gram at the first look of each eta and after slow ones alone: more looks in all.
_ETA_ON_THE_WAY, _LIST_ON_THE_WAY = 0.25, 5e-2
# How often the plan of a list is kept anew at the last eta.
_PLANS = 4


def from_plain(course: Course, plain: Point, rng: np.random.Generator) -> Ascent:
    """Go on from plain transport to the mass that is asked for."""
    task, g, f, sizes = course.task, plain.g, plain.f, _list_sizes(course)
    if sum(sizes) >= task.rows.n:
        return sharpened(course, "pool", task.rows, g, f, tolerance=task.tolerance)
    short = _kept(course, _shortlist(course, f, sizes, rng), g)
    at = sharpened(course, "shortlist", short.rows, g, f[short.index], tolerance=_LIST_ON_THE_WAY)
    dual = course.dual(task.rows, task.mass)
    if dual.keeps:
        own_gram = task.mass >= LISTS_LEAD or bool(task.rows.caps)
        return solved_by_plan(course, *first_kept(course, dual, ahead(dual, at)), own_gram=own_gram)
    return _from_list(course, short, at, rng)


def from_another_k(course: Course, start: Start, rng: np.random.Generator) -> Ascent:
    """Go on from the solution for another k, by a shortlist that is tilted by what it lacks of the pool there.

    That is known without a look at the pool, which at a solution holds b in its columns; and it is nearly the same for
    this k, since the box of the rows that the list only stands for does not change but for its top.
    """
    task, f, sizes = course.task, start.f, _list_sizes(course)
    if sum(sizes) >= task.rows.n:
        return sharpened(course, "pool", task.rows, start.g, f, tolerance=task.tolerance, tilt=0.0)
    short = _kept(course, _shortlist(course, f, sizes, rng), start.g)
    there = replace(short.rows, capacity=short.rows.capacity * (task.k / start.k))
    dual = course.dual(there, task.mass)
    own = course.look("shortlist", dual, start.g, rough=dual.bears_rounding)
    tilt = dual.tilted(own.sweep.q, task.target.b).tilt
    at = sharpened(course, "shortlist", short.rows, start.g, f[short.index], tolerance=task.tolerance, tilt=tilt)
    return _from_list(course, short, at, rng)


def sharpened(
    course: Course,
    stage: str,
    rows: Rows,
    g: NDArray[np.float64],
    f: NDArray[np.float32],
    *,
    tolerance: float,
    tilt: NDArray[np.float64] | float | None = None,
) -> Ascent:
    """Solve on these rows from a g (m,) with f (n,) there, while eta falls to its value.

    With a ``tilt`` (m,), or 0, g is the solution for another k, and the end of eta's fall will do.
    """
    task, whole = course.task, stage == "pool"
    etas = task.falling_etas()[0 if tilt is None else -_ETAS_AGAIN :]
    limit = task.max_sweeps if whole else LOOKS_AT_A_PART
    level = 0.0
    for eta in etas[:-1]:
        if whole and course.sweeps_left <= 1:
            break
        dual = replace(course.dual(rows, task.mass, eta=eta), tilt=0.0 if tilt is None else tilt)
        start = g + dual.threshold(f) - level
        reached = course.ascended(
            stage, dual, start, _ETA_ON_THE_WAY, limit, rough="always", own_gram=True, want_f=True
        )
        g, f = ahead(dual, reached), reached.point.f
        level = dual.threshold(f)
        rows = _near(course, stage, dual, g)
    dual = replace(course.dual(rows, task.mass), tilt=0.0 if tilt is None else tilt)
    at = _at_last(course, stage, dual, g + dual.threshold(f) - level, tolerance)
    for _ in range(_PLANS):
        if dual.is_far(at.point.g):
            dual = replace(dual, rows=_near(course, stage, dual, at.point.g))
            at = _at_last(course, stage, dual, at.point.g, tolerance)
    return at


def _at_last(course: Course, stage: str, dual: Dual, g: NDArray[np.float64], tolerance: float) -> Ascent:
    """Solve at the last eta."""
    whole = stage == "pool"
    limit = course.task.max_sweeps if whole else LOOKS_AT_A_PART
    return course.ascended(
        stage, dual, g, tolerance, limit, rough="first" if whole else "always", own_gram=True, want_f=True
    )


def _near(course: Course, stage: str, dual: Dual, g: NDArray[np.float64]) -> Rows:
    """Return the rows, their plan kept anew where the one they have is too far from g (m,)."""
    return course.kept(stage, dual, g, rough=dual.bears_rounding)[1].rows if dual.is_far(g) else dual.rows


def _list_sizes(course: Course) -> tuple[int, int]:
    task = course.task
    return shortlist_sizes(task.rows.pool_rows, len(task.target.b), task.rows.k, task.mass)


def _shortlist(course: Course, f: NDArray[np.float32], sizes: tuple[int, int], rng: np.random.Generator) -> Shortlist:
    """Return the list by f (n,) and, under caps, by the prices that are best there."""
    task, rows = course.task, course.task.rows
    if rows.caps:
        prices = best_prices(rows.caps, rows.priced(f), task.box(), task.mass, moves=True)
        f = (f + prices.rows).astype(np.float32)
    return rows.shortlist(f, *sizes, rng)


def _kept(course: Course, short: Shortlist, g: NDArray[np.float64]) -> Shortlist:
    """Return the list with its plan at g (m,), where it can be kept."""
    dual = course.dual(short.rows, course.task.mass)
    if not dual.keeps:
        return short
    return replace(short, rows=course.kept("shortlist", dual, g, rough=dual.bears_rounding)[1].rows)


def _around(course: Course, short: Shortlist, g: NDArray[np.float64]) -> Shortlist:
    """Return the list with a plan that is near g (m,), if it has one."""
    return replace(short, rows=_near(course, "shortlist", course.dual(short.rows, course.task.mass), g))


def listed(course: Course, f: NDArray[np.float32], rng: np.random.Generator) -> Shortlist:
    """Return the shortlist by f (n,), or all rows where it would have them."""
    rows, sizes = course.task.rows, _list_sizes(course)
    if sum(sizes) < rows.n:
        return _shortlist(course, f, sizes, rng)
    everything = np.arange(rows.n)
    return Shortlist(rows, everything, everything[: rows.pool_rows])


def _from_list(course: Course, short: Shortlist, at: Ascent, rng: np.random.Generator) -> Ascent:
    """From a point solved for on a shortlist to the pool, and back to the list as often as that leads on."""
    task, sizes = course.task, _list_sizes(course)
    dual = course.dual(task.rows, task.mass)
    # After one more step the list's columns should hold what they are to.
    seen, own = _seen(course, dual, ahead(dual, at)), at.point.columns
    for _ in range(_ROUNDS):
        off_list = missed_mass(dual.taken(seen.f), short) > _MISSED * seen.error
        newton_leads = task.mass < LISTS_LEAD and (seen.error <= _LISTED or not off_list)
        done = seen.error <= task.tolerance or not course.sweeps_left
        if done or newton_leads or course.settled(dual, seen, at.curvature):
            break
        if off_list:
            short = _kept(course, _shortlist(course, seen.f, sizes, rng), seen.g)
        short = _around(course, short, seen.g)
        at = _tilted(course, short, seen, None if off_list else (at.point, own))
        seen, own = _seen(course, dual, at.point.g), at.point.sweep.q
    return course.ascended("pool", dual, seen, task.tolerance, kept=at.curvature, want_f=True)


def _seen(course: Course, dual: Dual, g: NDArray[np.float64]) -> Point:
    """Look at the pool, with a Gram where Newton's steps and not lists are to lead on."""
    gram = course.task.mass < LISTS_LEAD and gram_pays(len(g), dual.rows.d, dual.rows.n)
    return course.look("pool", dual, g, gram=gram, want_f=True)


def _tilted(course: Course, short: Shortlist, seen: Point, known: tuple[Point, NDArray[np.float64]] | None) -> Ascent:
    """Solve on a shortlist, tilted to the gradient that the pool was seen to have.

    ``known``: the list near there, and what its columns hold where the pool was seen.
    """
    task, dual = course.task, course.dual(short.rows, course.task.mass)
    if known is None:
        gram = gram_pays(len(seen.g), dual.rows.d, dual.rows.n)
        point = course.look("shortlist", dual, seen.g, gram=gram, want_f=True, rough=dual.bears_rounding)
        known = point, point.sweep.q
    point, own = known
    dual = dual.tilted(own, seen.sweep.q)
    start = dual.point(point.g, point.sweep, point.f, rough=point.rough)
    tolerance = max(_LIST_LEAVES * seen.error, _LEFT_AT_MOST * task.tolerance)
    return course.ascended(
        "shortlist", dual, start, tolerance, LOOKS_AT_A_PART, rough="always", own_gram=True, want_f=True
    )
