"""Small problems for the solver, and what stands beside its answers: the reference, POT, plain scaling to the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.backends.cpu import CpuBackend
from gapsel.backends.reference import ReferenceBackend, row_masses, soft_minimum
from gapsel.cost import cost_matrix, measure_scale
from gapsel.potentials import Rows, Solution, Task
from gapsel.records import Cost, Query, Target
from outside_judge import ot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.records import Sweep


Array = np.ndarray[Any, np.dtype[Any]]


class Unkeeping(CpuBackend):
    """Keeps no plans, as a GPU does."""

    keeper = None  # type: ignore[assignment]


REFERENCE, CPU, UNKEEPING = ReferenceBackend(), CpuBackend(2), Unkeeping(2)
RAW = Cost("sqeuclidean", normalize=False)
MASSES = [0.1, 0.5, 0.9, 1.0]
# Plain scaling, which the solver is compared with, is the case eta = eps.
TO_THE_END: dict[str, Any] = {"tolerance": 1e-8, "max_sweeps": 200, "etas": (1.0,)}


def cloud(n: int, d: int = 5, seed: int = 0, shift: float = 0.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal((n, d)) + shift).astype(np.float32)


def weights(n: int, seed: int = 0) -> NDArray[np.float64]:
    w = np.random.default_rng(seed).random(n) + 0.1
    return np.asarray(w / w.sum())


def make(
    x: Array | Sequence[Array],
    y: Array,
    *,
    a: Array | None = None,
    b: Array | None = None,
    k: int = 1,
    mass: float = 0.0,
    rel: float = 0.5,
    cost: Cost | None = None,
    **more: Any,  # noqa: ANN401
) -> Task:
    """A task whose eps is ``rel`` standard deviations of a row's costs."""
    shards = [x] if isinstance(x, np.ndarray) else list(x)
    cost = cost or Cost()
    target = Target(np.ascontiguousarray(y, np.float32), np.full(len(y), 1 / len(y)) if b is None else b / b.sum())
    scale = measure_scale(np.concatenate(shards), target, cost)
    return Task(Rows.whole(shards, k, a), target, cost, scale, scale.eps(rel), mass, **more)


def costs(task: Task) -> NDArray[np.float64]:
    return cost_matrix(np.concatenate(task.rows.shards), task.target.y, task.cost)


def base(task: Task) -> NDArray[np.float64]:
    return np.broadcast_to(np.asarray(task.rows.a, np.float64), (task.rows.n,)).copy()


def judged(task: Task, solution: Solution) -> tuple[Sweep, NDArray[np.float64]]:
    """What the reference says of a solution, and f in float64."""
    f = np.empty(task.rows.n)
    query = Query(task.target, solution.potentials.g, task.box(), task.eps, task.cost, f=f)
    return REFERENCE.sweep(task.rows.shards, query), f


def masses(task: Task, solution: Solution) -> NDArray[np.float64]:
    return row_masses(judged(task, solution)[1], task.box())[0]


def true_error(task: Task, solution: Solution) -> float:
    return float(np.abs(judged(task, solution)[0].q - task.target.b).sum())


def distance(task: Task) -> float:
    """The unregularised cost between the pool and the target, by POT."""
    return float(ot.emd2(base(task), task.target.b, costs(task), numItermax=1_000_000))


def gauged(task: Task, f: Array, g: Array) -> tuple[Array, Array]:
    """f and g with the constant that plain transport leaves open put to <b, g> = 0."""
    t = task.target.b @ g
    return f + t, g - t


def scaled_to_the_end(task: Task, steps: int = 20_000) -> tuple[Array, Array, float]:
    """f, r and the primal value of the boxed problem, by plain scaling: g_j += eps log(b_j / q_j)."""
    c, a, b, eps, eta = costs(task), base(task), task.target.b, task.eps, task.box().eta
    lo, room = (1 - task.mass) * a, task.mass * np.asarray(task.rows.capacity)

    def rows_at(g: Array) -> tuple[Array, Array, Array]:
        f, p = soft_minimum(c, g, b, eps)
        return f, lo + room / (1 + np.exp(f / eta)), p

    g = np.zeros(len(b))
    for _ in range(steps):
        _, r, p = rows_at(g)
        step = (min(eps, eta) if task.mass else eps) * np.log(b / (r @ p))
        g += step
        if np.abs(step).max() < 1e-13 * eps:
            break
    f, r, p = rows_at(g)
    plan = r[:, None] * p
    kl = np.where(plan > 0, plan * np.log(np.maximum(p, 1e-300) / b), 0).sum()
    return f, r, float((plan * c).sum() + eps * kl + eta * mixing(r - lo, np.broadcast_to(room, r.shape)))


def mixing(taken: Array, room: Array) -> float:
    """sum_i room_i (t_i log t_i + (1 - t_i) log(1 - t_i)) of t = taken / room, which keeps rows off their bounds."""
    parts = (np.maximum(part, 1e-300) for part in (taken, room - taken) if room.any())
    return float(sum((part * np.log(part / room)).sum() for part in parts))
