"""A mixture on samples of the domains: drawn, raised, and settled until no other weights could gain more on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from gapsel.mixture.dual import MixedSweep, MixtureDual, WholeSteps
from gapsel.mixture.simplex import Rule, lowest
from gapsel.potentials import annealed, ascend
from gapsel.potentials.ascent import gram_pays

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.mixture.problem import Problem
    from gapsel.potentials import Point

# Rows of a sample in units of m, and the fewest of a domain: F_d is a mean over them.
EVEN, BY_WEIGHT, _FEWEST = 16, 64, 256
_SMALLEST = 1024
# eta, in units of eps, is halved from one proximal step to the next.
_FIRST_ETA, _LAST_ETA, _STEPS, SWEEPS_OF_A_STEP = 1.0, 0.03, 12, 30


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """Where a sample's dual has been raised to."""

    dual: MixtureDual
    point: Point

    @property
    def sweep(self) -> MixedSweep:
        """What the last look at the sample gave."""
        return cast("MixedSweep", self.point.sweep)

    @property
    def w(self) -> NDArray[np.float64]:
        """The weights (u,)."""
        return self.sweep.weights

    @property
    def gap(self) -> float:
        """What other weights could still gain on the sample."""
        slopes = self.sweep.means + self.dual.offset
        return float(self.w @ slopes) - lowest(slopes, self.dual.rule.hi)


def plain_start(problem: Problem, backend: Backend, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return g (m,) of plain transport on a sample of the pool as it is."""
    p = problem
    rows = p.domains.rows(p.domains.natural)
    size = max(EVEN * len(p.target.b), _SMALLEST)
    part = rows if size >= rows.n else rows.sample(size, rng)
    return annealed(
        backend, part, p.target, cost=p.cost, scale=p.scale, eps=p.eps, tolerance=noise(p, part.n)
    ).point.g  # fmt: skip


def sampled(
    problem: Problem,
    backend: Backend,
    rng: np.random.Generator,
    *,
    size: int,
    by: NDArray[np.float64],
    ref: NDArray[np.float64],
) -> MixtureDual:
    """Return the dual around weights ``ref`` (u,) on ``size`` rows for each target, shared out by weights (u,)."""
    p = problem
    total = max(size * len(p.target.b), _SMALLEST)
    sizes = np.maximum(np.ceil(by * total), _FEWEST).astype(np.int64).tolist()
    parts = p.domains.sample(sizes, rng)
    rule = Rule(ref, p.hi, _FIRST_ETA * p.eps)
    return MixtureDual.on(parts, rule, p.target, eps=p.eps, cost=p.cost, backend=backend)


def settled(dual: MixtureDual, g: NDArray[np.float64], enough: float, tolerance: float) -> Solved:
    """Take proximal steps from g (m,) and the rule's weights until no weights could gain more on this sample."""
    eta, solved = _FIRST_ETA, None
    for _ in range(_STEPS):
        dual = replace(dual, rule=replace(dual.rule, eta=eta * dual.eps))
        solved = Solved(dual, raised(dual, g, tolerance))
        g, dual = solved.point.g, replace(dual, rule=replace(dual.rule, ref=solved.w))
        if solved.gap <= enough:
            break
        eta = max(0.5 * eta, _LAST_ETA)
    return cast("Solved", solved)


def raised(dual: MixtureDual, g: NDArray[np.float64], tolerance: float) -> Point:
    """Raise the dual from g (m,) to the tolerance."""
    pays = gram_pays(len(g), dual.rows.d, dual.rows.n)
    start = dual.at(g, gram=pays, rough=dual.bears_rounding)
    return ascend(
        dual, start, tolerance=tolerance, max_sweeps=SWEEPS_OF_A_STEP,
        curvature=WholeSteps.of(dual, start), rough="always", own_gram=True,
    ).point  # fmt: skip


def noise(problem: Problem, rows: int) -> float:
    """Return the marginal error that a sample of so many rows has of its own."""
    return max(0.05 * float(np.sqrt(len(problem.target.b) / rows)), problem.tolerance)
