"""The weights of a target where they are to be found: who is ignored, and then whose task weighs how much."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials.balancing import balance, weighted
from gapsel.potentials.robust import ignored
from gapsel.potentials.rows import scale_of
from gapsel.records import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials.levelling import Balance
    from gapsel.potentials.task import Task
    from gapsel.records import Stage


@dataclass(frozen=True, slots=True)
class Weighing:
    """How a target is to be weighed: ``task_of`` (m,) tells its tasks apart, from 0 on.

    ``level``: their weights are such that each closes the same share. ``robust``: the share that may be ignored.
    """

    task_of: NDArray[np.intp]
    level: bool = False
    robust: float = 0.0

    @property
    def asks(self) -> bool:
        """Whether there is anything to be found, which another k would find otherwise."""
        return self.level or self.robust > 0


@dataclass(frozen=True, slots=True)
class Weighed:
    """The problem with the weights that were found, the rows (i,) of the target that are ignored, and the balance."""

    task: Task
    ignored: NDArray[np.int64]
    balance: Balance | None


def weigh(task: Task, weighing: Weighing, backend: Backend, watch: Callable[[Stage], None] | None = None) -> Weighed:
    """Find the weights of a task's target; ``watch`` is told of every sweep. Raises UsageError as `ignored` does."""
    gone, task_of = np.zeros(0, np.int64), weighing.task_of
    if weighing.robust > 0:
        gone = ignored(task, weighing.robust, task_of, backend, watch)
        task = _measured_again(replace(task, target=without(task.target, gone, task_of)))
    if not weighing.level:
        return Weighed(task, gone, None)
    found = balance(task, task_of, backend, watch)
    return Weighed(replace(task, target=weighted(task.target, task_of, found.weights)), gone, found)


def _measured_again(task: Task) -> Task:
    """Return the problem with the scale of what is left of the target, and as much of it as eps."""
    scale = scale_of(task.rows, task.target, task.cost, task.seed)
    return replace(task, scale=scale, eps=task.eps * scale.eps(1.0) / task.scale.eps(1.0))


def without(target: Target, gone: NDArray[np.int64], task_of: NDArray[np.intp]) -> Target:
    """Return the target without the weight of some rows, which goes to the others of their task."""
    left = target.b.copy()
    left[gone] = 0.0
    return weighted(Target(target.y, left), task_of, np.asarray(np.bincount(task_of, target.b), np.float64))
