"""Sweeps that tests ask every backend for: the backends, clustered problems, and what answers are held to.

A plugin of pytest (conftest.py names it), so that every test may ask for a ``backend``, a ``cpu`` or a ``fast`` one.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cuda_emulator import compiler
from emulated_gpu import emulated_backend
from gapsel import _native
from gapsel.backends.cpu import CpuBackend
from gapsel.backends.gpu import GpuBackend, gpus
from gapsel.backends.reference import ReferenceBackend, dice, row_masses, share_kept, stands_for
from gapsel.cost import cost_matrix
from gapsel.records import OUTPUTS, Box, Cost, CostKind, Query, Sweep, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gapsel.backends import Backend


ISAS = _native.isas()
ROUGH = _native.isas(rough=True)
REFERENCE = ReferenceBackend()
BACKENDS: dict[str, Callable[[], Backend]] = {
    "reference": ReferenceBackend,
    **{f"cpu-{isa}": partial(CpuBackend, 1, isa) for isa in ISAS},
    # Where there is a g++ to compile the kernels for this processor; CI is to have one.
    **({"gpu-emulated": emulated_backend} if compiler() or os.environ.get("CI") else {}),
    **({"gpu": GpuBackend} if gpus() else {}),
}
FAST = [name for name in BACKENDS if name != "reference"]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]()


@pytest.fixture(params=ISAS)
def cpu(request: pytest.FixtureRequest) -> CpuBackend:
    return CpuBackend(1, request.param)


@pytest.fixture(params=FAST)
def fast(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]()


@dataclass
class Result:
    """A sweep with its (n,) outputs."""

    swept: Sweep
    f: NDArray[np.float32]
    hard: NDArray[np.float32]
    nearest: NDArray[np.int32]
    gram_error: float


def gram_error(backend: Backend) -> float:
    """How far products of the Gram's factors may be off: each is off by 2^-8 in bfloat16, by 2^-11 in float16."""
    if isinstance(backend, GpuBackend):
        return 2.1 * 2**-11
    return 2.1 * 2**-8 if isinstance(backend, CpuBackend) and backend.multiplies_bfloat16 else 0.0


@dataclass
class Problem:
    """What a sweep reads, as values that may change."""

    x: NDArray[Any]
    target: Target
    g: NDArray[np.float64]
    box: Box
    eps: float
    cost: Cost

    def query(self, **wanted: Any) -> Query:  # noqa: ANN401
        return Query(self.target, self.g, self.box, self.eps, self.cost, **wanted)

    def sweep(self, backend: Backend, shards: Sequence[Any] | None = None, **wanted: Any) -> Result:  # noqa: ANN401
        """Sweep with a Gram, unless it is said otherwise, and all outputs."""
        outputs = {name: np.empty(len(self.x), kind) for name, kind in OUTPUTS.items()}
        query = self.query(**{"gram": True, **wanted}, **outputs)
        swept = backend.sweep([self.x] if shards is None else shards, query)
        return Result(swept, **outputs, gram_error=gram_error(backend))


def problem(
    n: int = 333,
    m: int = 71,
    d: int = 19,
    *,
    kind: CostKind = "sqeuclidean",
    normalize: bool = True,
    dtype: type[np.floating[Any]] = np.float32,
    rel: float = 0.05,
    lam: float = 0.5,
    seed: int = 0,
    price: str = "none",
) -> Problem:
    """A clustered problem with a zero target weight and pool weights of zero, at a g near which the box binds.

    ``price`` is "none", "one" for all rows, or the type of an array of prices, some of them negative.
    """
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((3, d))
    x = (centres[rng.integers(3, size=n)] + rng.standard_normal((n, d))).astype(dtype)
    y = (centres[rng.integers(3, size=m)] + rng.standard_normal((m, d))).astype(np.float32)
    b = rng.random(m)
    b[rng.random(m) < 0.2] = 0
    b[rng.integers(m)] = 1
    a = rng.random(n)
    a[1:][rng.random(n - 1) < 0.1] = 0
    target, cost = Target(y, b / b.sum()), Cost(kind, normalize)
    eps = rel * float(cost_matrix(x, y, cost).mean()) + 1e-3
    g = eps * rng.standard_normal(m)
    a /= a.sum()
    f = np.empty(n)
    REFERENCE.sweep([x], Query(target, g, Box.fixed(1 / n), eps, cost, f=f))
    lo = (1 - lam) * a
    prices = 3 * eps * rng.standard_normal(n)
    priced: dict[str, float | NDArray[np.floating]]
    priced = {"none": 0.0, "one": 2 * eps, "float32": prices.astype(np.float32), "float64": prices}
    box = Box(lo, lo + 2 * lam / n if lam else lo, eta=2 * eps, price=priced[price])
    return Problem(x, target, g - float(np.median(f)), box, eps, cost)


def rounding(p: Problem) -> float:
    """How far a float32 cost may lie from the exact one: a few units in the last place of the largest product."""
    x, y = np.asarray(p.x, np.float64), np.asarray(p.target.y, np.float64)
    if p.cost.normalize or p.cost.kind == "cosine":
        square = 4.0
    else:
        centre = y[p.target.b > 0].mean(axis=0)
        square = float(((x - centre) ** 2).sum(1).max() + ((y - centre) ** 2).sum(1).max())
    error = 1e-6 * square
    if p.cost.kind != "euclidean":
        return error
    # The root magnifies the error of small squares: d sqrt(t) = dt / (2 sqrt(t)), at most sqrt(dt).
    smallest = cost_matrix(p.x, p.target.y[p.target.b > 0], p.cost).min()
    return min(math.sqrt(error), error / max(2 * float(smallest), 1e-300)) + 1e-6 * math.sqrt(square)


def undecided(p: Problem, exact: Result, relative: float) -> float:
    """The weight of the rows that rounding may put into the Gram or leave out of it."""
    r, slope, _ = row_masses(exact.f.astype(np.float64), p.box)
    share = share_kept(r, int((p.target.b > 0).sum()), p.x.shape[1])
    near = np.abs(share - dice(len(r))) <= 2 * relative * share + 1e-12
    return float(((1 + relative) * (r + p.eps * np.abs(slope)) / np.clip(share, 1e-12, 1.0))[near].sum())


def weight_of_the_gram(p: Problem, exact: Result) -> float:
    """Return sum_i v_i |w_i|."""
    r, slope, _ = row_masses(exact.f.astype(np.float64), p.box)
    v = stands_for(r, int((p.target.b > 0).sum()), p.x.shape[1])
    return float(v @ np.abs(r + p.eps * slope))


def assert_agrees(p: Problem, found: Result, exact: Result, error: float = 0.0) -> None:
    """Hold a result against the reference, to what rounding the cost allows, and ``error`` more of it."""
    dc = error + rounding(p) + 2e-7 * float(np.abs(exact.f).max() + np.abs(p.g).max())
    np.testing.assert_allclose(found.f, exact.f, atol=dc, rtol=1e-6)
    np.testing.assert_allclose(found.hard, exact.hard, atol=dc, rtol=1e-6)
    reduced = cost_matrix(p.x, p.target.y, p.cost) - p.g
    chosen = reduced[np.arange(len(p.x)), found.nearest]
    assert (p.target.b[found.nearest] > 0).all()
    np.testing.assert_allclose(chosen, exact.hard, atol=2 * dc, rtol=1e-6)
    relative = math.expm1(min(2 * dc / p.eps + dc / p.box.eta, 3.0)) + 1e-5
    mass = float(exact.swept.q.sum())
    assert np.abs(found.swept.q - exact.swept.q).sum() <= relative * mass + 1e-12
    assert (found.swept.q[p.target.b == 0] == 0).all()
    scale = dc + 1e-6 * (float(np.abs(exact.f).max() + np.max(np.abs(p.box.price))) + p.box.eta)
    total = float(2 * np.sum(np.broadcast_to(p.box.hi, len(p.x))))
    assert abs(found.swept.value - exact.swept.value) <= 4 * scale * total
    assert abs(found.swept.hard - exact.swept.hard) <= 4 * scale * total
    assert abs(found.swept.entropy - exact.swept.entropy) <= 4 * relative * mass * (1 + math.log(len(p.g))) + 1e-12
    assert found.swept.gram is not None
    assert exact.swept.gram is not None
    assert np.array_equal(found.swept.gram, found.swept.gram.T)
    gap = float(np.abs(found.swept.gram - exact.swept.gram).sum())
    coarse = found.gram_error * weight_of_the_gram(p, exact)
    assert gap <= 2 * relative * mass + coarse + undecided(p, exact, relative) + 1e-12


def bits(result: Result) -> list[bytes]:
    swept = result.swept
    assert swept.top is not None
    arrays: list[NDArray[Any]] = [result.f, result.hard, result.nearest, swept.q, *swept.top]
    arrays += [one for one in (swept.gram, swept.gram_q) if one is not None]
    return [array.tobytes() for array in arrays] + [str((swept.value, swept.hard, swept.entropy)).encode()]
