"""From nothing to converged potentials in few sweeps of the whole pool.

    1. nested random samples at mass 0: eps falls on the first, each larger one is looked at once       plain.py
    2. full sweeps at mass 0; for a mass above 0 one, which ranks the rows
    3. for mass > 0: a shortlist (the rows of lowest f as they are, a weighted sample of the rest), on
       which eta falls                                                                                  boxed.py
    4. full sweeps at that mass, to the tolerance; at a large mass the shortlist leads between them
    5. the evidence                                                                                     evidence.py

Where the pool is small enough for its plan to be kept, what follows the first look at it in 2, and the first look at
the mass in 4, is done on that plan, and one more sweep says how well (planned.py).

course.py has the task on its way; the loop that raises the dual on one set of rows is ascent.py's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials import boxed, plain
from gapsel.potentials.course import LOOKS_AT_A_PART, Course
from gapsel.potentials.evidence import concluded
from gapsel.potentials.task import Start, Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials.ascent import Ascent
    from gapsel.potentials.dual import Point
    from gapsel.potentials.rows import Rows
    from gapsel.potentials.task import Solution
    from gapsel.records import Cost, CostScale, Stage, Target


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
    course = Course(task, backend, watch, ranking=ranking)
    reached = _reached(course, start)
    return concluded(course, reached, start.plain_value) if isinstance(start, Start) else concluded(course, reached)


def _reached(course: Course, start: NDArray[np.float64] | Start | None) -> Ascent:
    """Go through all stages; see solve."""
    task, rng = course.task, np.random.default_rng(course.task.seed)
    if isinstance(start, Start):
        return boxed.from_another_k(course, start, rng)
    if start is not None:
        return course.ascended("pool", course.dual(task.rows, task.mass), start, task.tolerance, want_f=True)
    if task.mass > 0:
        return boxed.from_plain(course, plain.near(course, rng), rng)
    return plain.solved(course, rng)


def look(task: Task, g: NDArray[np.float64], backend: Backend) -> Point:
    """Return what the dual of a task is at some g (m,), with f (n,) of all rows."""
    return Course(task, backend).dual(task.rows, task.mass).at(g, want_f=True)


def annealed(
    backend: Backend,
    rows: Rows,
    target: Target,
    *,
    cost: Cost,
    scale: CostScale,
    eps: float,
    tolerance: float,
    first: Rows | None = None,
) -> Ascent:
    """Solve plain transport on these rows alone, from g = 0 while eps falls to its value.

    With ``first``, fewer rows that stand for them, it falls there: for an eps at which each row has but few columns.
    """
    course = Course(Task(rows, target, cost, scale, eps, 0.0, tolerance, max_sweeps=LOOKS_AT_A_PART), backend)
    if first is None or first.n >= rows.n:
        return plain.annealed(course, rows, tolerance, whole=True)
    return plain.after(course, first)
