"""Arrays and settings to the problem that they pose; what cannot be used is refused with its name."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import store
from gapsel.config import POOL_WEIGHTS, STUDIES, Settings, rows_for
from gapsel.errors import UsageError
from gapsel.pipeline.inputs import arrays
from gapsel.pipeline.vectors.sides import check_d
from gapsel.pipeline.work import task_of
from gapsel.potentials import Aversion, Rows, Task, Weighing
from gapsel.records import Cost, Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

_OF_FILES = {*Settings().of("embed", "report"), "device", *STUDIES}
_OF_FILES |= {*POOL_WEIGHTS, "target_weights", "base_weights"}
_OF_FILES |= {"clusters", "choose", "token_field", "exclude", "held_out", "max_jaccard"}


def settings_for_arrays(given: dict[str, Any]) -> Settings:
    """Return the settings. Raises UsageError for those of runs over files, as for any that is wrong."""
    foreign = next((name for name in given if name in _OF_FILES), None)
    if foreign is not None:
        msg = f"{foreign} is a setting of runs over files: give arrays to fit(), or call gapsel.run"
        raise UsageError(msg)
    return Settings.from_json(given)


def posed(
    settings: Settings,
    target: ArrayLike,
    pool: ArrayLike | Sequence[ArrayLike],
    *,
    target_weights: ArrayLike | None,
    pool_weights: ArrayLike | None,
    tasks: ArrayLike | None,
) -> tuple[Task, Weighing]:
    """Return the problem that these arrays pose, and how its target is to be weighed."""
    y = arrays.matrix(target, "target")
    shards = [arrays.matrix(shard, "pool") for shard in arrays.shards_of(pool)]
    _check(settings, y, shards, "pool")
    weights = arrays.target_weights_of(target_weights, len(y))
    a = arrays.weights_of(pool_weights, arrays.count(shards), "pool_weights")
    rows = Rows.whole(shards, rows_for(settings.k, arrays.count(shards)), a)
    given = Target(np.ascontiguousarray(y, np.float32), weights)
    weighed, weighing = arrays.tasks_of(tasks, weights).posed(given, settings)
    return task_of(settings, rows, weighed, Cost(settings.cost, settings.normalize)), weighing


def beside(
    settings: Settings,
    task: Task,
    base: ArrayLike | Sequence[ArrayLike],
    *,
    base_weights: ArrayLike | None,
    pool_weights: ArrayLike | None,
) -> Task:
    """Return the problem with a base beside the pool."""
    if pool_weights is not None:
        msg = "pool_weights are given beside a base, which has all the weight: leave one of them out"
        raise UsageError(msg)
    shards = [arrays.matrix(shard, "base") for shard in arrays.shards_of(base)]
    _check(settings, task.target.y, shards, "base")
    rows = task.rows.beside(shards, arrays.weights_of(base_weights, arrays.count(shards), "base_weights"))
    return dataclasses.replace(task, rows=rows)


def aversion(settings: Settings, task: Task, avoid: ArrayLike) -> Aversion:
    """Return the problem that examples to be avoided pose beside a task."""
    y = arrays.matrix(avoid, "avoid")
    _check(settings, task.target.y, [y], "avoid")
    return Aversion.of(task, np.ascontiguousarray(y, np.float32), *settings.of_avoided)


def _check(settings: Settings, y: NDArray[np.floating], shards: Sequence[NDArray[np.floating]], side: str) -> None:
    normalize = settings.normalize or settings.cost == "cosine"
    store.check([y], name="target", normalize=normalize)
    store.check(shards, name=side, normalize=normalize)
    check_d(side, shards[0].shape[1], y.shape[1])
