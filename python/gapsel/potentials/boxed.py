"""At a mass above 0: on a shortlist, then on the pool, and back to a list made there as often as that leads on.

Where the pool's plan can be kept, that takes the place of the second list (planned.py).

The rows that a selection could choose lie among the lowest f of plain transport, or of the solution for another k: the
shortlist has these, and a weighted sample stands for the rest. On the list eta falls to its value. Where the pool is
seen then, a list by the f it has there needs fewer of the lowest and can have more of the rest; tilted to the pool's
gradient, and solved by its own plan, it leaves about a twentieth of the pool's error.

The measurements behind the constants are in docs/method.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials.ascent import ahead, first_has_gram, gram_pays
from gapsel.potentials.caps import best_prices
from gapsel.potentials.course import LOOKS_AT_A_PART
from gapsel.potentials.planned import first_kept, solved_by_plan
from gapsel.potentials.rows import Shortlist
from gapsel.potentials.sizes import ListSizes, missed_mass, shortlist_sizes, sizes_by_plain, sizes_nearby

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.potentials.ascent import Ascent, Rough
    from gapsel.potentials.course import Course
    from gapsel.potentials.dual import Dual, Point
    from gapsel.potentials.rows import Rows
    from gapsel.potentials.task import Start

# A pool that was seen is followed by a list that is made there; a later one is made anew where rows off the list take
# part in the selection, by more than _MISSED of the error. It is solved to a quarter of the tolerance, or to what it
# leaves of the pool's error at any rate, where others stand for rows that carry mass. A look with more than _LEADS_ON
# of the error before ends that. Tried: Newton's steps with the pool's Gram instead, below a mass of 0.6: it makes a
# sweep half as long again, and on clouds at eps .005 to .02 of the mean cost they need up to five times as many.
_ROUNDS = 12
_MISSED = 0.3
_LIST_LEAVES, _LEFT, _LEADS_ON = 0.01, 0.25, 0.9
# From this mass the rows that are chosen bend the dual more than those that are not, and sharply: each look at the
# pool's plan is to have a Gram of its own, as at lists, which are few rows.
OWN_GRAMS = 0.6
# From the solution for another k eta falls through so many of its last values. Tried: through one or two of them takes
# more looks at the list at a mass of 1, or at the pool at 0.5; and so does a list that is solved less well.
_ETAS_AGAIN = 3
# An eta that falls on, and the first list, are solved to this, and go one step further, which the next stage looks at.
# Tried: such a step from a list that was solved again: the pool's error stayed at 2e-3, for it is the list's own last
# digits that count there. A list's Gram at the first look of each eta and after slow ones alone: more looks in all.
_ETA_ON_THE_WAY, _LIST_ON_THE_WAY = 0.25, 5e-2
# The first list is left no sooner than each column has this share of what it is to hold. What serves a column that has
# next to nothing lies deep in the order of f, off the list that is made next; that took whatever was near, and the pool
# then had up to 25 times of what it should (mass 1). 24 solves (400,000 documents, masses of 0.5 and 1) took 80 sweeps
# in place of 84. Tried: a tenth or a third of it, 82 and 81.
_FED = 0.5
# How often the plan of a list is kept anew at the last eta.
_PLANS = 4


def from_plain(course: Course, plain: Point, rng: np.random.Generator) -> Ascent:
    """Go on from plain transport to the mass that is asked for."""
    task, g, f, sizes = course.task, plain.g, plain.f, _list_sizes(course)
    if sizes.dense + sizes.extra >= task.rows.n:
        return sharpened(course, "pool", task.rows, g, f, tolerance=task.tolerance)
    return _on_pool(course, _on_list(course, f, g, sizes, rng), rng)


def from_another_k(course: Course, start: Start, rng: np.random.Generator) -> Ascent:
    """Go on from the solution for another k, by a shortlist that is tilted by what it lacks of the pool there.

    That is known without a look at the pool, which at a solution holds b in its columns; and it is nearly the same for
    this k, since the box of the rows that the list only stands for does not change but for its top.
    """
    task, f, sizes = course.task, start.f, _list_sizes(course)
    if sizes.dense + sizes.extra >= task.rows.n:
        return sharpened(course, "pool", task.rows, start.g, f, tolerance=task.tolerance, tilt=0.0)
    short = _kept(course, _shortlist(course, f, sizes, rng), start.g)
    there = replace(short.rows, capacity=short.rows.capacity * (task.k / start.k))
    dual = course.dual(there, task.mass)
    own = course.look("shortlist", dual, start.g, rough=dual.bears_rounding)
    tilt = dual.tilted(own.sweep.q, task.target.b).tilt
    at = sharpened(course, "shortlist", short.rows, start.g, f[short.index], tolerance=task.tolerance, tilt=tilt)
    return _on_pool(course, at, rng)


def sharpened(
    course: Course,
    stage: str,
    rows: Rows,
    g: NDArray[np.float64],
    f: NDArray[np.float32],
    *,
    tolerance: float,
    fed: float = 0.0,
    tilt: NDArray[np.float64] | float | None = None,
) -> Ascent:
    """Solve on these rows from a g (m,) with f (n,) there, while eta falls to its value; ``fed``: see ascend.

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
    at = _at_last(course, stage, dual, g + dual.threshold(f) - level, tolerance=tolerance, fed=fed)
    for _ in range(_PLANS):
        if dual.is_far(at.point.g):
            dual = replace(dual, rows=_near(course, stage, dual, at.point.g))
            at = _at_last(course, stage, dual, at.point.g, tolerance=tolerance, fed=fed)
    return at


def _at_last(course: Course, stage: str, dual: Dual, g: NDArray[np.float64], *, tolerance: float, fed: float) -> Ascent:
    """Solve at the last eta."""
    whole = stage == "pool"
    limit = course.task.max_sweeps if whole else LOOKS_AT_A_PART
    return course.ascended(
        stage, dual, g, tolerance, limit, rough="first" if whole else "always", own_gram=True, fed=fed, want_f=True
    )


def _near(course: Course, stage: str, dual: Dual, g: NDArray[np.float64]) -> Rows:
    """Return the rows, their plan kept anew where the one they have is too far from g (m,)."""
    return course.kept(stage, dual, g, rough=dual.bears_rounding)[1].rows if dual.is_far(g) else dual.rows


def _list_sizes(course: Course, *, nearby: bool = False) -> ListSizes:
    """Return the sizes of the list by the f of mass 0, or by one near the solution."""
    rows, task = course.task.rows, course.task
    sizes = sizes_nearby if nearby else sizes_by_plain
    # Of a base there are as many rows as for the rest.
    room = course.most_kept // 2 if rows.base else course.most_kept
    return sizes(rows.pool_rows, len(task.target.b), rows.k, task.mass, room)


def _shortlist(course: Course, f: NDArray[np.float32], sizes: ListSizes, rng: np.random.Generator) -> Shortlist:
    """Return the list by f (n,) and, under caps, by the prices that are best there."""
    task, rows = course.task, course.task.rows
    if rows.caps:
        prices = best_prices(rows.caps, rows.priced(f), task.box(), task.mass, moves=True)
        f = (f + prices.rows).astype(np.float32)
    return rows.shortlist(f, sizes.lowest, sizes.extra, rng, dense=sizes.dense)


def _kept(course: Course, short: Shortlist, g: NDArray[np.float64]) -> Shortlist:
    """Return the list with its plan at g (m,), where it can be kept."""
    dual = course.dual(short.rows, course.task.mass)
    if not dual.keeps:
        return short
    return replace(short, rows=course.kept("shortlist", dual, g, rough=dual.bears_rounding)[1].rows)


def listed(course: Course, f: NDArray[np.float32], rng: np.random.Generator) -> Shortlist:
    """Return the shortlist by f (n,), its lowest rows as they are, or all rows where it would have them."""
    task, rows = course.task, course.task.rows
    lowest, extra = shortlist_sizes(rows.pool_rows, len(task.target.b), rows.k, task.mass)
    if lowest + extra < rows.n:
        return _shortlist(course, f, ListSizes(lowest, lowest, extra), rng)
    everything = np.arange(rows.n)
    return Shortlist(rows, everything, everything[: rows.pool_rows])


def _on_list(
    course: Course, f: NDArray[np.float32], g: NDArray[np.float64], sizes: ListSizes, rng: np.random.Generator
) -> Ascent:
    """Solve on the list by the f (n,) of mass 0 at g (m,)."""
    short = _kept(course, _shortlist(course, f, sizes, rng), g)
    return sharpened(course, "shortlist", short.rows, g, f[short.index], tolerance=_LIST_ON_THE_WAY, fed=_FED)


def _on_pool(course: Course, at: Ascent, rng: np.random.Generator) -> Ascent:
    """Go on from a point solved for on a shortlist, by the pool's plan, where it can be kept, or by lists."""
    dual = course.dual(course.task.rows, course.task.mass)
    g = ahead(dual, at)
    if dual.keeps:
        own_gram = course.task.mass >= OWN_GRAMS or bool(course.task.rows.caps)
        return solved_by_plan(course, *first_kept(course, dual, g), own_gram=own_gram)
    return _by_lists(course, dual, g, rng)


def _by_lists(course: Course, dual: Dual, g: NDArray[np.float64], rng: np.random.Generator) -> Ascent:
    """Look at the pool at g (m,), and go back to a list made there as often as that leads on."""
    task = course.task
    # What is seen first only makes a list, and tilts it.
    seen = course.look("pool", dual, g, want_f=True, rough=dual.bears_rounding and course.sweeps_left > 1)
    short: Shortlist | None = None
    at: Ascent | None = None
    before = np.inf
    for _ in range(_ROUNDS):
        done = (seen.error <= task.tolerance and not seen.rough) or not course.sweeps_left
        done = done or (at is not None and course.settled(dual, seen, at.curvature))
        if done or seen.error > _LEADS_ON * before:
            break
        known = None if at is None else at.point
        if short is None or missed_mass(dual.taken(seen.f), short) > _MISSED * seen.error:
            # The old one goes before the new one is made.
            short, known = None, None
            short = _shortlist(course, seen.f, _list_sizes(course, nearby=True), rng)
        at, before = _tilted(course, short, seen, known), seen.error
        seen = course.look("pool", dual, at.point.g, want_f=True)
    curvature = None if at is None else at.curvature
    return course.ascended("pool", dual, seen, task.tolerance, kept=curvature, want_f=True)


def _tilted(course: Course, short: Shortlist, seen: Point, known: Point | None) -> Ascent:
    """Solve on a shortlist, tilted to the gradient that the pool was seen to have.

    ``known``: the list where the pool was seen, if it was looked at there.
    """
    task, dual = course.task, course.dual(replace(short.rows, kept=None), course.task.mass)
    tolerance = max(_LIST_LEAVES * (1.0 - task.mass) * seen.error, _LEFT * task.tolerance)
    if dual.keeps:
        return _by_plans(course, dual, seen, tolerance)
    if known is None or known.rough != seen.rough:
        gram = gram_pays(len(seen.g), dual.rows.d, dual.rows.n)
        known = course.look("shortlist", dual, seen.g, gram=gram, want_f=True, rough=seen.rough)
    dual = dual.tilted(known.sweep.q, seen.sweep.q)
    start = dual.point(known.g, known.sweep, known.f, rough=known.rough)
    rough: Rough = "always" if seen.rough else "never"
    return course.ascended(
        "shortlist", dual, start, tolerance, LOOKS_AT_A_PART, rough=rough, own_gram=True, want_f=True
    )


def _by_plans(course: Course, dual: Dual, seen: Point, tolerance: float) -> Ascent:
    """Solve on a shortlist, tilted, by its plan where the pool was seen, and by new ones where that is too far.

    Costs only close, not rough: rounded to bfloat16 a list that was solved to 5e-4 left the pool at up to 2.6e-3.
    """
    there, near = course.kept("shortlist", dual, seen.g, close=dual.bears_closeness)
    # What was seen of rounded vectors is compared with the list's, rounded alike.
    like = course.look("shortlist", dual, seen.g, rough=True) if seen.rough else there
    dual = dual.tilted(like.sweep.q, seen.sweep.q)
    at = _by_plan(course, dual, there, near, tolerance)
    for _ in range(_PLANS):
        if not near.is_far(at.point.g):
            break
        there, near = course.kept("shortlist", dual, at.point.g, close=dual.bears_closeness)
        at = _by_plan(course, dual, there, near, tolerance)
    return at


def _by_plan(course: Course, dual: Dual, there: Point, near: Dual, tolerance: float) -> Ascent:
    """Solve on a list, tilted as ``dual`` is, by its plan, kept at a point that was ``there``."""
    there, near = dual.point(there.g, there.sweep, there.f, rough=there.rough), replace(near, tilt=dual.tilt)
    own = course.look("shortlist", near, there.g, gram=first_has_gram(near, own_gram=True), want_f=True)
    near, start = near.corrected(own, there)
    return course.ascended("shortlist", near, start, tolerance, LOOKS_AT_A_PART, own_gram=True, want_f=True)
