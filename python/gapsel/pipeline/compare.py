"""Simple ways to choose, beside gapsel's choice and measured like it: on the run's own vectors, at its k and mass."""

from __future__ import annotations

import time
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


def compare(
    run: Run, chosen: NDArray[np.int64], labels: Mapping[str, Labels], of_pool: Interval
) -> tuple[MethodResult, ...]:
    """Choose k rows by each method of the settings, and measure them and the run's own choice alike, that last."""
    found = dict(_choices(run, labels))
    # What the choice itself took: the sweeps of the fit, and the reading of the scores.
    own = sum(run.folder.facts(step)["seconds"] for step in ("fit", "score", "select"))
    covering = _covering(run)
    return tuple(
        _measured(run, name, rows, seconds, chosen, labels, of_pool, covering)
        for name, (rows, seconds) in {**found, "gapsel": (chosen, own)}.items()
    )


def distance_of(run: Run, rows: Rows, heavy: int = 0) -> Interval:
    """Return the distance of rows to the run's target."""
    p = run.model.potentials
    return distance(run.backend, rows, p.target, p.cost, p.scale, heavy=heavy, seed=run.settings.seed)


def _choices(run: Run, labels: Mapping[str, Labels]) -> Iterator[tuple[str, tuple[NDArray[np.int64], float]]]:
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
        yield method.name, (rows, time.perf_counter() - began)


def _texts(settings: Settings, side: str) -> Iterator[str]:
    batches = corpus.read(getattr(settings, side), text_field=settings.text_field, id_field=settings.id_field)
    return (text for batch in batches for text in batch.texts)


def _measured(  # noqa: PLR0917 - a row of the table
    run: Run,
    name: str,
    rows: NDArray[np.int64],
    seconds: float,
    chosen: NDArray[np.int64],
    labels: Mapping[str, Labels],
    of_pool: Interval,
    covering: NDArray[np.int64],
) -> MethodResult:
    mixture, alone = _distances(run, rows, of_pool)
    return MethodResult(
        name=name,
        mixture=mixture,
        alone=alone,
        overlap=len(np.intersect1d(rows, chosen)) / run.k,
        precision=float(labels["pool"].akin(labels["target"])[rows].mean()) if any(labels["target"].names) else None,
        coverage=float(np.isin(covering, rows).any(axis=1).mean()),
        tokens=run.pool.tokens_at(rows) or None,
        seconds=seconds,
        mix=labels["pool"].shares(rows) if labels["pool"] else {},
    )


def _distances(run: Run, rows: NDArray[np.int64], of_pool: Interval) -> tuple[Interval, Interval]:
    """Return the distance of the mixture with these rows, and of the rows alone."""
    mass = run.model.potentials.mass
    alone = distance_of(run, run.rows.only(rows))
    if mass in (0, 1):
        return (alone if mass else of_pool), alone
    return distance_of(run, run.rows.mixed(rows, mass), len(rows)), alone


def _covering(run: Run) -> NDArray[np.int64]:
    """Return the nearest rows of the pool (t, 10) of each target, or of some of them drawn by their weights."""
    p = run.model.potentials
    y, b = p.target.y, p.target.b
    if len(b) > _LOOKED_AT:
        y = y[np.sort(np.random.default_rng(run.settings.seed).choice(len(b), _LOOKED_AT, replace=False, p=b))]
    return baselines.nearest_rows(run.pool.shards, y, p.cost, min(_NEIGHBOURS, run.pool.n))
