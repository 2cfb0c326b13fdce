"""One task on its way to its potentials: the duals of its stages, their ascents, and a record of every look.

Which stages there are plain.py and boxed.py say; what the record says in the end, evidence.py.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials.ascent import ascend, newton_step
from gapsel.potentials.capped import CappedDual
from gapsel.potentials.dual import Dual, Point, most_kept
from gapsel.potentials.ranking import chosen_after, exchanged
from gapsel.records import Stage, plan_columns

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials.ascent import Ascent, Rough
    from gapsel.potentials.curvature import Curvature
    from gapsel.potentials.rows import Rows
    from gapsel.potentials.task import Task
    from gapsel.potentials.trimming import Trimmed

# The most looks that an ascent takes at a part of the pool.
LOOKS_AT_A_PART = 60
# A ranking is settled when one more step exchanges no more than this share of the choice: that step is made, and the
# one after it would exchange some ten times less.
_SETTLED = 5e-3


@dataclass(slots=True)
class Course:
    """One task, and what was looked at on its way; of ``trimmed`` columns on a list alone.

    With ``ranking`` only the choice is wanted: the pool is left as soon as that is settled. ``watch`` is told of every
    look. A stage is "sample", "shortlist", "plan" (what was kept of the pool) or "pool", whose sweeps are counted and
    limited. Of the plans that are kept only the last one is, in ``memory``. ``plain_values``: what the dual was at the
    pool, mass 0 and the task's eps, after whether it is exact.
    """

    task: Task
    backend: Backend
    watch: Callable[[Stage], None] | None = None
    ranking: bool = False
    trimmed: Trimmed | None = None
    trace: list[Stage] = field(default_factory=list)
    plain_values: list[tuple[bool, float]] = field(default_factory=list)
    full_sweeps: int = 0
    memory: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 0), np.uint8))
    began: float = field(default_factory=time.perf_counter)

    @property
    def sweeps_left(self) -> int:
        """How many sweeps of the pool are left."""
        return max(0, self.task.max_sweeps - self.full_sweeps)

    @property
    def most_kept(self) -> int:
        """How many rows may have their plan kept, 0 where none may."""
        return most_kept(self.backend, self.task.target)

    def dual(self, rows: Rows, mass: float, *, eps: float | None = None, eta: float | None = None) -> Dual:
        """Return the function of these rows at a mass; eps, and eta in units of it, are the task's last ones."""
        task = self.task
        eps, eta = task.eps if eps is None else eps, task.falling_etas()[-1] if eta is None else eta
        box = rows.box(mass, eta * eps)
        if rows.caps and mass > 0:
            return CappedDual(
                backend=self.backend, rows=rows, target=task.target, box=box, eps=eps, cost=task.cost,
                trimmed=self.trimmed, mass=mass,
            )  # fmt: skip
        return Dual(self.backend, rows, task.target, box, eps, task.cost, trimmed=self.trimmed)

    def look(
        self,
        stage: str,
        dual: Dual,
        g: NDArray[np.float64],
        *,
        gram: bool = False,
        want_f: bool = False,
        rough: bool = False,
    ) -> Point:
        """Look at a dual at g (m,); see Dual.at."""
        point = dual.at(g, gram=gram, want_f=want_f, rough=rough)
        self._note(stage, dual, point)
        return point

    def kept(
        self, stage: str, dual: Dual, g: NDArray[np.float64], *, rough: bool = False, close: bool = False
    ) -> tuple[Point, Dual]:
        """Look at a dual's vectors at g (m,) and keep their plan, where it can be, in the place of the one before.

        See Dual.keeping.
        """
        if dual.keeps:
            point, near = dual.keeping(g, self._memory_for(dual), rough=rough, close=close)
        else:
            near = replace(dual, rows=replace(dual.rows, kept=None))
            point = near.at(g, want_f=True, rough=rough)
        self._note(stage, dual, point)
        return point, near

    def _memory_for(self, dual: Dual) -> NDArray[np.uint8]:
        """Return memory for the plan of a dual's rows: pages that were used before, for new ones take long to get."""
        columns = plan_columns(dual.target)
        if not self.memory.size:
            self.memory = np.empty((self.most_kept, columns), np.uint8)
        return self.memory[: dual.rows.n]

    def ascended(
        self,
        stage: str,
        dual: Dual,
        start: NDArray[np.float64] | Point,
        tolerance: float,
        max_sweeps: int = 0,
        *,
        kept: Curvature | None = None,
        rough: Rough = "never",
        own_gram: bool = False,
        fed: float = 0.0,
        want_f: bool = False,
    ) -> Ascent:
        """Raise a dual from a g (m,), or from a point with the curvature that is ``kept``; see ascend.

        Of the pool no more sweeps are made than are left; but one, where it was not looked at yet.
        """
        most = max_sweeps or self.task.max_sweeps
        left = max(0 if isinstance(start, Point) else 1, self.sweeps_left // dual.reads)
        return ascend(
            dual, start, tolerance=tolerance, max_sweeps=min(most, left) if stage == "pool" else most,
            curvature=kept, rough=rough, own_gram=own_gram, fed=fed, want_f=want_f, stop=self._stop(stage, dual),
            watch=lambda point: self._note(stage, dual, point),
        )  # fmt: skip

    def settled(self, dual: Dual, point: Point, curvature: Curvature) -> bool:
        """Whether only the ranking is wanted, and the next step hardly changes it."""
        return self.ranking and not point.rough and self.next_choice(dual, point, curvature)[1] <= _SETTLED

    def next_choice(self, dual: Dual, point: Point, curvature: Curvature) -> tuple[NDArray[np.int64] | None, float]:
        """Return the k lowest f after one more step, where a shortlist tells, and the share that it exchanges."""
        after = chosen_after(dual, point, newton_step(dual, point, curvature), self.task.k)
        priced = dual.rows.priced(point.f)[: dual.rows.pool_rows]
        return after, exchanged(self.backend.topk(priced, self.task.k), after)

    def _stop(self, stage: str, dual: Dual) -> Callable[[Point, Curvature], bool] | None:
        """Return what ends an ascent early: a plan's end, or a settled ranking, where only that is wanted."""
        if dual.rows.kept is not None:
            return lambda point, _: dual.is_far(point.g)
        last = stage == "pool" and dual.eps == self.task.eps and self.ranking
        at_mass = dual.box.is_fixed == (self.task.mass == 0)
        return (lambda point, curvature: self.settled(dual, point, curvature)) if last and at_mass else None

    def _note(self, stage: str, dual: Dual, point: Point) -> None:
        mass = 0.0 if dual.box.is_fixed else self.task.mass
        if stage == "pool":
            self.full_sweeps += dual.reads
            if mass == 0 and dual.eps == self.task.eps:
                self.plain_values.append((not point.rough, point.value))
        seconds = time.perf_counter() - self.began
        self.trace.append(Stage(stage, dual.rows.n, dual.eps, mass, point.error, point.value, seconds))
        if self.watch is not None:
            self.watch(self.trace[-1])
