"""Plain transport, mass 0: where a base says what the model has, g follows from it alone, and the pool is looked at."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials.recipe import solve
from gapsel.potentials.task import Solution
from gapsel.records import Box, Query

if TYPE_CHECKING:
    from collections.abc import Callable

    from gapsel.backends import Backend
    from gapsel.potentials.task import Task
    from gapsel.records import Stage


def solve_plain(task: Task, backend: Backend, watch: Callable[[Stage], None] | None = None) -> Solution:
    """Solve a task at mass 0, with f (n,) of all of its rows, those of a base last."""
    rows, task = task.rows, replace(task, rows=task.rows.present, mass=0.0)
    if not rows.base:
        return solve(task, backend, watch=watch)
    found = solve(task, backend, watch=watch).potentials
    f = np.empty(rows.n, np.float32)
    backend.sweep(rows.shards, Query(task.target, found.g, Box.fixed(rows.a), found.eps, found.cost, f=f))
    # How settled the k lowest of the base are is no matter.
    evidence = replace(found.evidence, unsettled=float("nan"))
    return Solution(replace(found, evidence=evidence), f)
