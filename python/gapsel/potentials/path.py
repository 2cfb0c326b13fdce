"""How the choice moves with the mass: one sweep of the pool, and one shortlist solved at mass after mass.

The shortlist is as deep as a mass of 1 asks for; what may be chosen are the rows that it keeps as they are. Each mass
goes on from the one before. What is left out is the last look at the pool, which a run takes at its own mass: in real
text a list's choice had 0.95 to 0.99 of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials.recipe import Recipe
from gapsel.potentials.rows import Shortlist
from gapsel.potentials.sizes import shortlist_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials.dual import Point
    from gapsel.potentials.rows import Rows
    from gapsel.potentials.task import Task
    from gapsel.records import Stage


def mass_path(
    tasks: Sequence[Task], backend: Backend, watch: Callable[[Stage], None] | None = None
) -> Iterator[NDArray[np.int64]]:
    """Yield, for each of the tasks, which differ in mass and eps alone, the rows (k,) that are chosen, best first.

    They go best in the order of their mass. ``watch`` is told of every sweep.
    """
    first, rng = tasks[0], np.random.default_rng(tasks[0].seed)
    plain = Recipe(replace(first, mass=1.0), backend, watch).plain(rng)
    short = _deepest(first.rows, plain.f, len(first.target.b), rng)
    eligible = np.flatnonzero(np.isin(short.index, short.exact))
    point, f = plain, plain.f[short.index]
    for task in tasks:
        point = _solved(Recipe(task, backend, watch), short.rows, point.g, f)
        f = point.f
        yield short.index[eligible[backend.topk(np.ascontiguousarray(f[eligible]), task.k)]]


def _deepest(rows: Rows, f: NDArray[np.float32], m: int, rng: np.random.Generator) -> Shortlist:
    """Return the shortlist for a mass of 1, or all rows where it would have them."""
    sizes = shortlist_sizes(rows.n, m, rows.capacity, 1.0)
    if sum(sizes) < rows.n:
        return rows.shortlist(f, *sizes, rng)
    everything = np.arange(rows.n)
    return Shortlist(rows, everything, everything)


def _solved(recipe: Recipe, rows: Rows, g: NDArray[np.float64], f: NDArray[np.float32]) -> Point:
    """Solve a task on the list, from a g (m,) with f there."""
    if recipe.task.mass == 0:
        return recipe.ascended("shortlist", rows, g, recipe.task.tolerance).point
    return recipe.sharpened("shortlist", rows, g, f, recipe.task.tolerance).point
