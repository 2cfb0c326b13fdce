"""Simple ways to choose, beside gapsel's choice and measured like it: on the run's own vectors, at its k and mass."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from gapsel import baselines, corpus
from gapsel.baselines import Curated, Dsir, Problem
from gapsel.config import METHODS
from gapsel.distance import distance
from gapsel.errors import UsageError
from gapsel.findings import MethodResult
from gapsel.pipeline.labels import check_labels
from gapsel.pipeline.vectors import has_texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from gapsel.config import Settings
    from gapsel.findings import Interval
    from gapsel.pipeline.labels import Labels
    from gapsel.pipeline.select import Made
    from gapsel.pipeline.work import Run
    from gapsel.potentials import Rows

# A target is covered by one of so many of its nearest rows; of many targets so many are looked at, by their weights.
_NEIGHBOURS, _LOOKED_AT = 10, 256


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
    lacking = {Dsir.key: not texts, Curated.key: settings.label_field is None}
    return tuple(key for key in METHODS if not lacking.get(key))


def compare(run: Run, stick: Yardstick) -> tuple[MethodResult, ...]:
    """Choose k rows by each method of the settings, and measure them and the run's own choice alike, that last."""
    mass = run.model.potentials.mass
    # What the choice itself took: the sweeps of the fit, and the reading of the scores.
    own = sum(run.folder.facts(step)["seconds"] for step in ("fit", "score", "select"))
    found = [stick.measure(name, rows, mass, seconds) for name, rows, seconds in _choices(run, stick.labels)]
    return (*found, stick.measure_own(own))


def distance_of(run: Run, rows: Rows, heavy: int = 0) -> Interval:
    """Return the distance of rows to the run's target."""
    p = run.model.potentials
    return distance(run.backend, rows, p.target, p.cost, p.scale, heavy=heavy, seed=run.settings.seed)


@dataclass(frozen=True)
class Yardstick:
    """What choices of k rows are measured by: the run's own, its labels, and its pool and target."""

    run: Run
    made: Made
    labels: Mapping[str, Labels]

    @property
    def of_pool(self) -> Interval:
        """The distance of the pool itself."""
        return self.made.distances.before

    def measure_own(self, seconds: float) -> MethodResult:
        """Measure the run's own choice, whose mixture is known."""
        return self._measured("gapsel", self.made.selection.rows, self.made.distances.after, seconds)

    def measure(self, name: str, rows: NDArray[np.int64], mass: float, seconds: float) -> MethodResult:
        """Measure a choice (k,) that took so many seconds, as it would be mixed in at this mass."""
        return self._measured(name, rows, self._mixture(rows, mass), seconds)

    def _measured(self, name: str, rows: NDArray[np.int64], mixture: Interval | None, seconds: float) -> MethodResult:
        """Measure a choice, whose ``mixture`` is that distance or, None, the choice alone."""
        pool, target = self.labels["pool"], self.labels["target"]
        alone = distance_of(self.run, self.run.rows.only(rows))
        return MethodResult(
            name=name,
            mixture=mixture or alone,
            alone=alone,
            overlap=len(np.intersect1d(rows, self.made.selection.rows)) / len(rows),
            precision=float(pool.akin(target)[rows].mean()) if any(target.names) else None,
            coverage=float(np.isin(self._covering, rows).any(axis=1).mean()),
            tokens=self.run.pool.tokens_at(rows) or None,
            seconds=seconds,
            mix=pool.shares(rows) if pool else {},
        )

    def _mixture(self, rows: NDArray[np.int64], mass: float) -> Interval | None:
        """Return the distance of the mixture with these rows, None where that is the rows alone."""
        if mass in (0, 1):
            return None if mass else self.of_pool
        return distance_of(self.run, self.run.rows.mixed(rows, mass), len(rows))

    @cached_property
    def _covering(self) -> NDArray[np.int64]:
        """The nearest rows of the pool (t, 10) of each target, or of some of them drawn by their weights."""
        run, p = self.run, self.run.model.potentials
        y, b = p.target.y, p.target.b
        if len(b) > _LOOKED_AT:
            y = y[np.sort(np.random.default_rng(run.settings.seed).choice(len(b), _LOOKED_AT, replace=False, p=b))]
        return baselines.nearest_rows(run.pool.shards, y, p.cost, min(_NEIGHBOURS, run.pool.n))


def _choices(run: Run, labels: Mapping[str, Labels]) -> Iterator[tuple[str, NDArray[np.int64], float]]:
    """Yield every method's name with its rows (k,) and the seconds that it took."""
    p, settings = run.model.potentials, run.settings
    problem = Problem(
        run.pool.shards, p.target, p.cost, run.k, settings.seed,
        texts=(lambda: _texts(settings, "pool"), lambda: _texts(settings, "target")),
        akin=labels["pool"].akin(labels["target"]) if labels["pool"] and labels["target"] else None,
    )  # fmt: skip
    for method in (baselines.BY_KEY[key] for key in settings.methods):
        began = time.perf_counter()
        rows = method.choose(problem, run.backend)
        yield method.name, rows, time.perf_counter() - began


def _texts(settings: Settings, side: str) -> Iterator[str]:
    batches = corpus.read(getattr(settings, side), text_field=settings.text_field, id_field=settings.id_field)
    return (text for batch in batches for text in batch.texts)
