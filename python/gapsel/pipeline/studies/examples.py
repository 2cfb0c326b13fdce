"""What a choice is to examples: all of the target, or those of one task of several."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from gapsel import baselines
from gapsel.distance import distance
from gapsel.findings import TaskResult, TaskShare
from gapsel.records import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.findings import Interval
    from gapsel.pipeline.inputs.labels import Labels
    from gapsel.pipeline.work import Run
    from gapsel.potentials import Rows

# An example is covered by one of so many of its nearest rows; of many so many are looked at, by their weights.
_NEIGHBOURS, _LOOKED_AT = 10, 256


@dataclass(frozen=True)
class Examples:
    """Some examples of a run's target, weighted to sum 1, with their labels and the pool's."""

    run: Run
    target: Target
    pool_labels: Labels
    labels: Labels

    def by_task(self) -> list[Examples]:
        """Return the examples of each task of several; none where there is one."""
        tasks = self.run.tasks
        return [self._some(np.flatnonzero(tasks.of == at)) for at in range(len(tasks.names))] if tasks.several else []

    def measure(self, rows: NDArray[np.int64], mass: float) -> TaskResult:
        """Measure a choice (k,) as it would be mixed in at this mass."""
        shares = self.run.rules.budget.shares(rows)
        alone = self.distance(self.run.rows.only(rows, shares))
        if mass == 0:
            mixture = self.of_pool
        else:
            mixed = self.run.rows.mixed(rows, mass, shares)
            mixture = alone if mass == 1 else self.distance(mixed.carrying, len(rows))
        return TaskResult(mixture, alone, self.precision(rows), self.coverage(rows))

    def distance(self, rows: Rows, heavy: int = 0) -> Interval:
        """Return the distance of rows, of which so many are heavy, to these examples."""
        p, run = self.run.model.potentials, self.run
        return distance(run.backend, rows, self.target, p.cost, p.scale, heavy=heavy, seed=run.settings.seed)

    def precision(self, rows: NDArray[np.int64]) -> float | None:
        """Return the share of a choice (k,) whose label is one of the examples', None where they have none."""
        return float(self.pool_labels.akin(self.labels)[rows].mean()) if any(self.labels.names) else None

    def coverage(self, rows: NDArray[np.int64]) -> float:
        """Return the share of the examples with one of a choice (k,) among their ten nearest of the pool."""
        return float(np.isin(self._covering, rows).any(axis=1).mean())

    @cached_property
    def of_pool(self) -> Interval:
        """The distance of the pool itself, or of the base."""
        return self.distance(self.run.rows.present)

    @cached_property
    def _covering(self) -> NDArray[np.int64]:
        """The nearest rows of the pool (t, 10) of each example, or of some of them drawn by their weights."""
        run, cost, counts = self.run, self.run.model.potentials.cost, self.target.b > 0
        y, b = self.target.y[counts], self.target.b[counts]
        if len(b) > _LOOKED_AT:
            y = y[np.sort(np.random.default_rng(run.settings.seed).choice(len(b), _LOOKED_AT, replace=False, p=b))]
        return baselines.nearest_rows(
            run.pool.shards, y, cost, min(_NEIGHBOURS, run.pool.n), threads=run.settings.threads
        )

    def _some(self, at: NDArray[np.intp]) -> Examples:
        y, b = self.target.y[at], self.target.b[at]
        return replace(self, target=Target(y, b / b.sum()), labels=self.labels.part(at))


def task_shares(run: Run, each: list[Examples], nearest: NDArray[np.int32]) -> tuple[TaskShare, ...]:
    """Return what there is to say of each task of several, with the ``nearest`` examples of the chosen (k,)."""
    found, tasks = run.folder.facts("fit").get("tasks", {}), run.tasks
    closed = found.get("closed", [None] * len(each))
    chosen = np.bincount(tasks.of[nearest], minlength=len(each)) / len(nearest)
    return tuple(
        TaskShare(
            tasks.names[at], int(tasks.counts[at]), found["weights"][at], float(chosen[at]), closed[at], one.of_pool
        )
        for at, one in enumerate(each)
    )
