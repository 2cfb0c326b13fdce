"""The dual of the best mixture, on some rows of each domain, for the loop that the solver has.

    S(g) = <b + tilt, g> + min over w of { <w, F(g) + offset> + eta KL(w | ref) }
    dS/dg = b + tilt - sum_d w_d q_d         -S'' = (1/eps) [diag(q) - G] + bend(w)

F_d is the mean of f in domain d and q_d its column marginal. S is concave: a minimum of concave functions. Tilt (m,)
and offset (u,) give a sample the gradient that the pool has, in g and in w, around where the pool was looked at.

Why not a plain solve at each w: where the domains lie far apart, the distance has a kink at the best weights, and the
potentials of one domain against the next are hardly known a little beside it. Here the weights give way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.potentials import Dual, Rows
from gapsel.potentials.curvature import Curvature
from gapsel.records import Box, Cost, Query, Sweep, Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.mixture.simplex import Rule
    from gapsel.potentials import Point

# Of domains with less weight the Gram has nothing.
_LEAST_OF_GRAM = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedSweep(Sweep):
    """A sweep of rows by domains: also F (u,), without offset, and the weights (u,) that follow."""

    means: NDArray[np.float64]
    weights: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MixtureDual(Dual):
    """The dual of a mixture; ``parts`` has rows of each domain, weighted to sum 1, ``offset`` (u,) is added to F."""

    parts: tuple[Rows, ...]
    rule: Rule
    offset: NDArray[np.float64] | float = 0.0

    @classmethod
    def on(
        cls, parts: Sequence[Rows], rule: Rule, target: Target, *, eps: float, cost: Cost, backend: Backend
    ) -> MixtureDual:
        """Return the dual on rows of each domain."""
        rows = Rows(tuple(shard for part in parts for shard in part.shards), 1.0, 1.0)
        return cls(
            backend=backend, rows=rows, target=target, box=Box.fixed(1.0), eps=eps, cost=cost, parts=tuple(parts),
            rule=rule,
        )  # fmt: skip

    def at(self, g: NDArray[np.float64], *, gram: bool = False, want_f: bool = False, rough: bool = False) -> Point:  # noqa: ARG002 - as in Dual; there is no f of rows here
        """Read the rows once at g (m,), and those of the domains with weight once more for a Gram."""
        sweeps = [self._swept(part, part.a, g, rough=rough) for part in self.parts]
        means, marginals = np.array([one.value for one in sweeps]), np.stack([one.q for one in sweeps])
        slopes = means + self.offset
        w = self.rule.weights(slopes)
        carried = self._carried(g, w, marginals, rough=rough) if gram else (None, None)
        found = MixedSweep(
            q=w @ marginals,
            value=self.rule.value(slopes, w),
            hard=float(w @ [one.hard for one in sweeps]),
            entropy=float(w @ [one.entropy for one in sweeps]),
            gram=carried[0],
            gram_q=carried[1],
            means=means,
            weights=w,
        )
        return self.point(g, found, np.empty(0, np.float32), rough=rough)

    def scaling_step(self, point: Point) -> NDArray[np.float64]:
        """Return Sinkhorn's step, shortened to eta where weights answer to g more sharply than columns do."""
        return Dual.scaling_step(self, point) * min(1.0, self.rule.eta / self.eps)

    def at_weights(self, w: NDArray[np.float64]) -> Dual:
        """Return the plain dual of these rows at fixed weights (u,)."""
        rows, masses = self._carrying(w)
        return Dual(self.backend, rows, self.target, Box.fixed(masses), self.eps, self.cost)

    def _carrying(self, w: NDArray[np.float64]) -> tuple[Rows, NDArray[np.float64]]:
        some = [(part, v) for part, v in zip(self.parts, w, strict=True) if v > _LEAST_OF_GRAM]
        masses = np.concatenate([np.broadcast_to(np.asarray(v * part.a), (part.n,)) for part, v in some])
        return Rows(tuple(shard for part, _ in some for shard in part.shards), masses, 1.0), masses

    def _carried(
        self, g: NDArray[np.float64], w: NDArray[np.float64], marginals: NDArray[np.float64], *, rough: bool
    ) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
        """Return the Gram of the mixture at w less what the weights bend, and the q of its rows."""
        rows, masses = self._carrying(w)
        sweep = self._swept(rows, masses, g, rough=rough, gram=True)
        bent = None if sweep.gram is None else sweep.gram - self.eps * self.rule.bend(w, marginals)
        return bent, sweep.gram_q

    def _swept(
        self, rows: Rows, a: float | NDArray[np.float64], g: NDArray[np.float64], *, rough: bool, gram: bool = False
    ) -> Sweep:
        query = Query(self.target, g, Box.fixed(a), self.eps, self.cost, rough=rough, gram=gram)
        return self.backend.sweep(rows.shards, query)


@dataclass(slots=True)
class WholeSteps(Curvature):
    """Curvature whose steps are shortened as a whole: weights that give way tie the targets of a domain together."""

    def step(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return H^-1 gradient (m,), no target moved by more than the reach."""
        step = Curvature.step(replace(self, reach=np.inf), gradient)
        return step * min(1.0, self.reach * self.eps / max(float(np.abs(step).max()), 1e-300))
