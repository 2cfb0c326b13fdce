"""The dual function on one set of rows: one sweep a look.

    D(g) = <b, g> + sum_i phi_i(f_i(g)),     dD/dg = b - q,     marginal error = sum_j |q_j - b_j|

D is concave; with fixed row masses it does not change when a constant is added to g, with a box it does, and the
constant is then the threshold of the selection. Where columns may be let go (trimming.py), what they are best to hold
at g stands in the place of b.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.memory import LARGEST_PLAN
from gapsel.potentials.sizes import threshold
from gapsel.records import KeptPlan, Query, plan_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials.rows import Rows
    from gapsel.potentials.trimming import Trimmed
    from gapsel.records import Box, Cost, Sweep, Target

_LEAST_ROUGH_EPS, _LEAST_CLOSE_EPS = 5e-3, 1e-3
# A plan has what is at least 2^-30 of its row's largest. A column that has gained more than some 16 eps beside others
# may be missing where it counts.
_REACH = 12.0
# A column is tilted by at most this share of its weight.
_STEEPEST = 0.9


@dataclass(frozen=True, slots=True)
class Point:
    """The dual at one g (m,): its value, its gradient b - q (m,), the marginal error; f (n,) or, unasked, (0,).

    ``columns`` (m,) are what stands for b: what the columns are to hold.
    ``rough``: the backend was free to round the vectors, if only a little.
    """

    g: NDArray[np.float64]
    value: float
    gradient: NDArray[np.float64]
    error: float
    sweep: Sweep
    f: NDArray[np.float32]
    columns: NDArray[np.float64]
    rough: bool = False


def most_kept(backend: Backend, target: Target) -> int:
    """Return how many rows may have their plan kept."""
    return 0 if backend.keeper is None else LARGEST_PLAN // plan_columns(target)


@dataclass(frozen=True, slots=True)
class Dual:
    """The function to be maximised: these rows, this target, this row rule, this eps (absolute) and cost.

    ``tilt`` (m,) adds <tilt, g>: the columns are then to hold b + tilt. A part of the pool is given by it the gradient
    that the whole has at some g, and stands in for the whole around there. ``plan`` is where looks at vectors write
    their plan, if that is wanted, of costs that need only be ``close``.
    """

    backend: Backend
    rows: Rows
    target: Target
    box: Box
    eps: float
    cost: Cost
    tilt: NDArray[np.float64] | float = 0.0
    trimmed: Trimmed | None = None
    plan: NDArray[np.uint8] | None = None
    close: bool = False

    def at(self, g: NDArray[np.float64], *, gram: bool = False, want_f: bool = False, rough: bool = False) -> Point:
        """Read the rows once at g (m,)."""
        f = np.empty(self.rows.n if want_f else 0, np.float32)
        out = f if want_f else None
        query = Query(self.target, g, self.box, self.eps, self.cost, gram=gram, rough=rough, f=out)
        return self.point(g, self.swept(query), f, rough=rough)

    def swept(self, query: Query) -> Sweep:
        """Read the rows' vectors, or what is kept of their plan."""
        kept, keeper = self.rows.kept, self.backend.keeper
        if keeper is not None and self.plan is not None:
            return keeper.sweep(self.rows.shards, replace(query, plan=self.plan, close=self.close))
        if keeper is not None and kept is not None and kept.answers(query):
            return keeper.sweep_kept(kept, query)
        return self.backend.sweep(self.rows.shards, query)

    @property
    def keeps(self) -> bool:
        """Whether the plan of these rows can be kept."""
        return self.rows.n <= most_kept(self.backend, self.target)

    def keeping(
        self, g: NDArray[np.float64], plan: NDArray[np.uint8], *, rough: bool = False, close: bool = False
    ) -> tuple[Point, Dual]:
        """Read the rows' vectors at g (m,), with f; return this dual with their plan there, written to ``plan`` (n, c).

        ``close``: costs that are off by some 4e-5 will do.
        """
        rows = replace(self.rows, kept=None)
        dual = replace(self, rows=rows)
        point = replace(dual, plan=plan, close=close).at(g, want_f=True, rough=rough)
        point = replace(point, rough=rough or close)
        return point, replace(dual, rows=replace(rows, kept=KeptPlan(plan, point.f, g, self.eps, self.target.b)))

    def is_far(self, g: NDArray[np.float64]) -> bool:
        """Whether the rows have a plan that was kept too far from g (m,) to tell of it."""
        kept = self.rows.kept
        if kept is None or kept.eps != self.eps:
            return False
        way = g - kept.g
        # Not np.median, whose first call imports numpy.ma: 7 ms of a solve of 400.
        median = np.partition(way, len(way) // 2)[len(way) // 2]
        return float(np.abs(way - median).max()) > _REACH * self.eps

    def corrected(self, own: Point, seen: Point) -> tuple[Dual, Point]:
        """Return this dual of a kept plan with the gradient that was ``seen`` at the vectors where it was kept.

        And what was seen there of the plan, its ``own`` point, as a point of it.
        """
        dual = replace(self, tilt=self.tilt + (own.sweep.q - seen.sweep.q))
        return dual, dual.point(own.g, own.sweep, own.f, rough=own.rough)

    @property
    def reads(self) -> int:
        """How often a look reads the rows."""
        return 1

    def threshold(self, f: NDArray[np.float32]) -> float:
        """Return the constant that is to be taken off f (n,) for the row masses to sum to 1."""
        return threshold(f, self.box)

    def taken(self, f: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what rows carry above lo (n,) at f (n,)."""
        return self.box.taken(f)

    def tilted(self, own: NDArray[np.float64], whole: NDArray[np.float64]) -> Dual:
        """Return this part of the pool with the gradient of the whole, where its q is ``own`` and that one's ``whole``.

        What a column is to hold stays positive, and where row masses are fixed the columns hold as much as the rows.
        """
        b = self.target.b
        tilt = np.maximum(own - whole, -_STEEPEST * b)
        if self.box.is_fixed:
            held = b + tilt
            tilt = held / held.sum() - b
        return replace(self, tilt=tilt)

    def point(self, g: NDArray[np.float64], sweep: Sweep, f: NDArray[np.float32], *, rough: bool) -> Point:
        """Say what a sweep at g (m,), with f (n,) or (0,), means for this function."""
        b = self.target.b
        held, value = b, float(b @ g)
        if self.trimmed is not None:
            columns = self.trimmed.at(b, g)
            held, value = columns.held, columns.value
        held = np.asarray(held + self.tilt)
        gradient = held - sweep.q
        value += float((self.tilt * g).sum()) + sweep.value
        return Point(g, value, gradient, float(np.abs(gradient).sum()), sweep, f, held, rough)

    @property
    def bears_rounding(self) -> bool:
        """Whether costs that are off by some 2e-4, as those of unit vectors in bfloat16 are, still lead the way."""
        return self._has_unit_vectors and self.eps > _LEAST_ROUGH_EPS

    @property
    def bears_closeness(self) -> bool:
        """Whether costs that are off by some 4e-5 may make a plan that is kept."""
        return self._has_unit_vectors and self.eps > _LEAST_CLOSE_EPS

    @property
    def _has_unit_vectors(self) -> bool:
        return self.cost.kind == "cosine" or (self.cost.kind == "sqeuclidean" and self.cost.normalize)

    def centred(self, step: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take from a step what does not change D: its weighted mean, where the row masses are fixed."""
        return step - self.target.b @ step if self.box.is_fixed else step

    def scaling_step(self, point: Point) -> NDArray[np.float64]:
        """Return Sinkhorn's step eps log(b / q), which never lowers D; clipped where a column has lost all mass.

        Where eta is below eps, free rows answer to g more sharply than columns do, and the step is eta log(b / q).
        Trimmed columns answer too, by no more than a factor of exp(step / their eta).
        """
        b = np.where(self.target.b > 0, np.maximum(point.columns, np.finfo(float).tiny), 1.0)
        q = np.where(self.target.b > 0, np.maximum(point.sweep.q, b * np.exp(-30.0)), 1.0)
        reach = self.eps if self.box.is_fixed else min(self.eps, self.box.eta)
        if self.trimmed is not None:
            reach = 1.0 / (1.0 / reach + 1.0 / self.trimmed.eta)
        return self.centred(reach * np.log(b / q))
