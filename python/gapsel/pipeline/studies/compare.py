"""Simple ways to choose, beside gapsel's choice and measured like it: the run's vectors, its rules, its mass."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from gapsel import baselines, corpus
from gapsel.baselines import Curated, Dsir, Problem
from gapsel.config import METHODS
from gapsel.errors import UsageError
from gapsel.findings import MethodResult, TaskResult, TaskShare
from gapsel.pipeline.inputs.labels import check_labels, has_labels
from gapsel.pipeline.steps.choosing import begin_choices
from gapsel.pipeline.studies.examples import Examples, task_shares
from gapsel.pipeline.vectors.sides import has_texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from gapsel.config import Settings
    from gapsel.findings import Interval
    from gapsel.pipeline.inputs.labels import Labels
    from gapsel.pipeline.steps.select import Made
    from gapsel.pipeline.work import Run


def check_compared(settings: Settings) -> None:
    """Raise, before the long work begins, where labels or methods are asked for that cannot be had."""
    check_labels(settings)
    if Dsir.key in settings.methods and not all(has_texts(settings, side) for side in ("pool", "target")):
        msg = "methods: dsir reads texts, and there are only vectors: give --pool and --target, or leave it out"
        raise UsageError(msg)
    if Curated.key in settings.methods and settings.label_field is None:
        msg = "methods: curated goes by labels: name the field that both sides have (--label-field), or leave it out"
        raise UsageError(msg)


def possible_methods(settings: Settings) -> tuple[str, ...]:
    """Return all methods that can be had with these inputs."""
    texts = all(has_texts(settings, side) for side in ("pool", "target"))
    labels = all(has_labels(settings, side) for side in ("pool", "target"))
    lacking = {Dsir.key: not texts, Curated.key: not labels}
    return tuple(key for key in METHODS if not lacking.get(key))


def compare(run: Run, stick: Yardstick) -> tuple[MethodResult, ...]:
    """Choose by each method of the settings, under the run's rules, and measure that and the run's own choice alike."""
    mass = run.model.potentials.mass
    # What the choice itself took: the sweeps of the fit, and the reading of the scores.
    own = sum(run.folder.facts(step)["seconds"] for step in ("fit", "score", "select"))
    found = [
        stick.measure(name, rows, mass, seconds)
        for name, rows, seconds in _choices(run, len(stick.made.selection.rows), stick.labels)
    ]
    return (*found, stick.measure_own(own))


@dataclass(frozen=True)
class Yardstick:
    """What choices of k rows are measured by: the run's own, its labels, and its pool and target."""

    run: Run
    made: Made
    labels: Mapping[str, Labels]

    @property
    def of_pool(self) -> Interval:
        """The distance of the pool itself, or of the base."""
        return self.made.distances.before

    def measure_own(self, seconds: float) -> MethodResult:
        """Measure the run's own choice, whose mixture is known."""
        rows, mass = self.made.selection.rows, self.run.model.potentials.mass
        found = self._measured("gapsel", rows, self.made.distances.after, seconds)
        return replace(found, tasks=self._to_each(rows, mass))

    def measure(
        self, name: str, rows: NDArray[np.int64], mass: float, seconds: float, *, by_task: bool = True
    ) -> MethodResult:
        """Measure a choice (k,) that took so many seconds, as it would be mixed in at this mass; also for each task."""
        found = self._measured(name, rows, self._mixture(rows, mass), seconds)
        return replace(found, tasks=self._to_each(rows, mass)) if by_task else found

    def tasks(self) -> tuple[TaskShare, ...]:
        """Return what there is to say of each task of several."""
        return task_shares(self.run, self._each, self.made.selection.nearest)

    def _measured(self, name: str, rows: NDArray[np.int64], mixture: Interval | None, seconds: float) -> MethodResult:
        """Measure a choice, whose ``mixture`` is that distance or, None, the choice alone."""
        pool = self.labels["pool"]
        alone = self._whole.distance(self.run.rows.only(rows, self.run.rules.budget.shares(rows)))
        return MethodResult(
            name=name,
            mixture=mixture or alone,
            alone=alone,
            overlap=len(np.intersect1d(rows, self.made.selection.rows)) / len(rows),
            precision=self._whole.precision(rows),
            coverage=self._whole.coverage(rows),
            documents=len(rows),
            tokens=self._tokens(rows),
            seconds=seconds,
            mix=pool.shares(rows) if pool else {},
            tasks=(),
        )

    def _tokens(self, rows: NDArray[np.int64]) -> int | None:
        """Return the tokens of a choice: of those that are budgeted, or else by the encoder's count."""
        budget = self.run.rules.budget
        return self.run.pool.tokens_at(rows) or None if budget.sizes is None else int(budget.units(rows).sum())

    def _mixture(self, rows: NDArray[np.int64], mass: float) -> Interval | None:
        """Return the distance of the mixture with these rows, None where that is the rows alone."""
        if mass in (0, 1):
            return None if mass else self.of_pool
        shares = self.run.rules.budget.shares(rows)
        return self._whole.distance(self.run.rows.mixed(rows, mass, shares).carrying, len(rows))

    def _to_each(self, rows: NDArray[np.int64], mass: float) -> tuple[TaskResult, ...]:
        return tuple(one.measure(rows, mass) for one in self._each)

    @cached_property
    def _whole(self) -> Examples:
        return Examples(self.run, self.run.model.potentials.target, self.labels["pool"], self.labels["target"])

    @cached_property
    def _each(self) -> list[Examples]:
        return self._whole.by_task()


def _choices(run: Run, k: int, labels: Mapping[str, Labels]) -> Iterator[tuple[str, NDArray[np.int64], float]]:
    """Yield every method's name with its rows and the seconds that it took."""
    problem = problem_of(run, k, labels)
    for method in (baselines.BY_KEY[key] for key in run.settings.methods):
        began = time.perf_counter()
        rows = method.choose(problem, run.backend)
        yield method.name, rows, time.perf_counter() - began


def problem_of(run: Run, k: int, labels: Mapping[str, Labels]) -> Problem:
    """Return what every method is given to choose about k rows: the run's pool, target, rules and seed, and texts."""
    p, settings = run.model.potentials, run.settings
    return Problem(
        run.pool.shards, p.target, p.cost, k, settings.seed,
        texts=(lambda: texts(settings, "pool"), lambda: texts(settings, "target")),
        akin=labels["pool"].akin(labels["target"]) if labels["pool"] and labels["target"] else None,
        begin=begin_choices(run), threads=settings.threads,
    )  # fmt: skip


def texts(settings: Settings, side: str) -> Iterator[str]:
    """Yield the texts of a side in the order of its rows."""
    batches = corpus.read(getattr(settings, side), text_field=settings.text_field, id_field=settings.id_field)
    return (text for batch in batches for text in batch.texts)
