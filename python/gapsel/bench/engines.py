"""The engines: the solvers people have, each in the modes in which it is fastest here, and gapsel by backend.

An engine is a function from a problem and an effort to a call without arguments, which is what is timed and which
returns g (m,) up to a constant. What comes before the call is not timed: imports, compilation for this shape, and the
vectors in the arrays of the engine's own library. The cost matrix, if there is one, is made inside the call.

Effort is a whole number, more of it a smaller error: the number of iterations, or for gapsel quarters of a decade of
its tolerance. "sinkhorn" says that one unit is one plain Sinkhorn step from f = 0, so that the judge knows beforehand
how many a goal takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gapsel.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.bench.cases import Problem

    Call = Callable[[], NDArray[np.floating]]


@dataclass(frozen=True, slots=True)
class Engine:
    """One solver in one mode; ``needs`` are packages; ``first`` is the effort to begin with.

    What is not ``usual`` runs when it is asked for, and in checks; nothing runs above ``most_d`` dimensions or below
    ``least_n`` rows.
    """

    name: str
    label: str
    make: Callable[[Problem, int], Call]
    needs: tuple[str, ...]
    effort: Literal["sinkhorn", "iterations", "tolerance"]
    first: int
    usual: bool = True
    most_d: int = 1_000_000
    least_n: int = 1

    def plenty(self, steps: int) -> int:
        """Return more effort than a small problem needs on which ``steps`` plain Sinkhorn steps leave 1e-5."""
        return {"sinkhorn": steps, "iterations": 4 * steps, "tolerance": 16}[self.effort]

    def takes(self, n: int, d: int) -> bool:
        """Say whether a problem of n rows and d dimensions is one for this engine."""
        return n >= self.least_n and d <= self.most_d

    def missing(self) -> str:
        """Return the first package that is not installed, or nothing."""
        return next((package for package in self.needs if find_spec(package) is None), "")


def _weights(problem: Problem) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    n, m = len(problem.x), len(problem.y)
    return np.full(n, 1.0 / n), np.full(m, 1.0 / m)


def pot_numpy(problem: Problem, effort: int, *, method: str) -> Call:
    """POT on NumPy, float64: a dense matrix scaled, or Sinkhorn in the logarithm."""
    import ot

    a, b = _weights(problem)
    x, y = problem.x.astype(np.float64), problem.y.astype(np.float64)

    def call() -> NDArray[np.floating]:
        matrix = ot.dist(x, y)
        log = ot.sinkhorn(
            a, b, matrix, problem.eps, method=method, numItermax=effort, stopThr=0.0, log=True, warn=False
        )[1]
        g: NDArray[np.floating] = problem.eps * (log["log_v"] if "log_v" in log else np.log(log["v"]))
        return g

    return call


def pot_torch(problem: Problem, effort: int, *, dtype: str) -> Call:
    """POT on torch: a dense matrix scaled, the strongest of its modes.

    Each row's lowest cost is taken off before, which changes no g, so that exp(-c / eps) of float32 does not vanish.
    """
    import ot
    import torch

    kind = getattr(torch, dtype)
    a, b = (torch.from_numpy(weights).to(kind) for weights in _weights(problem))
    x, y = torch.from_numpy(problem.x).to(kind), torch.from_numpy(problem.y).to(kind)

    def call() -> NDArray[np.floating]:
        matrix = ot.dist(x, y)
        matrix -= matrix.amin(dim=1, keepdim=True)
        log = ot.sinkhorn(a, b, matrix, problem.eps, numItermax=effort, stopThr=0.0, log=True, warn=False)[1]
        g: NDArray[np.floating] = problem.eps * log["v"].double().log().numpy()
        return g

    return call


def pot_lazy(problem: Problem, effort: int) -> Call:
    """POT without a dense matrix: costs made anew by blocks, twice in each iteration."""
    import ot

    # 32 MB of costs at a time were the fastest of the sizes tried; the default of 100 rows is slower.
    rows, columns = max(1, 8_000_000 // len(problem.y)), max(1, 8_000_000 // len(problem.x))
    a, b = (weights.astype(np.float32) for weights in _weights(problem))

    def call() -> NDArray[np.floating]:
        log = ot.bregman.empirical_sinkhorn(
            problem.x, problem.y, problem.eps, a, b, numIterMax=effort, stopThr=0.0, isLazy=True,
            batchSize=(rows, columns), log=True, warn=False,
        )[2]  # fmt: skip
        g: NDArray[np.floating] = problem.eps * log["v"]
        return g

    return call


def geomloss(problem: Problem, effort: int, *, backend: str) -> Call:
    """GeomLoss: ``effort`` steps of its symmetric loop, all of them at eps.

    Annealed from the squared diameter, as it is by default, its error falls only as 1 / effort, for eps itself gets
    one step: 2,000 of them left 5e-3 on a problem that these solve to 6e-4 in 64. Its cost is |x - y|^2 / 2, so that
    its eps is ours halved and its potentials are ours halved.
    """
    import torch
    from geomloss import SamplesLoss

    a, b = (torch.from_numpy(weights.astype(np.float32)) for weights in _weights(problem))
    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
    blur = float(np.sqrt(problem.eps / 2))
    # The schedule ends at blur and is made of powers of scaling from the diameter down: this one has ``effort`` steps.
    wide = 1.0001
    solver = SamplesLoss(
        "sinkhorn", blur=blur, diameter=wide * blur, scaling=wide ** (-1 / effort), debias=False, potentials=True,
        backend=backend,
    )  # fmt: skip

    def call() -> NDArray[np.floating]:
        g: NDArray[np.floating] = 2.0 * solver(a, x, b, y)[1].reshape(-1).double().numpy()
        return g

    if backend == "online":
        solver(x[:8], y[:8])  # compiles for this d, and keeps it on disk
    return call


def ott(problem: Problem, effort: int, *, momentum: float, scaling: bool = False, rows: int | None = None) -> Call:
    """OTT-JAX with momentum: log-sum-exp steps, or matrix scaling; ``rows`` of costs at a time instead of all.

    For scaling, each row's lowest cost is taken off before, as for POT on torch.
    """
    import jax
    from ott.geometry import geometry, pointcloud
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import acceleration, sinkhorn

    solver = sinkhorn.Sinkhorn(
        lse_mode=not scaling, threshold=0.0, inner_iterations=effort, min_iterations=effort, max_iterations=effort,
        momentum=acceleration.Momentum(value=momentum),
    )  # fmt: skip

    def potentials(x: Any, y: Any) -> Any:  # noqa: ANN401 - JAX arrays
        space = pointcloud.PointCloud(x, y, epsilon=problem.eps, batch_size=rows)
        if scaling:
            costs = space.cost_matrix
            space = geometry.Geometry(costs - costs.min(axis=1, keepdims=True), epsilon=problem.eps)
        return solver(linear_problem.LinearProblem(space)).g

    x, y = jax.numpy.asarray(problem.x), jax.numpy.asarray(problem.y)
    compiled = jax.jit(potentials).lower(x, y).compile()
    return lambda: np.asarray(compiled(x, y), np.float64)


def gapsel(problem: Problem, effort: int, *, backend: str, max_sweeps: int = 60) -> Call:
    """Gapsel's solver at mass 0, to a tolerance of 10^(-effort / 4).

    It ends with a sweep that says how well it did and scores every row. The others are not asked for that; with one
    sweep at most gapsel is not either.
    """
    from gapsel.backends import choose
    from gapsel.blas import one_thread
    from gapsel.cost import measure_scale
    from gapsel.potentials import Rows, Task, solve
    from gapsel.records import Cost, Target

    # As a user would: vectors of length 1, as sentence encoders make them, are left to the default, which knows it.
    unit = all(np.allclose(np.linalg.norm(v, axis=1), 1.0, atol=1e-3) for v in (problem.x, problem.y))
    machine, cost = choose(backend), Cost(normalize=unit)
    one_thread()  # imports what it does that with
    target = Target(problem.y, _weights(problem)[1])
    rows = Rows.whole([problem.x], problem.k)

    def call() -> NDArray[np.floating]:
        sample = rows.sample(min(rows.n, 2048), np.random.default_rng(0)).shards[0]
        scale = measure_scale(sample, target, cost)
        task = Task(rows, target, cost, scale, problem.eps, 0.0, 10.0 ** (-effort / 4), max_sweeps)
        return solve(task, machine).potentials.g

    return call


_TORCH, _GEOMLOSS = ("ot", "torch"), ("geomloss", "torch")
ENGINES = (
    Engine("gapsel-cpu", "gapsel", partial(gapsel, backend="cpu"), (), "tolerance", 8),
    # A small pool is its own sample, which is not solved in one sweep.
    Engine(
        "gapsel-once", "gapsel, one sweep", partial(gapsel, backend="cpu", max_sweeps=1), (), "tolerance", 8,
        least_n=50_000,
    ),
    Engine("gapsel-reference", "gapsel, NumPy", partial(gapsel, backend="reference"), (), "tolerance", 8, usual=False),
    Engine("pot-torch32", "POT, torch, float32", partial(pot_torch, dtype="float32"), _TORCH, "sinkhorn", 2),
    Engine("pot-torch64", "POT, torch, float64", partial(pot_torch, dtype="float64"), _TORCH, "sinkhorn", 2),
    Engine("pot-numpy", "POT, NumPy", partial(pot_numpy, method="sinkhorn"), ("ot",), "sinkhorn", 2),
    Engine("pot-log", "POT, NumPy, logarithmic", partial(pot_numpy, method="sinkhorn_log"), ("ot",), "sinkhorn", 2),
    Engine("pot-lazy", "POT, lazy", pot_lazy, ("ot",), "sinkhorn", 1),
    Engine("ott-1.3", "OTT-JAX, momentum 1.3", partial(ott, scaling=True, momentum=1.3), ("ott",), "iterations", 6),
    Engine("ott-1.5", "OTT-JAX, momentum 1.5", partial(ott, scaling=True, momentum=1.5), ("ott",), "iterations", 6),
    Engine("ott-log", "OTT-JAX, logarithmic", partial(ott, momentum=1.5), ("ott",), "iterations", 6),
    Engine("ott-online", "OTT-JAX, online", partial(ott, momentum=1.5, rows=2048), ("ott",), "iterations", 2),
    Engine("geomloss", "GeomLoss", partial(geomloss, backend="tensorized"), _GEOMLOSS, "iterations", 6),
    # Its authors advise against more dimensions: here, 384 took 30 s a step on 10,000 rows.
    Engine(
        "geomloss-keops", "GeomLoss, KeOps", partial(geomloss, backend="online"), (*_GEOMLOSS, "pykeops"),
        "iterations", 2, most_d=100,
    ),
)  # fmt: skip


def named(names: list[str]) -> list[Engine]:
    """Return the engines of these names, the usual ones for none. Raises UsageError for a name that is not there."""
    known = {engine.name: engine for engine in ENGINES}
    for name in names:
        if name not in known:
            msg = f"engine {name!r} is unknown: choose among {', '.join(known)}"
            raise UsageError(msg)
    return [known[name] for name in names] or [engine for engine in ENGINES if engine.usual]
