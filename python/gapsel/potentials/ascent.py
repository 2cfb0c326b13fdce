"""The loop that maximises the dual on one set of rows, written once for samples, shortlists and the whole pool.

Each pass is one sweep at a trial g. A step is taken when D rises; after some rejections in a row comes Sinkhorn's
step, which cannot lower D. The loop ends at the tolerance, at the limit of sweeps,
or when the backend's precision can no longer tell a rise from noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from gapsel.potentials.curvature import Curvature

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.potentials.dual import Dual, Point

Rough = Literal["never", "first", "always"]

# A slower fall of the error than this asks for a fresh Gram; on a kept plan, where a Gram costs as much as some three
# looks, one that would take more than so many looks to the tolerance. There secants help the Gram on
# (eps .01 of the mean cost: 8 looks, 11 without), and a fall is seldom slow twice.
_SLOW, _GRAM_IN_LOOKS = 0.3, 10
# What a first step leaves of the error; later ones are taken to do as the one before. Looks that should be the last
# ones, by a margin, need no Gram.
_GOOD_STEP, _SURE = 0.08, 0.5
# A Gram costs m^2 a row, of about 32 m rows at most, a sweep 2 m d a row and the exponentials, which cost as much as
# some 32 more dimensions. A Gram of more than 4 sweeps costs more than the sweeps it saves, and a very large one takes
# much memory: secants do alone. So with 4,000 targets and 384 dimensions a sample has none, and a large pool has.
# Tried: to hold one of 8 or 16 sweeps worth it. Of four solves of 4,000 and 5,000 targets three took twice as long.
# Tried for many targets: the Gram of clusters of them (k-means, ten targets each) as a coarse space within H_mu. Rows
# tell the targets of a cluster apart: not one sweep less at m = 8000.
_EXPONENTIALS = 32
_DEAR_GRAM = 8
_GRAM_ROWS, GRAM_ROWS_OF_PLAN = 32, 16
_LARGEST_GRAM = 6144
# After so many rejections in a row Sinkhorn's step is tried, and after so many the loop gives up.
_SINKHORN_TURNS = (3, 5)
_REJECTIONS = 6
# A kept plan where each look has its Gram is left within so many times the tolerance when a step is refused: such plans
# are asked for a quarter of what is wanted of the vectors, and what they round is as much.
_NEARLY = 2.0
# After so many looks columns that still hold too little end it no later.
_LOOKS_TO_FEED = 12


@dataclass(frozen=True, slots=True)
class Ascent:
    """Where a run of the loop ended: the best point, the curvature it leaves, the sweeps it took.

    ``seen``: the last point that was seen of the vectors, where ``point`` is only of a plan that was kept there.
    """

    point: Point
    curvature: Curvature
    sweeps: int
    seen: Point | None = None


def ascend(
    dual: Dual,
    start: NDArray[np.float64] | Point,
    *,
    tolerance: float,
    max_sweeps: int,
    curvature: Curvature | None = None,
    rough: Rough = "never",
    own_gram: bool = False,
    fed: float = 0.0,
    stop: Callable[[Point, Curvature], bool] | None = None,
    want_f: bool = False,
    watch: Callable[[Point], None] | None = None,
) -> Ascent:
    """Raise D from ``start``, a g (m,) or a point already looked at.

    It ends when the marginal error is at most ``tolerance`` and each column has at least the share ``fed`` of what it
    is to hold, after ``max_sweeps`` sweeps, or when ``stop`` says so of a point and the curvature there.

    ``curvature`` is what is known of the Hessian. A sweep carries a Gram of its own, where that pays, unless it should
    be the last; then the step after it, if there is one, goes by the Gram before. Far from the solution of a boxed
    problem that is not enough: with ``own_gram`` every sweep carries one. Of a kept plan without it, only
    the first sweep does and those after a slow one. ``rough`` says which sweeps may be rough;
    where only the "first" may, the point that it ends with is exact. ``watch`` is called with every point looked at.
    """
    rough = "never" if not dual.bears_rounding or (rough == "first" and max_sweeps == 1) else rough
    loop = _Loop(
        dual, curvature, tolerance, rough=rough, own_gram=own_gram, fed=fed, stop=stop, want_f=want_f, watch=watch
    )
    here = loop.look(start, gram=True) if isinstance(start, np.ndarray) else start
    while loop.sweeps < max_sweeps and not loop.done(here):
        here = loop.advance(here)
    if loop.unsure(here):
        here = loop.look(here.g)
    return Ascent(here, loop.absorb(here), loop.sweeps)


def gram_pays(m: int, d: int, n: int) -> bool:
    """Whether the Gram (m, m) of a sweep of n rows is worth what it costs beside d dimensions; 0 of a kept plan."""
    share = min(1.0, (_GRAM_ROWS if d else GRAM_ROWS_OF_PLAN) * m / n)
    return m <= _LARGEST_GRAM and share * m <= _DEAR_GRAM * (d + _EXPONENTIALS)


def first_has_gram(dual: Dual, *, own_gram: bool) -> bool:
    """Whether the first look of an ascent has a Gram; see `ascend`."""
    cheap = dual.rows.kept is not None and not own_gram
    return gram_pays(len(dual.target.b), 0 if cheap else dual.rows.d, dual.rows.n)


class _Loop:
    """The state of one ascent between two sweeps."""

    def __init__(
        self,
        dual: Dual,
        curvature: Curvature | None,
        tolerance: float,
        *,
        rough: Rough,
        own_gram: bool,
        fed: float,
        stop: Callable[[Point, Curvature], bool] | None,
        want_f: bool,
        watch: Callable[[Point], None] | None,
    ) -> None:
        self.dual = dual
        self.curvature = curvature
        self.sweeps = 0
        self._stop = stop
        self._tolerance = tolerance
        # What is cheap beside a Gram is looked at more often instead.
        self._cheap = dual.rows.kept is not None and not own_gram
        self._gram_pays = first_has_gram(dual, own_gram=own_gram)
        self._rough = rough
        self._own_gram = own_gram
        self._fed = fed
        self._slow = False
        self._rate = _GOOD_STEP
        self._rejected = 0
        self._want_f = want_f
        self._watch = watch

    def done(self, here: Point) -> bool:
        """Whether the tolerance is met, for certain, or steps are refused again and again: D has met its noise."""
        met = self._meets(here) or self._rejected > _REJECTIONS or self._stalled(here)
        met = met or (self._stop is not None and self._stop(here, self.absorb(here)))
        return met and not self.unsure(here)

    def _meets(self, here: Point) -> bool:
        """Whether a point has what is asked for."""
        hungry = self.sweeps < _LOOKS_TO_FEED and bool((here.sweep.q < self._fed * here.columns).any())
        return here.error <= self._tolerance and not hungry

    def _stalled(self, here: Point) -> bool:
        """Whether a step at a kept plan was refused so near the tolerance that its rounding may be what is left."""
        at_plan = self.dual.rows.kept is not None and self._own_gram
        return at_plan and self._rejected > 0 and here.error <= _NEARLY * self._tolerance

    def unsure(self, here: Point) -> bool:
        """Whether only a rough look was taken where an exact one is due, if need be beyond the limit of sweeps."""
        return here.rough and self._rough == "first"

    def look(self, g: NDArray[np.float64], *, gram: bool = False) -> Point:
        """Make one sweep at g."""
        rough = self._rough == "always" or (self._rough == "first" and self.sweeps == 0)
        point = self.dual.at(g, gram=gram and self._gram_pays, want_f=self._want_f, rough=rough)
        self.sweeps += 1
        if self._watch is not None:
            self._watch(point)
        return point

    def advance(self, here: Point) -> Point:
        """Try one step from here, or look closer; return where the loop stands after it."""
        if self._meets(here) or self._rejected > _REJECTIONS:
            return self.look(here.g)
        known = self.absorb(here)
        curvature = None if self._rejected in _SINKHORN_TURNS else known
        step = self.dual.scaling_step(here) if curvature is None else newton_step(self.dual, here, curvature)
        gram = self._slow or self._own_gram
        gram = gram or (not self._cheap and self._left_without_gram(here) > _SURE * self._tolerance)
        there = self.look(here.g + step, gram=gram)
        return self._judge(here, there, step, newton=curvature is not None)

    def _left_without_gram(self, here: Point) -> float:
        """Return the error that the last look is to leave, if the next one has no Gram.

        With fixed row masses the step after it does nearly as well by the Gram before; where rows fill, it does not.
        """
        return here.error * self._rate ** (2 if self.dual.box.is_fixed else 1)

    def absorb(self, here: Point) -> Curvature:
        """Take over the Gram that an accepted point carries; begin without one where there is none."""
        if self.curvature is None:
            self.curvature = Curvature.of(self.dual, here, damping=1e-6 if self.dual.box.is_fixed else 1e-2)
        elif here.sweep.gram is not None and not self._rejected:
            self.curvature.renew(self.dual, here)
        return self.curvature

    def _noise(self, here: Point) -> float:
        """Return what D may be wrong by: a share of what it is summed from, so that the unit of the cost is free."""
        size = abs(here.value) + float(self.dual.target.b @ np.abs(here.g)) + self.dual.eps
        return self.dual.backend.resolution * size

    def _judge(self, here: Point, there: Point, step: NDArray[np.float64], *, newton: bool) -> Point:
        self._rate = there.error / here.error
        self._slow = self._rate > _SLOW
        if self._cheap:
            self._slow = there.error * self._rate**_GRAM_IN_LOOKS > self._tolerance
        if here.rough and not there.rough:
            # Rounded vectors are a problem of their own, whose D says nothing about this one.
            return there
        slope = float(here.gradient @ step)
        rise, noise = there.value - here.value, self._noise(here)
        if self.curvature is not None:
            # Tried beside a Gram of vectors: what a secant adds to its inverse is large where it is nearly singular. On
            # the last look it turned an error of 1.3e-3 into 5.4e-3, where the Gram alone leads to 6e-4.
            if self.curvature.gram is None or self._cheap:
                answer = (there.sweep.q - here.sweep.q) - (there.columns - here.columns)
                self.curvature.learn(step, answer)
            if newton and slope > noise:
                self.curvature.trust(rise / (0.5 * slope), step)
        better = there.error < here.error
        if rise > max(1e-4 * slope, noise) or (better and abs(rise) <= noise):
            self._rejected = 0
            return there
        self._slow = True
        self._rejected += 1
        return here


def newton_step(dual: Dual, here: Point, curvature: Curvature) -> NDArray[np.float64]:
    """Return the step (m,) that the curvature asks for."""
    return dual.centred(curvature.step(here.gradient))


def ahead(dual: Dual, reached: Ascent) -> NDArray[np.float64]:
    """Return the g (m,) one more step on, which nobody has looked at: the next stage will."""
    return reached.point.g + newton_step(dual, reached.point, reached.curvature)


def promised_rise(dual: Dual, here: Point, curvature: Curvature) -> float:
    """Return what Newton's step promises to raise D by, to first order: about twice what it does."""
    return float(here.gradient @ newton_step(dual, here, curvature))
