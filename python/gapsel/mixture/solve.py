"""From nothing to certified weights of the domains, in few sweeps of the whole pool.

    1. the pool as it is: plain transport on a sample, one sweep of all rows: what there is to gain from
    2. a sample of each domain, first of all alike, then by the weights found: the best mixture of each
    3. all rows at its g and weights: the certificate; then the sample again, given the gradient that they have

F being the regularised distance to the target, every g bounds it by the means F_d(g) of f in the domains:

    F(any mixture) >= <b, g> + min_w <w, F(g)>          F(w) >= <b, g> + <w, F(g)>

The right side of the latter, with what more sweeps would add to it by the sample, is F(w); the gap is what that lies
above the former.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.findings import Certificate
from gapsel.mixture.sample import BY_WEIGHT, EVEN, SWEEPS_OF_A_STEP, noise, plain_start, sampled, settled
from gapsel.mixture.simplex import Rule, lowest
from gapsel.potentials import Dual, ascend, promised_rise
from gapsel.potentials.ascent import gram_pays
from gapsel.records import Box

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.mixture.dual import MixtureDual
    from gapsel.mixture.problem import Problem
    from gapsel.mixture.sample import Solved
    from gapsel.potentials import Point, Rows

# A gap of so many per cent of what is attainable is small enough, and so is one of so little of the distance itself.
PERCENT, OF_DISTANCE = 0.5, 1e-5
# The samples are solved to this part of that; the first, which only says how to draw the second, to so many times more.
_ON_THE_WAY, _ROUGHLY = 0.02, 100.0
_MOST_LOOKS = 8
# What is left of a domain that takes no part, after a few proximal steps.
_NOTHING = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Mixed:
    """The best mixture: weights (u,), and what is known of it.

    ``slopes`` (u,) is F_d less that of the mixture: how the distance changes with a little more of a domain; about 0
    where a weight lies between its bounds, above where it is 0, below where it is at its largest. ``certificate`` is as
    a selection's, with all mixtures in the place of all choices. ``f`` (n,) are the potentials at ``g`` (m,);
    ``sweeps`` those of the whole pool. ``converged``: the gap is small enough.
    """

    weights: NDArray[np.float64]
    slopes: NDArray[np.float64]
    certificate: Certificate
    marginal_error: float
    converged: bool
    sweeps: int
    eps: float
    g: NDArray[np.float64]
    f: NDArray[np.float32]


def mix(problem: Problem, backend: Backend, watch: Callable[[], None] | None = None) -> Mixed:
    """Find the weights; not converging is said in the result. ``watch`` is told of every sweep of the pool."""
    return Mixer(problem, backend, watch).run()


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """All rows at one g and w (u,): the point, F (u,), w's own distance, and the part of it that is only promised."""

    w: NDArray[np.float64]
    point: Point
    means: NDArray[np.float64]
    after: float
    rest: float


def _tilted(solved: Solved, whole: _Look) -> MixtureDual:
    """Return the sample's dual with the gradient of all rows, in g and in w, which were looked at here."""
    dual, own = solved.dual, solved.sweep
    plain = dual.at_weights(solved.w)
    tilt = plain.tilted(own.q, whole.point.sweep.q).tilt
    return replace(dual, rule=replace(dual.rule, ref=solved.w), tilt=tilt, offset=whole.means - own.means)


@dataclass(slots=True, eq=False)
class Mixer:
    """One problem on its way; ``bound`` is the highest that is known."""

    problem: Problem
    backend: Backend
    watch: Callable[[], None] | None
    sweeps: int = 0
    bound: float = -np.inf

    def run(self) -> Mixed:
        """Go through all stages; see mix."""
        p, rng = self.problem, np.random.default_rng(self.problem.seed)
        before = self._pool_itself(rng)
        enough = _ON_THE_WAY * self._small(before, self.bound)
        w, fine = Rule(p.domains.natural, p.hi, p.eps).weights(np.zeros(p.domains.u)), 0.3 * p.tolerance
        sample = sampled(p, self.backend, rng, size=EVEN, by=np.full(p.domains.u, 1.0 / p.domains.u), ref=w)
        solved = settled(sample, before.point.g, _ROUGHLY * enough, noise(p, sample.rows.n))
        sample = sampled(p, self.backend, rng, size=BY_WEIGHT, by=solved.w, ref=solved.w)
        solved = settled(sample, solved.point.g, enough, fine)
        best = last = self._look(solved)
        while not self._enough(best, before) and self.sweeps < min(p.max_sweeps, _MOST_LOOKS):
            enough = _ON_THE_WAY * self._small(before, last.after)
            solved = settled(_tilted(solved, last), solved.point.g, enough, fine)
            last = self._look(solved)
            best = min(best, last, key=lambda look: look.after)
        return self._told(best, before)

    def _without_rests(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return w (u,) without the weights that mean nothing, unless the others have no room for them."""
        kept = np.where(w > _NOTHING, w, 0.0)
        kept /= kept.sum()
        return kept if (kept <= self.problem.hi).all() else w

    def _pool_itself(self, rng: np.random.Generator) -> _Look:
        """Look at all rows as the pool weighs them, at a g that a sample of them gave."""
        p = self.problem
        g = plain_start(p, self.backend, rng)
        point, means = self.swept(p.domains.natural, g)
        return _Look(p.domains.natural, point, means, point.value, 0.0)

    def _look(self, solved: Solved) -> _Look:
        """Read all rows at what a sample gave, and say by the sample what more sweeps at these weights would find."""
        w = self._without_rests(solved.w)
        point, means = self.swept(w, solved.point.g)
        rest = self.rest(solved.dual.at_weights(w), point)
        return _Look(w, point, means, point.value + rest, rest)

    def rest(self, sample: Dual, seen: Point) -> float:
        """Return what more sweeps of all rows at these weights would raise the dual by beyond the point that was seen.

        The sample at these weights, given the gradient of all rows, is raised from there, and what Newton's step still
        promises is added. A first step's promise alone would not do: near a kink it goes much further. Nor would that
        of a step held back: a little mass that is missing far away is missed along the whole way.
        """
        tolerance = 0.3 * self.problem.tolerance
        gram = gram_pays(len(seen.g), sample.rows.d, sample.rows.n)
        own = sample.at(seen.g, gram=gram, rough=sample.bears_rounding)
        tilted = sample.tilted(own.sweep.q, seen.sweep.q)
        start = tilted.point(own.g, own.sweep, own.f, rough=own.rough)
        reached = ascend(
            tilted, start, tolerance=0.0, max_sweeps=SWEEPS_OF_A_STEP, rough="always", own_gram=True,
            stop=lambda here, curvature: here.error <= tolerance and curvature.is_free(here.gradient),
        )  # fmt: skip
        promised = promised_rise(tilted, reached.point, reached.curvature)
        return max(0.0, reached.point.value - start.value) + max(0.0, promised)

    def swept(self, w: NDArray[np.float64], g: NDArray[np.float64]) -> tuple[Point, NDArray[np.float64]]:
        """Read all rows once, in the mixture w (u,) at g (m,); return the point and F (u,)."""
        p = self.problem
        point = self._dual(p.domains.rows(w)).at(g, want_f=True)
        means = p.domains.means(point.f)
        self.bound = max(self.bound, float(p.target.b @ g) + lowest(means, p.hi))
        self.sweeps += 1
        if self.watch is not None:
            self.watch()
        return point, means

    def _dual(self, rows: Rows) -> Dual:
        p = self.problem
        return Dual(self.backend, rows, p.target, Box.fixed(rows.a), p.eps, p.cost)

    def _small(self, before: _Look, now: float) -> float:
        """Return the gap that is small enough, where the distance is ``before`` and about ``now``."""
        return max(0.01 * PERCENT * (before.after - now), OF_DISTANCE * abs(before.after))

    def _enough(self, look: _Look, before: _Look) -> bool:
        return look.after - self.bound <= self._small(before, look.after)

    def _told(self, best: _Look, before: _Look) -> Mixed:
        gap, attainable = max(0.0, best.after - self.bound), before.after - self.bound
        percent = 100.0 * min(1.0, gap / attainable) if attainable > 0 else 100.0 * (gap > 0)
        return Mixed(
            weights=best.w,
            slopes=best.means - float(best.w @ best.means),
            certificate=Certificate(before.after, best.after, gap, percent, best.rest),
            marginal_error=best.point.error,
            converged=self._enough(best, before),
            sweeps=self.sweeps,
            eps=self.problem.eps,
            g=best.point.g,
            f=best.point.f,
        )
