"""What is to be avoided: its pull is taken off, as a price of the rows.

    minimise  G(w) = F((1 - mass) a + mass w) + mass <w, p>        p_i = -strength (h_i - <a, h>)

F is the regularised distance of row masses to the target, w the choice, and h the potentials of the rows in plain
transport to the examples to be avoided: the gradient, at a, of the distance H to these. H is convex, so that

    F - strength H  at the mixture   <=   G(w) - strength H(a)      for every w

with equality as the mass goes to 0: a choice that lowers G lowers the contrast F - strength H by at least as much. (The
contrast itself is not convex, and nothing would certify its best choice.) At mass 0 the lowest f + p are chosen, which
are the lowest f - strength h: the contrast of two potentials by which GOT-D chooses against toxic text.

For every g, with the least mean over choices of k rows,

    G(w) >= <b, g> + (1 - mass) <a, f(g)> + mass (least mean of f(g) + p)                          (selection.certify)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.calibration import mean_of
from gapsel.potentials.beside import solve_plain
from gapsel.potentials.rows import scale_of
from gapsel.records import Avoided, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials.rows import Rows
    from gapsel.potentials.task import Task
    from gapsel.records import Stage


@dataclass(frozen=True, slots=True)
class Aversion:
    """The problem of plain transport to what is to be avoided, whose rows may be replaced, and how much that counts."""

    task: Task
    strength: float

    @classmethod
    def of(cls, task: Task, examples: NDArray[np.float32], relative_eps: float, strength: float) -> Aversion:
        """Return the problem of examples (q, d) beside a task; its eps is in units of their own scale of the cost."""
        target = Target(examples, np.full(len(examples), 1.0 / len(examples)))
        scale = scale_of(task.rows, target, task.cost, task.seed)
        beside = replace(task, target=target, scale=scale, eps=scale.eps(relative_eps), mass=0.0)
        return cls(beside, strength)

    def priced(
        self, rows: Rows, backend: Backend, watch: Callable[[Stage], None] | None = None
    ) -> tuple[Rows, Avoided]:
        """Solve on these rows, and return them with their prices (n,), and what prices any other row."""
        found = solve_plain(replace(self.task, rows=rows), backend, watch)
        avoided = Avoided(found.potentials, self.strength, mean_of(found.f, rows.a))
        return replace(rows, price=avoided.price(found.f)), avoided


def facing(task: Task, avoided: Avoided) -> Task:
    """Return the task with what is to be avoided in the target's place, to measure the distance to it.

    At mass 0, where the mixture is the pool, it is about the chosen alone.
    """
    p = avoided.potentials
    return replace(task, target=p.target, scale=p.scale, mass=task.mass or 1.0)
