"""The judge: what every engine is measured by, in float64, block by block, and with no code of gapsel's solver.

    f_i = -eps log sum_j exp((g_j - |x_i - y_j|^2) / eps) / m        from any engine's g
    q_j = mean_i p_ij,  p_ij = exp((f_i + g_j - |x_i - y_j|^2) / eps) / m        marginal error = sum_j |q_j - 1/m|

The right answer is found by the plainest algorithm there is, Sinkhorn's matrix scaling with all of exp(-c / eps) in
memory, run to a marginal error of 1e-9. It is its own certificate: the dual is strictly concave but for a constant
of g, so that nothing else has that error. On the way it counts how many exact Sinkhorn steps each goal takes.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.bench.cases import ERRORS, GOALS, OVERLAPS
from gapsel.bench.record import cores
from gapsel.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from gapsel.bench.cases import Problem

_BLOCK = 512
_CONVERGED = 1e-9
_MOST_STEPS = 5000
# Numbers of a dense float64 matrix that the judge may hold; above that the steps are counted on fewer rows.
_MOST_NUMBERS = 110_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """The right answer: g (m,), the rows of the k best, the dual value, and the Sinkhorn steps that each goal takes.

    ``rows`` is how many rows of the pool it was found on; on fewer than all there are no k best to compare with.
    """

    g: NDArray[np.float64]
    best: NDArray[np.int64]
    value: float
    steps: dict[str, int]
    rows: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an engine's g is worth: its marginal error, and the overlap of its k best with the right ones, if known."""

    error: float
    overlap: float | None

    def meets(self, goal: str) -> bool:
        """Say whether a goal is reached."""
        kind, _, number = goal.partition(" ")
        if kind == "error":
            return self.error <= float(number)
        return self.overlap is not None and self.overlap >= float(number)


def verdict(problem: Problem, g: NDArray[np.floating], answer: Answer) -> Verdict:
    """Measure any engine's g (m,), whatever its constant is; not finite is infinitely wrong."""
    if g.shape != (len(problem.y),) or not np.isfinite(g).all():
        return Verdict(float("inf"), None)
    f, q = soft_minimum(problem, g.astype(np.float64))
    error = float(np.abs(q - 1.0 / len(q)).sum())
    known = answer.rows == len(problem.x)
    return Verdict(error, overlap(lowest(f, problem.k), answer.best) if known else None)


def soft_minimum(problem: Problem, g: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return f (n,) and the column marginal q (m,) at g."""
    n, m, eps = len(problem.x), len(problem.y), problem.eps

    def block(costs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        z = np.subtract(g, costs, out=costs)
        z /= eps
        top = z.max(axis=1, keepdims=True)
        z -= top
        e = np.exp(z, out=z)
        total = e.sum(axis=1)
        return -eps * (top[:, 0] + np.log(total / m)), (1.0 / total) @ e

    parts = _by_blocks(problem, block)
    return np.concatenate([f for f, _ in parts]), sum((q for _, q in parts), np.zeros(m)) / n


def solve(problem: Problem) -> Answer:
    """Find the right answer by plain Sinkhorn steps from f = 0, counting those that each goal takes."""
    stride = -(-len(problem.x) * len(problem.y) // _MOST_NUMBERS)
    x = problem.x[::stride]
    few = type(problem)(x, problem.y, problem.eps, max(1, problem.k // stride))
    n, m, eps = len(x), len(problem.y), problem.eps
    nearest, kernel = _kernel(few)
    # The rows of the kernel are scaled by exp(nearest / eps): u takes that up.
    u, trace = np.exp(-nearest / eps), []
    v = 1.0 / (m * (u @ kernel))
    for _ in range(_MOST_STEPS):
        u = 1.0 / (n * (kernel @ v))
        q = v * (u @ kernel)
        f = eps * np.log(u) + nearest
        trace.append((float(np.abs(q - 1.0 / m).sum()), lowest(f, few.k)))
        if trace[-1][0] <= _CONVERGED:
            break
        v /= m * q
    else:
        msg = f"{_MOST_STEPS} Sinkhorn steps left a marginal error of {trace[-1][0]:.1e}: eps is too small to judge by"
        raise DataError(msg)
    g = eps * np.log(v)
    value = float(f.mean() + g.mean()) + eps * float(np.log(n) + np.log(m))
    return Answer(g, trace[-1][1], value, _steps(trace), n)


def _kernel(problem: Problem) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each row's lowest cost (n,) and exp((lowest - c) / eps) (n, m)."""

    def block(costs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        nearest = costs.min(axis=1, keepdims=True)
        exponents = np.subtract(nearest, costs, out=costs)
        exponents /= problem.eps
        return nearest[:, 0], np.exp(exponents, out=exponents)

    parts = _by_blocks(problem, block)
    return np.concatenate([row for row, _ in parts]), np.concatenate([kernel for _, kernel in parts])


def _steps(trace: list[tuple[float, NDArray[np.int64]]]) -> dict[str, int]:
    """Return the first step from which each goal stays reached."""
    errors = np.array([error for error, _ in trace])
    overlaps = np.array([overlap(best, trace[-1][1]) for _, best in trace])
    reached = {f"error {goal:.0e}": errors <= goal for goal in ERRORS}
    reached |= {f"overlap {goal}": overlaps >= goal for goal in OVERLAPS}
    return {goal: 1 + int(np.flatnonzero(~met)[-1]) + 1 if not met.all() else 1 for goal, met in reached.items()}


def lowest(f: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Return the rows of the k lowest f, in any order."""
    return np.argpartition(f, k - 1)[:k].astype(np.int64)


def overlap(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Return the share of rows (k,) that two choices have in common."""
    return len(np.intersect1d(a, b)) / len(b)


def _by_blocks(
    problem: Problem, work: Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Do some work on the float64 costs of each block of rows, on all cores, and return what it gave in order.

    The costs are the work's own, to be written over: what a block is made into lies in the place of one matrix.
    """
    y = problem.y.astype(np.float64)
    y_squares, minus_two_y = np.einsum("ij,ij->i", y, y), -2.0 * y

    def one(start: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x = problem.x[start : start + _BLOCK].astype(np.float64)
        costs = x @ minus_two_y.T
        costs += np.einsum("ij,ij->i", x, x)[:, None]
        costs += y_squares
        return work(costs)

    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(one, range(0, len(problem.x), _BLOCK)))


def save(answer: Answer, file: Path) -> None:
    """Write an answer to an .npz file."""
    steps = np.array([answer.steps[goal] for goal in GOALS])
    with file.open("wb") as stream:
        np.savez(stream, g=answer.g, best=answer.best, value=answer.value, steps=steps, rows=answer.rows)


def load(file: Path) -> Answer:
    """Read an answer from an .npz file."""
    with np.load(file) as kept:
        steps = dict(zip(GOALS, map(int, kept["steps"]), strict=True))
        return Answer(kept["g"], kept["best"], float(kept["value"]), steps, int(kept["rows"]))
