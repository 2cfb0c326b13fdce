"""The examination of a backend: small problems on every path of the kernels, against the float64 reference.

Silent wrong answers are the worst that a machine can give; a broken driver, compiler or memory shows here before a pool
is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.backends.reference import ReferenceBackend
from gapsel.cost import cost_matrix
from gapsel.errors import DeviceError
from gapsel.records import Box, Cost, Query, Sweep, Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.backends import Backend

# Costs of unit vectors are off by less than this in float32 products, and after rounding vectors to bfloat16.
_EXACT, _ROUGH = 1e-5, 1e-2
# Products of the Gram are rough always: it only bends steps.
_GRAM = 2e-2
# eps, as a share of half the mean cost: about 1 for unit vectors.
_EPS_SHARE = 0.05
_K = 20
_WEIGHTLESS, _GRAM_TARGETS = 10, 1500


_UNIT = Cost()


@dataclass(frozen=True, slots=True)
class Case:
    """A small problem: so many targets, the pool's type, a cost; ``rough`` products or exact ones."""

    name: str
    m: int
    dtype: str = "float16"
    cost: Cost = _UNIT
    rough: bool = False
    gram: bool = True
    rows: int = 200
    d: int = 24


# One for each width of the strip kernels and the path beyond them, each type of operand, each cost.
CASES = (
    Case("rows to 128 columns", 90),
    Case("rows to 512 columns", 400, rough=True),
    Case("rows to 2,048 columns", 1500),
    Case("rows to 5,120 columns", 4000, "float32"),
    Case("rows to 10,240 columns", 10_000),
    Case("wider rows", 12_000),
    Case("cosine, float32", 130, "float32", Cost("cosine")),
    Case("squared Euclidean, not normalised", 130, "float16", Cost(normalize=False)),
    Case("Euclidean", 130, "float32", Cost("euclidean", normalize=False)),
)
# The kernel that does the whole product stage: either tile, either strip, one to three products, more rows than the
# largest device takes in two rounds.
FUSED_CASES = (
    Case("one kernel, rough", 90, rough=True, gram=False, rows=40_000),
    Case("one kernel, three products", 300, "float32", gram=False, d=136),
    Case("one kernel, wide tiles", 700, gram=False, rows=1000),
    Case("one kernel, wide tiles, rough", 1000, rough=True, gram=False, d=200),
    Case("one kernel, squared Euclidean, not normalised", 130, cost=Cost(normalize=False), gram=False),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """How far a device is from the reference in one quantity of one case, and how far it may be."""

    case: str
    quantity: str
    error: float
    allowed: float

    @property
    def agrees(self) -> bool:
        """Whether it is near enough; NaN never is."""
        return self.error <= self.allowed

    @property
    def share(self) -> float:
        """The error in units of what is allowed; infinite for NaN."""
        return float(np.nan_to_num(self.error / self.allowed, nan=np.inf, posinf=np.inf))


def findings(backend: Backend, cases: Sequence[Case]) -> list[Finding]:
    """Compare a backend with the reference."""
    return [finding for case in cases for finding in _compare(backend, case)]


def worst(found: Sequence[Finding]) -> Finding:
    """Return the finding that is furthest off, for what is allowed."""
    return max(found, key=lambda one: one.share)


def examine(backend: Backend, cases: Sequence[Case]) -> None:
    """Compare a backend with the reference. Raises DeviceError if they disagree."""
    found = findings(backend, cases)
    wrong = [one for one in found if not one.agrees]
    if wrong:
        one = worst(wrong)
        msg = (
            f"the {backend.name} backend disagrees with the reference: {one.case}: {one.quantity} is off by "
            f"{one.error:.1e}, {one.allowed:.1e} is allowed ({len(wrong)} of {len(found)} findings disagree). Renew "
            "the driver and CuPy; until then take --backend cpu"
        )
        raise DeviceError(msg)


@dataclass(frozen=True, slots=True)
class _Problem:
    """What a sweep of a case reads."""

    case: Case
    x: NDArray[np.floating]
    target: Target
    g: NDArray[np.float64]
    box: Box
    eps: float

    @classmethod
    def of(cls, case: Case) -> _Problem:
        """Return clustered vectors, some weightless targets, a g that is not 0, a box that binds and prices."""
        rng, n, d = np.random.default_rng(case.m), case.rows, case.d
        centres = 2 * rng.standard_normal((5, d))
        x = (centres[rng.integers(5, size=n)] + rng.standard_normal((n, d))).astype(case.dtype)
        y = (centres[rng.integers(5, size=case.m)] + rng.standard_normal((case.m, d))).astype(np.float32)
        b = rng.random(case.m)
        b[::_WEIGHTLESS] = 0.0
        target = Target(y, b / b.sum())
        eps = _EPS_SHARE * float(cost_matrix(x[:20], y, case.cost).mean()) / 2
        g = eps * rng.standard_normal(case.m)
        f = np.empty(n)
        ReferenceBackend().sweep([x], Query(target, g, Box.fixed(1.0), eps, case.cost, f=f))
        lo = rng.random(n) / (2 * n)
        box = Box(lo, lo + 1.0 / n, 2 * eps, eps * rng.standard_normal(n, np.float32))
        return cls(case, x, target, g - np.median(f), box, eps)

    def look(self, backend: Backend, kind: type[np.floating]) -> _Look:
        """Sweep it in two shards, with everything that can be asked for."""
        n = self.case.rows
        f, hard, nearest = np.full(n, np.nan, kind), np.full(n, np.nan, kind), np.full(n, -1, np.int32)
        query = Query(
            self.target, self.g, self.box, self.eps, self.case.cost,
            gram=self.case.gram and self.case.m <= _GRAM_TARGETS, k=_K, rough=self.case.rough,
            f=f, hard=hard, nearest=nearest,
        )  # fmt: skip
        return _Look(backend.sweep([self.x[:71], self.x[71:]], query), f, hard, nearest)

    def behind(self, nearest: NDArray[np.int32], hard: NDArray[np.floating]) -> float:
        """Return how far above the hard minimum (n,) the targets named nearest are, at most."""
        if (nearest < 0).any() or (nearest >= self.case.m).any():
            return np.inf
        costs = cost_matrix(self.x, self.target.y, self.case.cost)[np.arange(len(nearest)), nearest]
        return float(np.abs(costs - self.g[nearest] - hard).max())


@dataclass(frozen=True, slots=True)
class _Look:
    """A sweep with its outputs (n,)."""

    swept: Sweep
    f: NDArray[np.floating]
    hard: NDArray[np.floating]
    nearest: NDArray[np.int32]


def _compare(backend: Backend, case: Case) -> list[Finding]:
    problem = _Problem.of(case)
    found, exact = problem.look(backend, np.float32), problem.look(ReferenceBackend(), np.float64)
    error = (_ROUGH if case.rough else _EXACT) * problem.eps / _EPS_SHARE
    share = float(np.expm1(2 * error / problem.eps + error / problem.box.eta)) + 1e-5
    mass = float(exact.swept.q.sum())
    errors = {
        "f": (np.abs(found.f - exact.f).max(), error),
        "hard": (np.abs(found.hard - exact.hard).max(), error),
        "nearest": (problem.behind(found.nearest, exact.hard), 2 * error),
        "q": (np.abs(found.swept.q - exact.swept.q).sum(), share * mass),
        "value": (abs(found.swept.value - exact.swept.value), 4 * error * mass),
        "hard bound": (abs(found.swept.hard - exact.swept.hard), 4 * error * mass),
        "entropy": (abs(found.swept.entropy - exact.swept.entropy), 4 * share * mass * (1 + np.log(case.m))),
        "top": (_missed(found.swept, exact), 2 * error),
    }
    if found.swept.gram is not None and exact.swept.gram is not None:
        # A row whose share lies at its die may be in the one Gram and not in the other.
        errors["gram"] = (np.abs(found.swept.gram - exact.swept.gram).sum(), (2 * share + _GRAM + 4 / case.rows) * mass)
    return [Finding(case.name, name, float(off), float(allowed)) for name, (off, allowed) in errors.items()]


def _missed(found: Sweep, exact: _Look) -> float:
    """Return how far the f of the k lowest found lie from those of the k lowest, at most."""
    if found.top is None or exact.swept.top is None or len(set(found.top[0].tolist())) != _K:
        return np.inf
    return float(np.abs(exact.f[found.top[0]] - exact.f[exact.swept.top[0]]).max())
