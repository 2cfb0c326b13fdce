"""A target's weights, where they are to be found for a mixture: who is ignored, and whose task weighs how much.

As for a selection (potentials/robust.py and balancing.py), with mixtures of the domains in the place of choices:

    ignored    the examples of highest g at the best mixture for columns 0 <= q_j <= b_j / (1 - share): the dearest,
               though all of the mixture be made for them
    share_t    (F_t(pool) - F_t(mixture)) / (F_t(pool) - F_t(own_t)),  F_t the distance to task t alone, own_t the best
               mixture for it; the weights of the tasks are such that these are level

All on samples of the domains. With these weights the mixture is a problem like any other, with its certificate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.mixture.sample import BY_WEIGHT, EVEN, SWEEPS_OF_A_STEP, noise, plain_start, sampled, settled
from gapsel.potentials import ascend, levelled, promised_rise, scale_of, weighted
from gapsel.potentials.robust import EPS, check_share, dearest
from gapsel.potentials.trimming import Trimmed
from gapsel.potentials.weighing import without
from gapsel.records import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.mixture.dual import MixtureDual
    from gapsel.mixture.problem import Problem
    from gapsel.mixture.sample import Solved
    from gapsel.potentials import Balance, Weighing

# In row stds: what other weights may still gain on a sample, and what of a task is nothing to share.
_ENOUGH, _NOTHING = 1e-3, 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """The problem with the weights that were found, the rows (i,) of the target that are ignored, and the balance."""

    problem: Problem
    ignored: NDArray[np.int64]
    balance: Balance | None


def weigh(problem: Problem, weighing: Weighing, backend: Backend) -> Weighed:
    """Find the weights of a problem's target, as ``weighing`` asks for.

    Raises UsageError where no example is as little as what may be ignored.
    """
    gone, task_of = np.zeros(0, np.int64), weighing.task_of
    if weighing.robust > 0:
        gone = _ignored(problem, weighing.robust, task_of, backend)
        problem = _measured_again(replace(problem, target=without(problem.target, gone, task_of)))
    if not weighing.level:
        return Weighed(problem, gone, None)
    found = levelled(_Scales(problem, task_of, backend).shares_at, int(task_of.max()) + 1)
    return Weighed(replace(problem, target=weighted(problem.target, task_of, found.weights)), gone, found)


def _ignored(problem: Problem, share: float, task_of: NDArray[np.intp], backend: Backend) -> NDArray[np.int64]:
    """Return the rows of the target, ascending, that are let go: of each task no more than a share of its weight."""
    b = problem.target.b
    check_share(b, task_of, share)
    problem = replace(problem, eps=problem.scale.eps(EPS))
    trimmed, rng = Trimmed(share, task_of, problem.eps), np.random.default_rng(problem.seed)
    enough, even = _ENOUGH * problem.scale.eps(1.0), _even(problem)
    first = sampled(problem, backend, rng, size=EVEN, by=even, ref=even)
    start = plain_start(problem, backend, rng)
    w = settled(replace(first, trimmed=trimmed), start, 10.0 * enough, noise(problem, first.rows.n)).w
    dual = replace(sampled(problem, backend, rng, size=BY_WEIGHT, by=w, ref=_open(w)), trimmed=trimmed)
    return dearest(settled(dual, start, enough, problem.tolerance).point.g, b, task_of, share)


def _measured_again(problem: Problem) -> Problem:
    """Return the problem with the scale of what is left of the target, and as much of it as eps."""
    rows = problem.domains.rows(problem.domains.natural)
    scale = scale_of(rows, problem.target, problem.cost, problem.seed)
    return replace(problem, scale=scale, eps=problem.eps * scale.eps(1.0) / problem.scale.eps(1.0))


def _even(problem: Problem) -> NDArray[np.float64]:
    return np.full(problem.domains.u, 1.0 / problem.domains.u)


def _open(w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a reference (u,) from which a domain that w (u,) leaves out may soon come back."""
    return np.asarray(0.5 * w + 0.5 / len(w))


@dataclass(slots=True, eq=False)
class _One:
    """One task by itself: its dual on the sample, g (m_t,), the distance of the pool as it is, what it could close."""

    dual: MixtureDual
    g: NDArray[np.float64]
    before: float = 0.0
    attainable: float = 0.0


class _Scales:
    """The tasks on one sample of each domain, by themselves and together."""

    def __init__(self, problem: Problem, task_of: NDArray[np.intp], backend: Backend) -> None:
        self._problem, self._task_of, self._backend = problem, task_of, backend
        self._enough = _ENOUGH * problem.scale.eps(1.0)
        rng = np.random.default_rng(problem.seed)
        parts = [self._part(code) for code in range(int(task_of.max()) + 1)]
        even = sampled(problem, backend, rng, size=EVEN, by=_even(problem), ref=_even(problem))
        own = [self._own(replace(even, target=part.target), plain_start(part, backend, rng)) for part in parts]
        by = np.mean([one.w for one in own], axis=0)
        self._dual = sampled(problem, backend, rng, size=BY_WEIGHT, by=by, ref=_open(by))
        self._ones = [self._by_itself(part.target, one) for part, one in zip(parts, own, strict=True)]
        g = np.empty(len(task_of))
        for code, one in enumerate(self._ones):
            g[task_of == code] = one.g
        self._last = (np.full(len(parts), 1.0 / len(parts)), g, by)

    def shares_at(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share (t,) of what it could close that each task closes in the best mixture for weights (t,)."""
        held, g, w = self._last
        target = weighted(self._problem.target, self._task_of, weights)
        dual = replace(self._dual, target=target, rule=replace(self._dual.rule, ref=_open(w)))
        # The plan stays what it was.
        solved = self._own(dual, g + self._problem.eps * np.log(held / weights)[self._task_of])
        self._last = (weights, solved.point.g, solved.w)
        least = _NOTHING * self._problem.scale.eps(1.0)
        return np.array([
            (one.before - self._distance(one, solved.w)) / one.attainable if one.attainable > least else np.nan
            for one in self._ones
        ])  # fmt: skip

    def _part(self, code: int) -> Problem:
        """Return the problem of one task alone."""
        target, own = self._problem.target, self._task_of == code
        b = target.b[own]
        return replace(self._problem, target=Target(target.y[own], b / b.sum()))

    def _own(self, dual: MixtureDual, g: NDArray[np.float64]) -> Solved:
        """Find the best mixture on a sample."""
        return settled(dual, g, self._enough, 0.3 * self._problem.tolerance)

    def _by_itself(self, target: Target, first: Solved) -> _One:
        dual = replace(self._dual, target=target, rule=replace(self._dual.rule, ref=_open(first.w)))
        one = _One(dual, first.point.g)
        one.before = self._distance(one, self._problem.domains.natural)
        one.attainable = one.before - self._distance(one, self._own(dual, first.point.g).w)
        return one

    def _distance(self, one: _One, w: NDArray[np.float64]) -> float:
        """Return the distance of a mixture (u,) to one task, on the sample."""
        dual = one.dual.at_weights(w)
        reached = ascend(
            dual, one.g, tolerance=self._problem.tolerance, max_sweeps=SWEEPS_OF_A_STEP, rough="always", own_gram=True
        )
        one.g = reached.point.g
        return reached.point.value + max(0.0, promised_rise(dual, reached.point, reached.curvature))
