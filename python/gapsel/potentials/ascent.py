"""The loop that maximises the dual on one set of rows, written once for samples, shortlists and the whole pool.

Each pass is one sweep at a trial g. A step is taken when D rises; a rejected one still teaches a secant. After some
rejections in a row comes Sinkhorn's step, which cannot lower D. The loop ends at the tolerance, at the limit of sweeps,
or when the backend's precision can no longer tell a rise from noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials.curvature import LONGEST_STEP, Curvature

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.potentials.dual import Dual, Point

# A slower fall of the error than this asks for a fresh Gram.
_SLOW = 0.3
# A Gram costs n m^2, a sweep 2 n m d and the exponentials, which cost as much as some 32 more dimensions. A Gram of
# more than 4 sweeps costs more than the sweeps it saves, and a very large one cannot be solved with: secants do alone.
_EXPONENTIALS = 32
_DEAR_GRAM = 8
_LARGEST_GRAM = 6144
# After so many rejections in a row Sinkhorn's step is tried, and after so many the loop gives up.
_SINKHORN_TURNS = (3, 5)
_REJECTIONS = 6
# Sinkhorn's steps go on while some column holds less than exp(-this) of its mass: Newton's would be far too long.
_STARVED = 0.5


@dataclass(frozen=True, slots=True)
class Ascent:
    """Where a run of the loop ended: the best point, the curvature it leaves, the sweeps it took."""

    point: Point
    curvature: Curvature | None
    sweeps: int


def ascend(
    dual: Dual,
    start: NDArray[np.float64] | Point,
    *,
    tolerance: float,
    max_sweeps: int,
    curvature: Curvature | None = None,
    fresh: bool = True,
    scaling_steps: int = 0,
    want_f: bool = False,
    watch: Callable[[Point], None] | None = None,
) -> Ascent:
    """Raise D from ``start``, a g (m,) or a point already looked at.

    It ends when the marginal error is at most ``tolerance``, or after ``max_sweeps`` sweeps.

    ``curvature`` is what is known of the Hessian, to be corrected by secants. ``fresh`` allows sweeps to carry their
    own Gram: each of them where nothing is known yet and a Gram is cheap, else those after slow progress.
    ``scaling_steps`` is how many of Sinkhorn's steps may come first. ``watch`` is called with every point looked at.
    """
    loop = _Loop(dual, curvature, fresh=fresh, want_f=want_f, watch=watch)
    here = loop.look(start, gram=curvature is None) if isinstance(start, np.ndarray) else start
    for _ in range(scaling_steps):
        if here.error <= tolerance or not _starved(dual, here) or loop.sweeps >= max_sweeps:
            break
        here = loop.look(here.g + dual.scaling_step(here))
    while here.error > tolerance and loop.sweeps < max_sweeps and not loop.stuck:
        here = loop.advance(here)
    loop.absorb(here)
    return Ascent(here, loop.curvature, loop.sweeps)


def _starved(dual: Dual, point: Point) -> bool:
    return bool((point.sweep.q < dual.target.b * np.exp(-_STARVED)).any())


class _Loop:
    """The state of one ascent between two sweeps."""

    def __init__(
        self,
        dual: Dual,
        curvature: Curvature | None,
        *,
        fresh: bool,
        want_f: bool,
        watch: Callable[[Point], None] | None,
    ) -> None:
        self.dual = dual
        self.curvature = curvature
        self.sweeps = 0
        m, d = len(dual.target.b), dual.rows.d
        self._fresh = fresh and m <= min(_DEAR_GRAM * (d + _EXPONENTIALS), _LARGEST_GRAM)
        # Where a Gram is the dearer of the two, or the Hessian is known, it waits until progress is slow.
        self._every_gram = m <= 2 * d and curvature is None
        self._contraction = 1.0 if curvature is None else 0.0
        self._rejected = 0
        self._want_f = want_f
        self._watch = watch

    @property
    def stuck(self) -> bool:
        """Whether steps are refused again and again: the value has met its noise."""
        return self._rejected > _REJECTIONS

    def look(self, g: NDArray[np.float64], *, gram: bool = False) -> Point:
        """Make one sweep."""
        point = self.dual.at(g, gram=gram and self._fresh, want_f=self._want_f)
        self.sweeps += 1
        if self._watch is not None:
            self._watch(point)
        return point

    def advance(self, here: Point) -> Point:
        """Try one step from here; return where the loop stands after it."""
        self.absorb(here)
        curvature = None if self._rejected in _SINKHORN_TURNS else self.curvature
        step = self.dual.scaling_step(here) if curvature is None else self._newton_step(here, curvature)
        there = self.look(here.g + step, gram=self._every_gram or self._contraction > _SLOW)
        return self._judge(here, there, step, newton=curvature is not None)

    def absorb(self, here: Point) -> None:
        """Take over the Gram that an accepted point carries; begin without one where there is none."""
        if self.curvature is None:
            self.curvature = Curvature.of(self.dual, here, damping=1e-6 if self.dual.box.is_fixed else 1e-2)
        elif here.sweep.gram is not None and not self._rejected:
            self.curvature.renew(self.dual, here)

    def _newton_step(self, here: Point, curvature: Curvature) -> NDArray[np.float64]:
        step = self.dual.centred(curvature.step(here.gradient))
        longest = float(np.abs(step).max()) / (LONGEST_STEP * self.dual.eps)
        return step / longest if longest > 1.0 else step

    def _noise(self, here: Point) -> float:
        """Return what D may be wrong by: a share of what it is summed from, so that the unit of the cost is free."""
        size = abs(here.value) + float(self.dual.target.b @ np.abs(here.g)) + self.dual.eps
        return self.dual.backend.resolution * size

    def _judge(self, here: Point, there: Point, step: NDArray[np.float64], *, newton: bool) -> Point:
        slope = float(here.gradient @ step)
        rise, noise = there.value - here.value, self._noise(here)
        if self.curvature is not None:
            if there.sweep.gram is None:
                self.curvature.learn(step, there.sweep.q - here.sweep.q)
            if newton and slope > noise:
                self.curvature.trust(rise / (0.5 * slope))
        better = there.error < here.error
        if rise > max(1e-4 * slope, noise) or (better and abs(rise) <= noise):
            self._contraction = there.error / here.error
            self._rejected = 0
            return there
        self._contraction = 1.0
        self._rejected += 1
        return here
