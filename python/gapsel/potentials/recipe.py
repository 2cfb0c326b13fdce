"""From nothing to converged potentials in few sweeps of the whole pool.

    1. nested random samples (4m, 16m, 64m rows), each solved to its own sampling noise, eps annealed on the first
    2. full sweeps: exact gradients, the last sample's Hessian corrected by secants
    3. for mass > 0: a shortlist (the rows of lowest f as they are, a weighted sample of the rest), solved at that mass
    4. full sweeps at that mass, to the tolerance; at a large mass the shortlist is solved again between them

Why this order: a sample knows the Hessian long before it knows the solution, and the rows that a selection could
choose lie among the lowest f of plain transport (mass 0). The measurements behind the constants are in docs/method.md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials.ascent import Ascent, ahead, ascend, gram_pays, newton_step
from gapsel.potentials.capped import CappedDual
from gapsel.potentials.caps import best_prices
from gapsel.potentials.dual import Dual
from gapsel.potentials.ranking import chosen_after, exchanged
from gapsel.potentials.sizes import annealed_eps, missed_mass, sample_sizes, shortlist_sizes
from gapsel.potentials.task import Solution, Start, Task
from gapsel.records import Evidence, Potentials, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials.ascent import Rough
    from gapsel.potentials.curvature import Curvature
    from gapsel.potentials.dual import Point
    from gapsel.potentials.rows import Rows, Shortlist
    from gapsel.potentials.trimming import Trimmed
    from gapsel.records import Cost, CostScale, Target

# Marginal error of a sample of s rows against the pool is about this times sqrt(m / s): less is not worth solving for.
_SAMPLING_NOISE = 0.05
_SAMPLE_SWEEPS = 60
# A full sweep that is further off than _LISTED may find that rows off the list take part in the selection, by more than
# _MISSED of the error: the list is then made anew by the f it saw.
_ROUNDS = 5
_LISTED, _MISSED = 0.05, 0.3
# From this mass the rows that are chosen bend the dual more than those that are not, and sharply: a list, tilted, leads
# on better than Newton's steps do. Each time the list's error falls to _LIST_LEAVES of the pool's, or to half of the
# tolerance.
_LISTS_LEAD, _LIST_LEAVES, _LEFT_AT_MOST = 0.6, 0.1, 0.5
# The mean over many rows is at most so many times less off by rounding than a row is: on 16,000 rows the marginal error
# of float32 costs was right to 3e-7 at an eps of 0.005 of the mean cost, where a row is off by 6e-5.
_ROWS_ROUND_AWAY, _COST_IN_STDS = 50.0, 10.0
# A ranking is settled when one more step exchanges no more than this share of the choice: that step is made, and the
# one after it would exchange some ten times less.
_SETTLED = 5e-3
# From the solution for another k eta falls through so many of its last values. Tried: through one or two of them takes
# more looks at the list at a mass of 1, or at the pool at 0.5; and so does a list that is solved less well.
_ETAS_AGAIN = 3
# What is only the way to the next stage is solved to this, and goes one step further, which the next stage looks at: an
# eps that falls on, an eta that falls on, a shortlist. Tried: such a step from a list that was solved again: the pool's
# error stayed at 2e-3, for it is the list's own last digits that count there.
_EPS_ON_THE_WAY, _ETA_ON_THE_WAY, _LIST_ON_THE_WAY = 0.3, 0.25, 5e-2


def solve(
    task: Task,
    backend: Backend,
    *,
    start: NDArray[np.float64] | Start | None = None,
    ranking: bool = False,
    watch: Callable[[Stage], None] | None = None,
) -> Solution:
    """Solve for the potentials; not converging is said in the evidence, never raised.

    ``start`` skips the samples and all of mass 0: a g (m,) known for this very problem goes to the pool at once, the
    solution for another k to a shortlist first. With ``ranking`` only the choice is wanted: it ends as soon as one more
    step would exchange no more than half a per cent of the k, and makes that step on a shortlist. ``watch`` is told of
    every sweep.
    """
    return Recipe(task, backend, watch, ranking=ranking).run(start)


@dataclass(slots=True)
class Recipe:
    """One task on its way through the stages, with the trace of its sweeps; of ``trimmed`` columns on a list alone."""

    task: Task
    backend: Backend
    watch: Callable[[Stage], None] | None
    ranking: bool = False
    trimmed: Trimmed | None = None
    trace: list[Stage] = field(default_factory=list)
    full_sweeps: int = 0
    plain_value: float = float("nan")
    began: float = field(default_factory=time.perf_counter)

    def run(self, start: NDArray[np.float64] | Start | None) -> Solution:
        """Go through all stages; see solve."""
        task, rng = self.task, np.random.default_rng(self.task.seed)
        if isinstance(start, Start):
            self.plain_value = start.plain_value
            return self._finish(self._from_another_k(start, rng))
        if start is not None:
            dual = self._dual(task.rows, task.mass, task.eps)
            return self._finish(self._ascend("pool", dual, start, task.tolerance, want_f=True))
        reached = self._sampled(rng)
        if task.mass > 0:
            reached = self._boxed(self._ranked(reached), rng)
        elif isinstance(reached, np.ndarray):
            dual = self._dual(task.rows, 0.0, task.eps)
            reached = self._ascend("pool", dual, reached, task.tolerance, rough="first", want_f=True)
        return self._finish(reached)

    def _sampled(self, rng: np.random.Generator) -> NDArray[np.float64] | Ascent:
        """Plain transport on samples: a g (m,) for the pool; or, where that is small, on the pool itself."""
        task, rows = self.task, self.task.rows.present
        sizes = sample_sizes(rows.n, len(task.target.b))
        if not sizes and task.rows.base:
            return self.annealed(rows, self._noise(rows.n), whole=False).point.g
        if not sizes:
            return self.annealed(rows, task.tolerance, whole=True)
        # A ranking for the shortlist needs no more than the first.
        sizes = sizes[:1] if task.mass > 0 else sizes
        drawn = rows.sample(sizes[-1], rng)
        g = self.annealed(drawn.prefix(sizes[0]), self._noise(sizes[0]), whole=False).point.g
        for size in sizes[1:]:
            g = self._next_sample(drawn.prefix(size), g)
        return g

    def plain(self, rng: np.random.Generator) -> Point:
        """Return a point near the solution of mass 0, with f of all rows: one sweep of the pool, after a sample."""
        return self._ranked(self._sampled(rng))

    def _ranked(self, reached: NDArray[np.float64] | Ascent) -> Point:
        """Return a point of plain transport with f of all rows, which says who may be chosen."""
        if isinstance(reached, Ascent):
            return reached.point
        dual = self._dual(self.task.rows, 0.0, self.task.eps)
        point = dual.at(reached, want_f=True, rough=dual.bears_rounding)
        self._note("pool", dual, point)
        return point

    def _next_sample(self, rows: Rows, g: NDArray[np.float64]) -> NDArray[np.float64]:
        """Go on from the g of a smaller sample: one step with this one's Gram, which the next stage will look at."""
        dual = self._dual(rows, 0.0, self.task.eps)
        once = gram_pays(len(g), rows.d, rows.n)
        reached = self._ascend("sample", dual, g, self._noise(rows.n), 1 if once else _SAMPLE_SWEEPS, rough="always")
        return ahead(dual, reached) if once else reached.point.g

    def annealed(self, rows: Rows, tolerance: float, *, whole: bool) -> Ascent:
        """Solve from g = 0 while eps falls to its value; an annealed eps only hands its g on."""
        task, stage = self.task, "pool" if whole else "sample"
        g: NDArray[np.float64] = np.zeros(len(task.target.b))
        for eps in annealed_eps(task.scale.mean, task.eps)[:-1]:
            if whole and self._sweeps_left() == 1:
                break
            dual = self._dual(rows, 0.0, eps)
            g = ahead(dual, self._ascend(stage, dual, g, _EPS_ON_THE_WAY, 8, rough="always"))
        dual = self._dual(rows, 0.0, task.eps)
        return self._ascend(
            stage, dual, g, tolerance, task.max_sweeps,
            rough="first" if whole else "always", want_f=whole,
        )  # fmt: skip

    def _boxed(self, plain: Point, rng: np.random.Generator) -> Ascent:
        """From plain transport to the mass that is asked for."""
        task, g, f, sizes = self.task, plain.g, plain.f, self._list_sizes()
        if sum(sizes) >= task.rows.n:
            return self.sharpened("pool", task.rows, g, f, task.tolerance)
        short = self._shortlist(f, sizes, rng)
        at = self.sharpened("shortlist", short.rows, g, f[short.index], _LIST_ON_THE_WAY)
        return self._from_list(short, at, rng)

    def _from_another_k(self, start: Start, rng: np.random.Generator) -> Ascent:
        """From the solution for another k, by a shortlist that is tilted by what it lacks of the pool there.

        That is known without a look at the pool, which at a solution holds b in its columns; and it is nearly the same
        for this k, since the box of the rows that the list only stands for does not change but for its top.
        """
        task, f, sizes = self.task, start.f, self._list_sizes()
        if sum(sizes) >= task.rows.n:
            return self.sharpened("pool", task.rows, start.g, f, task.tolerance, tilt=0.0)
        short = self._shortlist(f, sizes, rng)
        there = replace(short.rows, capacity=short.rows.capacity * (task.k / start.k))
        dual = self._dual(there, task.mass, task.eps)
        own = dual.at(start.g, rough=dual.bears_rounding)
        self._note("shortlist", dual, own)
        tilt = dual.tilted(own.sweep.q, task.target.b).tilt
        at = self.sharpened("shortlist", short.rows, start.g, f[short.index], task.tolerance, tilt=tilt)
        return self._from_list(short, at, rng)

    def _list_sizes(self) -> tuple[int, int]:
        task = self.task
        return shortlist_sizes(task.rows.pool_rows, len(task.target.b), task.rows.k, task.mass)

    def _shortlist(self, f: NDArray[np.float32], sizes: tuple[int, int], rng: np.random.Generator) -> Shortlist:
        """Return the list by f (n,) and, under caps, by the prices that are best there."""
        task, rows = self.task, self.task.rows
        if rows.caps:
            prices = best_prices(rows.caps, rows.priced(f), task.box(), task.mass, moves=True)
            f = (f + prices.rows).astype(np.float32)
        return rows.shortlist(f, *sizes, rng)

    def _from_list(self, short: Shortlist, at: Ascent, rng: np.random.Generator) -> Ascent:
        """From a point solved for on a shortlist to the pool, and back to the list as often as that leads on."""
        task, sizes = self.task, self._list_sizes()
        dual = self._dual(task.rows, task.mass, task.eps)
        # After one more step the list's columns should hold what they are to.
        seen, own = self._seen(dual, ahead(dual, at)), at.point.columns
        for _ in range(_ROUNDS):
            off_list = missed_mass(dual.taken(seen.f), short) > _MISSED * seen.error
            newton_leads = task.mass < _LISTS_LEAD and (seen.error <= _LISTED or not off_list)
            done = seen.error <= task.tolerance or self.full_sweeps >= task.max_sweeps
            if done or newton_leads or self._settled(dual, seen, at.curvature):
                break
            short = self._shortlist(seen.f, sizes, rng) if off_list else short
            at = self._tilted(short, seen, None if off_list else (at.point, own))
            seen, own = self._seen(dual, at.point.g), at.point.sweep.q
        return self._ascend("pool", dual, seen, task.tolerance, kept=at.curvature, want_f=True)

    def _seen(self, dual: Dual, g: NDArray[np.float64]) -> Point:
        """Look at the pool, with a Gram where Newton's steps and not lists are to lead on."""
        gram = self.task.mass < _LISTS_LEAD and gram_pays(len(g), dual.rows.d, dual.rows.n)
        point = dual.at(g, gram=gram, want_f=True)
        self._note("pool", dual, point)
        return point

    def _tilted(self, short: Shortlist, seen: Point, known: tuple[Point, NDArray[np.float64]] | None) -> Ascent:
        """Solve on a shortlist, tilted to the gradient that the pool was seen to have.

        ``known``: the list near there, and what its columns hold where the pool was seen.
        """
        task, dual = self.task, self._dual(short.rows, self.task.mass, self.task.eps)
        if known is None:
            gram = gram_pays(len(seen.g), dual.rows.d, dual.rows.n)
            point = dual.at(seen.g, gram=gram, want_f=True, rough=dual.bears_rounding)
            self._note("shortlist", dual, point)
            known = point, point.sweep.q
        point, own = known
        dual = dual.tilted(own, seen.sweep.q)
        start = dual.point(point.g, point.sweep, point.f, rough=point.rough)
        tolerance = max(_LIST_LEAVES * seen.error, _LEFT_AT_MOST * task.tolerance)
        return self._ascend(
            "shortlist", dual, start, tolerance, _SAMPLE_SWEEPS, rough="always", secants=False, want_f=True
        )

    def ascended(self, stage: str, rows: Rows, g: NDArray[np.float64], tolerance: float) -> Ascent:
        """Solve plain transport on these rows from a g (m,)."""
        return self._ascend(
            stage, self._dual(rows, 0.0, self.task.eps), g, tolerance, _SAMPLE_SWEEPS, rough="always", want_f=True
        )

    def sharpened(
        self,
        stage: str,
        rows: Rows,
        g: NDArray[np.float64],
        f: NDArray[np.float32],
        tolerance: float,
        *,
        tilt: NDArray[np.float64] | float | None = None,
    ) -> Ascent:
        """Solve on these rows from a g with f (n,) there, while eta falls to its value.

        With a ``tilt`` (m,), or 0, g is the solution for another k, and the end of eta's fall will do.
        """
        task, whole = self.task, stage == "pool"
        etas = task.falling_etas()[0 if tilt is None else -_ETAS_AGAIN :]
        limit = task.max_sweeps if whole else _SAMPLE_SWEEPS
        level = 0.0
        for eta in etas[:-1]:
            if whole and self._sweeps_left() == 1:
                break
            dual = replace(self._dual(rows, task.mass, task.eps, eta), tilt=0.0 if tilt is None else tilt)
            start = g + dual.threshold(f) - level
            reached = self._ascend(
                stage, dual, start, _ETA_ON_THE_WAY, limit, rough="always", secants=False, want_f=True
            )
            g, f = ahead(dual, reached), reached.point.f
            level = dual.threshold(f)
        dual = replace(self._dual(rows, task.mass, task.eps), tilt=0.0 if tilt is None else tilt)
        return self._ascend(
            stage, dual, g + dual.threshold(f) - level, tolerance, limit,
            rough="first" if whole else "always", secants=False, want_f=True,
        )  # fmt: skip

    def _ascend(
        self,
        stage: str,
        dual: Dual,
        start: NDArray[np.float64] | Point,
        tolerance: float,
        max_sweeps: int = 0,
        *,
        kept: Curvature | None = None,
        rough: Rough = "never",
        secants: bool = True,
        want_f: bool = False,
    ) -> Ascent:
        most = max_sweeps or self.task.max_sweeps
        return ascend(
            dual, start, tolerance=tolerance, max_sweeps=min(most, self._sweeps_left()) if stage == "pool" else most,
            curvature=kept, rough=rough, secants=secants, want_f=want_f, stop=self._stop(stage, dual),
            watch=lambda point: self._note(stage, dual, point),
        )  # fmt: skip

    def _stop(self, stage: str, dual: Dual) -> Callable[[Point, Curvature], bool] | None:
        """Return what ends an ascent early: a settled ranking, where that is all that is wanted of the pool."""
        last = stage == "pool" and dual.eps == self.task.eps and self.ranking
        at_mass = dual.box.is_fixed == (self.task.mass == 0)
        return (lambda point, curvature: self._settled(dual, point, curvature)) if last and at_mass else None

    def _settled(self, dual: Dual, point: Point, curvature: Curvature) -> bool:
        """Whether only the ranking is wanted, and the next step hardly changes it."""
        return self.ranking and not point.rough and self._next_choice(dual, point, curvature)[1] <= _SETTLED

    def _next_choice(self, dual: Dual, point: Point, curvature: Curvature) -> tuple[NDArray[np.int64] | None, float]:
        """Return the k lowest f after one more step, where a shortlist tells, and the share that it exchanges."""
        after = chosen_after(dual, point, newton_step(dual, point, curvature), self.task.k)
        priced = dual.rows.priced(point.f)[: dual.rows.pool_rows]
        return after, exchanged(self.backend.topk(priced, self.task.k), after)

    def _note(self, stage: str, dual: Dual, point: Point) -> None:
        if stage == "pool":
            self.full_sweeps += dual.reads
        mass = 0.0 if dual.box.is_fixed else self.task.mass
        seconds = time.perf_counter() - self.began
        self.trace.append(Stage(stage, dual.rows.n, dual.eps, mass, point.error, point.value, seconds))
        if self.watch is not None:
            self.watch(self.trace[-1])

    def _dual(self, rows: Rows, mass: float, eps: float, eta: float | None = None) -> Dual:
        box = rows.box(mass, (self.task.falling_etas()[-1] if eta is None else eta) * eps)
        if rows.caps and mass > 0:
            return CappedDual(
                backend=self.backend, rows=rows, target=self.task.target, box=box, eps=eps, cost=self.task.cost,
                trimmed=self.trimmed, mass=mass,
            )  # fmt: skip
        return Dual(self.backend, rows, self.task.target, box, eps, self.task.cost, trimmed=self.trimmed)

    def look(self, g: NDArray[np.float64]) -> Point:
        """Read the rows of the task at g (m,), with f of all."""
        return self._dual(self.task.rows, self.task.mass, self.task.eps).at(g, want_f=True)

    def _noise(self, size: int) -> float:
        return max(_SAMPLING_NOISE * float(np.sqrt(len(self.task.target.b) / size)), 0.1 * self.task.tolerance)

    def _rounding(self) -> float:
        """Return how far the marginal error may be off by the rounding of costs.

        What is the same along a row of costs falls out of the plan, so there their size is a few standard deviations
        within it; not out of f, which says what mass a row has. Rows round each on their own, and their mean is better
        than one of them; but g is rounded for all alike.
        """
        task, mean = self.task, self.task.scale.mean or 1.0
        in_plan = min(mean, _COST_IN_STDS * task.scale.row_std) / task.eps
        in_masses = mean / task.box().eta if task.mass > 0 else 0.0
        one_row = self.backend.resolution * (in_plan + in_masses)
        return one_row / min(float(np.sqrt(self.task.rows.n)), _ROWS_ROUND_AWAY)

    def _sweeps_left(self) -> int:
        """Return how many sweeps of the pool are left; each stage looks at least once."""
        return max(1, self.task.max_sweeps - self.full_sweeps)

    def _finish(self, reached: Ascent) -> Solution:
        task, point = self.task, reached.point
        dual, rounding = self._dual(task.rows, task.mass, task.eps), self._rounding()
        after, unsettled = self._next_choice(dual, point, reached.curvature)
        evidence = Evidence(
            converged=point.error <= task.tolerance and rounding <= task.tolerance,
            tolerance=task.tolerance,
            marginal_error=point.error,
            rounding=rounding,
            unsettled=unsettled,
            dual_value=point.value,
            hard_bound=float(task.target.b @ point.g) + point.sweep.hard,
            plain_value=max((s.dual_value for s in self.trace if _is_plain(s, task)), default=self.plain_value),
            full_sweeps=self.full_sweeps,
            perplexity=float(np.exp(point.sweep.entropy)),
            rows=task.rows.n,
            sampling_error=0.0,
            trace=tuple(self.trace),
        )
        return Solution(
            Potentials(
                target=task.target, g=point.g, eps=task.eps, mass=task.mass, cost=task.cost, scale=task.scale,
                evidence=evidence,
            ),
            point.f,
            after if self.ranking else None,
        )  # fmt: skip


def _is_plain(stage: Stage, task: Task) -> bool:
    return stage.name == "pool" and stage.mass == 0 and stage.eps == task.eps


def look(task: Task, g: NDArray[np.float64], backend: Backend) -> Point:
    """Return what the dual of a task is at some g (m,), with f (n,) of all rows."""
    return Recipe(task, backend, None).look(g)


def annealed(
    backend: Backend, rows: Rows, target: Target, *, cost: Cost, scale: CostScale, eps: float, tolerance: float
) -> Ascent:
    """Solve plain transport on these rows alone, from g = 0 while eps falls to its value."""
    task = Task(rows, target, cost, scale, eps, 0.0, tolerance, max_sweeps=_SAMPLE_SWEEPS)
    return Recipe(task, backend, None).annealed(rows, tolerance, whole=True)
