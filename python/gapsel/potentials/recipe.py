"""From nothing to converged potentials in few sweeps of the whole pool.

    1. nested random samples (4m, 16m, 64m rows), each solved to its own sampling noise, eps annealed on the first
    2. full sweeps: exact gradients, the last sample's Hessian corrected by secants
    3. for mass > 0: a shortlist (the rows of lowest f as they are, a weighted sample of the rest), solved at that mass
    4. full sweeps at that mass, to the tolerance

Why this order: a sample knows the Hessian long before it knows the solution, and the rows that a selection could
choose lie among the lowest f of plain transport (mass 0). The measurements behind the constants are in docs/method.md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials.ascent import Ascent, ascend
from gapsel.potentials.dual import Dual
from gapsel.records import Evidence, Potentials, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials.curvature import Curvature
    from gapsel.potentials.dual import Point
    from gapsel.potentials.rows import Rows, Shortlist
    from gapsel.records import Box, Cost, CostScale, Target

# Sample sizes in units of m; a sample of more than a third of the pool is not worth its sweeps.
_LEVELS = (4, 16, 64)
_SMALLEST_SAMPLE = 1024
# eps starts at this share of the mean cost, where one Sinkhorn step nearly solves, and is halved from there.
_FIRST_EPS = 0.2
# Marginal error of a sample of s rows against the pool is about this times sqrt(m / s): less is not worth solving for.
_SAMPLING_NOISE = 0.05
# The deepest row that a mass of 1 chose in real text lay at ten times the share that was chosen.
_SHORTLIST_DEPTH = 10
_SHORTLIST_EXTRA = 16
_SAMPLE_SWEEPS = 60
# A full sweep may find that rows off the list take part in the selection: the list is then made anew by the f it saw.
_ROUNDS = 3
# eta, in units of eps, falls through these: at eps the box is easy to solve, at less its rows are full or at their
# bottom, so that the k lowest f are the choice that was solved for, not a rounding of it.
ETAS = (1.0, 0.3)
# Plain transport is only the way to the shortlist when mass > 0: this error settles who is on it.
_ON_THE_WAY = 1e-2


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked: rows, target, cost and its scale; eps absolute; mass; when to stop; ``etas`` in units of eps."""

    rows: Rows
    target: Target
    cost: Cost
    scale: CostScale
    eps: float
    mass: float
    tolerance: float = 1e-3
    max_sweeps: int = 60
    seed: int = 0
    etas: tuple[float, ...] = ETAS

    def box(self) -> Box:
        """Return the row rule that is solved for, at the last eta."""
        return self.rows.box(self.mass, self.etas[-1] * self.eps)


@dataclass(frozen=True, slots=True)
class Solution:
    """The potentials, and f (n,) float32 of every row of the pool at the same g."""

    potentials: Potentials
    f: NDArray[np.float32]


def solve(
    task: Task,
    backend: Backend,
    *,
    start: NDArray[np.float64] | None = None,
    watch: Callable[[Stage], None] | None = None,
) -> Solution:
    """Solve for the potentials; not converging is said in the evidence, never raised.

    ``start`` (m,) skips the samples and goes from a known g of the same mass. ``watch`` is told of every sweep.
    """
    return _Recipe(task, backend, watch).run(start)


@dataclass(slots=True)
class _Recipe:
    task: Task
    backend: Backend
    watch: Callable[[Stage], None] | None
    trace: list[Stage] = field(default_factory=list)
    full_sweeps: int = 0
    began: float = field(default_factory=time.perf_counter)

    def run(self, start: NDArray[np.float64] | None) -> Solution:
        task, rng = self.task, np.random.default_rng(self.task.seed)
        if start is not None:
            return self._finish(self._full(start, None, task.mass, task.tolerance))
        plain = self._plain(rng)
        if task.mass == 0:
            return self._finish(plain)
        return self._finish(self._boxed(plain, rng))

    def _plain(self, rng: np.random.Generator) -> Ascent:
        """Plain transport: samples, then full sweeps to the tolerance, or on the way to a shortlist."""
        task = self.task
        sizes = sample_sizes(task.rows.n, len(task.target.b))
        if not sizes:
            return self.annealed(task.rows, task.tolerance, whole=True)
        drawn = task.rows.sample(sizes[-1], rng)
        reached = self.annealed(drawn.prefix(sizes[0]), self._noise(sizes[0]), whole=False)
        for size in sizes[1:]:
            dual = self._dual(drawn.prefix(size), 0.0, task.eps)
            reached = self._ascend("sample", dual, reached.point.g, self._noise(size), _SAMPLE_SWEEPS)
        tolerance = task.tolerance if task.mass == 0 else max(task.tolerance, _ON_THE_WAY)
        return self._full(reached.point.g, reached.curvature, 0.0, tolerance)

    def annealed(self, rows: Rows, tolerance: float, *, whole: bool) -> Ascent:
        """Solve from g = 0 while eps falls to its value; an annealed eps only hands its g on."""
        task, stage = self.task, "pool" if whole else "sample"
        g: NDArray[np.float64] = np.zeros(len(task.target.b))
        for eps in annealed_eps(task.scale.mean, task.eps)[:-1]:
            if whole and self._sweeps_left() == 1:
                break
            g = self._ascend(stage, self._dual(rows, 0.0, eps), g, 1e-2, 8, scaling=3).point.g
        dual = self._dual(rows, 0.0, task.eps)
        return self._ascend(stage, dual, g, tolerance, task.max_sweeps, scaling=3, want_f=whole)

    def _boxed(self, plain: Ascent, rng: np.random.Generator) -> Ascent:
        """From plain transport to the mass that is asked for."""
        task, n, m = self.task, self.task.rows.n, len(self.task.target.b)
        f = plain.point.f
        exact, extra = shortlist_sizes(n, m, task.rows.capacity)
        if exact + extra >= n:
            return self._sharpened("pool", task.rows, plain.point.g, f)
        short = task.rows.shortlist(f, exact, extra, rng)
        reached, seen = self._listed(short, plain.point.g, f)
        for _ in range(_ROUNDS):
            if missed_mass(seen.f, short, task) <= max(0.3 * seen.error, task.tolerance):
                break
            short = task.rows.shortlist(seen.f, exact, extra, rng)
            reached, seen = self._listed(short, seen.g, seen.f)
        return self._full(seen, reached.curvature, task.mass, task.tolerance)

    def _sharpened(self, stage: str, rows: Rows, g: NDArray[np.float64], f: NDArray[np.float32]) -> Ascent:
        """Solve on these rows from a g with f (n,) there, while eta falls to its value."""
        task = self.task
        for eta in task.etas[:-1]:
            if stage == "pool" and self._sweeps_left() == 1:
                break
            dual = self._dual(rows, task.mass, task.eps, eta)
            start = g + threshold(f, dual.box)
            point = self._ascend(stage, dual, start, _ON_THE_WAY, _SAMPLE_SWEEPS, scaling=5, want_f=True).point
            g, f = point.g, point.f
        dual = self._dual(rows, task.mass, task.eps)
        start = g + threshold(f, dual.box)
        limit = task.max_sweeps if stage == "pool" else _SAMPLE_SWEEPS
        return self._ascend(stage, dual, start, task.tolerance, limit, scaling=5, want_f=True)

    def _listed(self, short: Shortlist, g: NDArray[np.float64], f: NDArray[np.float32]) -> tuple[Ascent, Point]:
        """Solve on a shortlist and look at the whole pool from there, once."""
        task = self.task
        reached = self._sharpened("shortlist", short.rows, g, f[short.index])
        seen = self._full(reached.point.g, reached.curvature, task.mass, task.tolerance, limit=1)
        return reached, seen.point

    def _full(
        self, start: NDArray[np.float64] | Point, kept: Curvature | None, mass: float, tolerance: float, limit: int = 0
    ) -> Ascent:
        dual = self._dual(self.task.rows, mass, self.task.eps)
        return self._ascend("pool", dual, start, tolerance, limit or self.task.max_sweeps, kept=kept, want_f=True)

    def _ascend(
        self,
        stage: str,
        dual: Dual,
        start: NDArray[np.float64] | Point,
        tolerance: float,
        max_sweeps: int,
        *,
        kept: Curvature | None = None,
        scaling: int = 0,
        want_f: bool = False,
    ) -> Ascent:
        most = min(max_sweeps, self._sweeps_left()) if stage == "pool" else max_sweeps
        return ascend(
            dual, start, tolerance=tolerance, max_sweeps=most, curvature=kept,
            scaling_steps=scaling, want_f=want_f, watch=lambda point: self._note(stage, dual, point),
        )  # fmt: skip

    def _note(self, stage: str, dual: Dual, point: Point) -> None:
        if stage == "pool":
            self.full_sweeps += 1
        mass = 0.0 if dual.box.is_fixed else self.task.mass
        seconds = time.perf_counter() - self.began
        self.trace.append(Stage(stage, dual.rows.n, dual.eps, mass, point.error, point.value, seconds))
        if self.watch is not None:
            self.watch(self.trace[-1])

    def _dual(self, rows: Rows, mass: float, eps: float, eta: float | None = None) -> Dual:
        box = rows.box(mass, (self.task.etas[-1] if eta is None else eta) * eps)
        return Dual(self.backend, rows, self.task.target, box, eps, self.task.cost)

    def _noise(self, size: int) -> float:
        return max(_SAMPLING_NOISE * float(np.sqrt(len(self.task.target.b) / size)), 0.1 * self.task.tolerance)

    def _sweeps_left(self) -> int:
        """Return how many sweeps of the pool are left; each stage looks at least once."""
        return max(1, self.task.max_sweeps - self.full_sweeps)

    def _finish(self, reached: Ascent) -> Solution:
        task, point = self.task, reached.point
        evidence = Evidence(
            converged=point.error <= task.tolerance,
            tolerance=task.tolerance,
            marginal_error=point.error,
            dual_value=point.value,
            hard_bound=float(task.target.b @ point.g) + point.sweep.hard,
            plain_value=max((s.dual_value for s in self.trace if _is_plain(s, task)), default=float("nan")),
            full_sweeps=self.full_sweeps,
            perplexity=float(np.exp(point.sweep.entropy)),
            trace=tuple(self.trace),
        )
        return Solution(
            Potentials(
                target=task.target, g=point.g, eps=task.eps, mass=task.mass, cost=task.cost, scale=task.scale,
                evidence=evidence,
            ),
            point.f,
        )  # fmt: skip


def _is_plain(stage: Stage, task: Task) -> bool:
    return stage.name == "pool" and stage.mass == 0 and stage.eps == task.eps


def annealed(
    backend: Backend, rows: Rows, target: Target, *, cost: Cost, scale: CostScale, eps: float, tolerance: float
) -> Ascent:
    """Solve plain transport on these rows alone, from g = 0 while eps falls to its value."""
    task = Task(rows, target, cost, scale, eps, 0.0, tolerance, max_sweeps=_SAMPLE_SWEEPS)
    return _Recipe(task, backend, None).annealed(rows, tolerance, whole=False)


def sample_sizes(n: int, m: int) -> list[int]:
    """Return the nested sample sizes for a pool of n rows and m targets; none where the pool itself is that small."""
    sizes = sorted({max(level * m, _SMALLEST_SAMPLE) for level in _LEVELS})
    worth_it = [size for size in sizes if size <= n // 3]
    if worth_it and worth_it[-1] < sizes[-1] and n // 3 > 1.5 * worth_it[-1]:
        worth_it.append(n // 3)
    return worth_it


def annealed_eps(mean: float, eps: float) -> list[float]:
    """Return the falling sequence of eps that ends exactly at ``eps``."""
    values, current = [], _FIRST_EPS * mean
    while current > 1.2 * eps:
        values.append(current)
        current *= 0.5
    return [*values, eps]


def shortlist_sizes(n: int, m: int, capacity: float | NDArray[np.float64]) -> tuple[int, int]:
    """Return how many rows the shortlist keeps exactly, and how many stand for the rest."""
    k = 1.0 / float(np.max(capacity))
    exact = min(n, int(max(_SHORTLIST_DEPTH * k, _SHORTLIST_EXTRA * m)) + 1)
    return exact, max(_SHORTLIST_EXTRA * m, _SMALLEST_SAMPLE)


def missed_mass(f: NDArray[np.float32], short: Shortlist, task: Task) -> float:
    """Return the selection's mass on rows that the shortlist did not keep exactly, at the f (n,) of a full sweep."""
    taken = task.box().taken(f)
    return float(taken.sum() - taken[short.exact].sum())


def threshold(f: NDArray[np.float32], box: Box) -> float:
    """Return the tau at which the row masses of f - tau sum to 1, by bisection."""
    low, high = float(f.min()) - 100.0 * box.eta, float(f.max()) + 100.0 * box.eta
    room = 1.0 - float(np.broadcast_to(box.lo, f.shape).sum())
    for _ in range(60):
        tau = 0.5 * (low + high)
        low, high = (tau, high) if box.taken(f, tau).sum() < room else (low, tau)
    return 0.5 * (low + high)
