"""The nouns: small frozen records that the verbs hand to each other.

Letters, everywhere: n pool rows, m target rows, d dimensions, k chosen rows; x pool, y target, a and b their
weights; f and g the potentials; eps the entropic regularisation and eta the temperature of the rows.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from gapsel.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_Any = TypeVar("_Any", bound=np.generic)
CostKind = Literal["sqeuclidean", "cosine", "euclidean"]
# Documents that a repr names.
_SHOWN = 3
# At this x a row is empty, and exp(x) is still a number.
_EMPTY = 700.0
COST_KINDS: tuple[CostKind, ...] = ("sqeuclidean", "cosine", "euclidean")
# What a sweep may write of each row; the reference writes f and the hard minimum in float64 too.
OUTPUTS: Mapping[str, type[np.generic]] = {"f": np.float32, "hard": np.float32, "nearest": np.int32}
# A row of a kept plan is filled up to a multiple of so many columns.
_PLAN_LANES = 16


@dataclass(frozen=True, slots=True)
class Cost:
    """The ground cost c(x, y).

    ``sqeuclidean`` is |x - y|^2, ``euclidean`` its root, ``cosine`` is 1 - <x, y> / (|x| |y|). With ``normalize``
    both vectors are scaled to unit norm before the cost is taken, so that ``sqeuclidean`` is 2 - 2 cos.
    """

    kind: CostKind = "sqeuclidean"
    normalize: bool = True


@dataclass(frozen=True, slots=True)
class CostScale:
    """Mean of the sampled cost and the standard deviation within a row, in units of the cost."""

    mean: float
    row_std: float

    def eps(self, relative: float) -> float:
        """Return the absolute eps for a multiple of row_std (of the mean, where all targets cost the same)."""
        unit = self.row_std if self.row_std > 1e-6 * self.mean else self.mean
        return relative * (unit if unit > 0 else 1.0)


def frozen(array: NDArray[_Any]) -> NDArray[_Any]:
    """Return a read-only view: a promise that the numbers stay, by which a backend may keep a copy on its device."""
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, slots=True)
class Target:
    """The examples of the task: ``y`` (m, d) float32 C-contiguous, ``b`` (m,) float64, positive, sum 1."""

    y: NDArray[np.float32]
    b: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Box:
    """The row rule: what mass r_i a pool row carries, given its potential f_i.

        r_i = lo_i + (hi_i - lo_i) / (1 + exp((f_i + price_i) / eta))

    ``lo`` and ``hi`` are each one number for all rows or an (n,) float64 array with 0 <= lo_i <= hi_i. With lo = hi
    this is plain optimal transport. ``price``, one number or an (n,) float32 or float64 array in units of the cost, is
    what mass above lo costs: a term <r - lo, price> of what is minimised. The threshold, at which a row is half full,
    is f + price = 0: it lives in the constant of g.
    """

    lo: float | NDArray[np.float64]
    hi: float | NDArray[np.float64]
    eta: float
    price: float | NDArray[np.floating] = 0.0

    @classmethod
    def fixed(cls, a: float | NDArray[np.float64]) -> Box:
        """Give every row exactly its weight, whatever f is (eta is then without effect)."""
        return cls(a, a, 1.0)

    @property
    def is_fixed(self) -> bool:
        """Whether every row carries its weight whatever f is, so that the constant of g is without effect."""
        numbers = isinstance(self.lo, float) and isinstance(self.hi, float)
        return self.lo is self.hi or (numbers and self.lo == self.hi)

    @property
    def of_all(self) -> dict[str, float]:
        """What is one number for all rows, by its name; 0 where there is an array."""
        given = {"lo": self.lo, "hi": self.hi, "price": self.price}
        return {name: float(one) if np.ndim(one) == 0 else 0.0 for name, one in given.items()}

    def at(self, rows: slice) -> Box:
        """Return the box of some of the rows."""
        return Box(_some(self.lo, rows), _some(self.hi, rows), self.eta, _some(self.price, rows))

    def taken(self, f: NDArray[np.float32], tau: float = 0.0) -> NDArray[np.float64]:
        """Return what rows carry above lo, r - lo (n,), at potentials f - tau (n,)."""
        room = np.asarray(self.hi) - self.lo
        full = (f.astype(np.float64) - tau + self.price) / self.eta
        return np.asarray(room / (1.0 + np.exp(np.minimum(full, _EMPTY))))


def _some(values: float | NDArray[_Any], rows: slice) -> float | NDArray[_Any]:
    return values[rows] if isinstance(values, np.ndarray) else values


@dataclass(frozen=True, slots=True)
class Query:
    """What one read of the pool is asked, at one g; a `Sweep` is the answer.

    ``target`` has y (m, d) and b (m,), ``g`` (m,) is the potential on its rows and ``box`` the rule of the n pool rows;
    g and ``eps`` (above 0) are in units of the ``cost``. Columns with b_j = 0 take part in nothing. The totals are
    always given; beside them may be wanted

    - ``gram``: the Gram and its marginal; see Sweep.
    - ``k``: the k lowest f and their rows, 0 for none.
    - ``f``, ``hard``, ``nearest``: outputs (n,), written in place, their types in ``OUTPUTS``: the soft minimum f_i and
      the hard minimum h_i = min_j (c_ij - g_j), in units of the cost, and its lowest argument j.

    - ``plan``: an output (n, ``plan_columns``) uint8: the plan's rows, by which a `KeptPlan` is looked at.

    ``rough`` lets a backend multiply in bfloat16, about twice as fast where the machine can: on unit vectors costs are
    then off by about 2e-4, enough to solve for g but not to score. ``close`` lets them be off by some 4e-5, enough for
    a plan that is kept. A backend may always be exact instead.
    """

    target: Target
    g: NDArray[np.float64]
    box: Box
    eps: float
    cost: Cost
    _: KW_ONLY
    gram: bool = False
    k: int = 0
    rough: bool = False
    close: bool = False
    f: NDArray[np.floating] | None = None
    hard: NDArray[np.floating] | None = None
    nearest: NDArray[np.int32] | None = None
    plan: NDArray[np.uint8] | None = None

    @property
    def outputs(self) -> dict[str, NDArray[Any]]:
        """The outputs that are wanted, by their names."""
        given = {name: getattr(self, name) for name in OUTPUTS}
        return {name: out for name, out in given.items() if out is not None}


def plan_columns(target: Target) -> int:
    """Return how many bytes a row of a kept plan has: the columns that weigh something, and what fills them up."""
    return -(-int(np.count_nonzero(target.b)) // _PLAN_LANES) * _PLAN_LANES


@dataclass(frozen=True, slots=True)
class KeptPlan:
    """What a sweep at ``g`` (m,), ``eps`` and ``b`` (m,) kept of its rows: ``plan`` (n, `plan_columns`) and ``f`` (n,).

    A number of the plan is p_ij over the largest of its row, in eight bits of a float: off by 1 part in 16 at most,
    and 0 below 2^-30. Near g that is enough to solve by: on 100,000 sentence vectors and 1,000 targets, at eps of .05
    and .01 of the mean cost, its column marginal was off by 2e-4 and 3e-4 in all (L1) at g itself, and a step that
    changed the marginal by .15 and .05 changed the plan's by the same but for 4e-5.
    """

    plan: NDArray[np.uint8]
    f: NDArray[np.float32]
    g: NDArray[np.float64]
    eps: float
    b: NDArray[np.float64]

    def answers(self, query: Query) -> bool:
        """Whether a query differs from the one that was kept in no more than g, the box and what is wanted."""
        return self.eps == query.eps and np.array_equal(self.b, query.target.b)


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one read of the pool gives, at one g: the answer to a `Query`.

    ``q`` (m,) float64 is the column marginal sum_i r_i p_ij. ``value`` is sum_i phi_i(f_i) with phi_i(f) = lo_i f - eta
    (hi_i - lo_i) log(1 + exp(-(f + price_i) / eta)), so that the dual is D(g) = <b, g> + value (for lo = hi = a: sum_i
    a_i f_i). ``hard`` is sum_i min(lo_i h_i, hi_i h_i + (hi_i - lo_i) price_i) with h_i = min_j (c_ij - g_j); <b, g> +
    hard bounds the unregularised optimum, prices included, from below. ``entropy`` is sum_i r_i (-sum_j p_ij log p_ij),
    in nats. ``gram`` (m, m) float64 and ``gram_q`` (m,), if asked for, are sum_i v_i w_i p_i p_i' and sum_i v_i r_i p_i
    with w_i = r_i + eps dr_i / df_i, so that diag(gram_q) - gram is eps times minus the Hessian of D, from a part of
    the rows: one stays with probability s_i = min(1, r_i n / max(t, 0.25)), t = min(n / 32 m, m / (d + 32)), by a
    number that depends on i alone, and then stands for v_i = 1 / s_i of its kind; of a kept plan t is n / 16 m.
    ``top``, if asked for, holds the k lowest f in order of (f, row): their rows (k,) int64 and the f (k,) float32.
    """

    q: NDArray[np.float64]
    value: float
    hard: float
    entropy: float
    gram: NDArray[np.float64] | None = None
    gram_q: NDArray[np.float64] | None = None
    top: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None


def best_of(names: Sequence[object], scores: NDArray[np.float64]) -> str:
    """Say how many documents (k,) are chosen, the first of them and the range of their scores: the body of a repr."""
    shown = ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
    return f"k={len(names)}, best=[{shown}], scores={scores.min():.4f} .. {scores.max():.4f}"


@dataclass(frozen=True, slots=True)
class Stage:
    """One look of the solver: at what ("sample", "shortlist", "plan" or "pool"), how many rows, and what it showed.

    "plan" is what a look at the pool kept of it.
    """

    name: str
    rows: int
    eps: float
    mass: float
    marginal_error: float
    dual_value: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """How the solver ended. ``plain_value`` is the dual value at mass 0: the distance of the pool itself.

    ``rows`` is how many it was solved on; where these are a random part of the pool, all that stands here is about
    that part, and ``sampling_error`` estimates what the whole pool's marginals would miss (L1); else that is 0.
    ``marginal_error`` is sum_j |q_j - b_j| on these rows, and ``rounding`` how far that of the costs may put it off:
    converged means that both are within the tolerance. ``unsettled`` is the share of the k lowest f that one more step
    of the solver would exchange, an estimate of what could still change; nan where a shortlist does not tell.
    ``dual_value`` D(g) bounds the regularised optimum from below, ``hard_bound`` the unregularised one; ``perplexity``
    is how many targets a document really sees (exp of the mean entropy of the plan's rows); ``trace`` has every sweep.
    All but ``unsettled`` is as the last sweep saw it: where a limit of sweeps ended the solver, g may have gone on from
    there by the plan that was kept, unproven; and where that was the first sweep, its costs may have been off by some
    4e-5 (Query.close), and the bounds with them.
    """

    converged: bool
    tolerance: float
    marginal_error: float
    rounding: float
    unsettled: float
    dual_value: float
    hard_bound: float
    plain_value: float
    full_sweeps: int
    perplexity: float
    rows: int
    sampling_error: float
    trace: tuple[Stage, ...]

    def __repr__(self) -> str:
        """Say how it ended, and how long the trace is."""
        error = f"marginal_error={self.marginal_error:.2g}, tolerance={self.tolerance:g}"
        read = f"full_sweeps={self.full_sweeps}, rows={self.rows}, trace of {counted(len(self.trace), 'sweep')}"
        return f"Evidence(converged={self.converged}, {error}, {read})"


@dataclass(frozen=True, slots=True)
class Potentials:
    """The fitted state: g (m,) over a target, at an absolute eps, a cost and a mass. f of any document follows."""

    target: Target
    g: NDArray[np.float64]
    eps: float
    mass: float
    cost: Cost
    scale: CostScale
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Avoided:
    """What is to be avoided, as a price of rows: the potentials of plain transport to its examples.

    ``strength`` is a multiple of their distance, and ``mean`` that of their potential under the base weights, at which
    a row costs nothing. The formula and its reason are in potentials/avoiding.py.
    """

    potentials: Potentials
    strength: float
    mean: float

    def price(self, h: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what choosing rows costs (n,), in units of the cost, by their potentials h (n,) to what is avoided."""
        return ((self.mean - h.astype(np.float64)) * self.strength).astype(np.float32)
