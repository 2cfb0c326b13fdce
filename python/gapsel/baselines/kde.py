"""KDE neighbours: each target spreads its weight over its nearest rows, near-copies sharing one row's part.

After TSDS (Liu et al., "TSDS: Data selection for task-specific model finetuning", NeurIPS 2024), which balances the
cost of transport against the spread of the selection. A row of density D counts as 1 / D of a row. Each target fills
its rows, nearest first, up to a level s that is common to all; s grows until the detour

    sum_j b_j sum_k (d_j,next - d_jk) / D_k        d: distances, over the rows k that target j has filled, and its next

reaches a bound; rows are then drawn by what they got. Two departures: the density is by a Gaussian kernel of the same
variance as the authors' parabola, since a sweep gives it; and rows are drawn without replacement, with those that got
nothing after the others, so that there are always k. Where rules refuse so many that they do not suffice, targets are
given longer lists of rows that are still free, and these are drawn from in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.baselines.neighbours import nearest_rows
from gapsel.cost import cost_matrix
from gapsel.potentials import gather
from gapsel.records import Box, Cost, Query, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.baselines.problem import Problem

# The authors' settings: width of the kernel and bound of the detour, in units of the length of vectors.
_WIDTH, _DETOUR = 0.75, 5.0
# A parabola of width w has the variance w^2 / 5 along each axis, exp(-d^2 / h) has h / 2.
_GAUSSIAN = 0.4
# Neighbours of a target: the authors' 5000 and tenth of the pool; all together so many that densities take seconds.
_MOST, _SHARE, _ALTOGETHER, _LEAST = 5000, 10, 1 << 15, 64


@dataclass(frozen=True, slots=True)
class Kde:
    """Rows drawn by what the targets give them; weights of targets count."""

    key = "kde"
    name = "KDE neighbours"

    def choose(self, problem: Problem, backend: Backend) -> NDArray[np.int64]:
        """Return k rows (k,); see Baseline.choose."""
        present = problem.target.b > 0
        y, b = problem.target.y[present], problem.target.b[present]
        walk = problem.walk()
        taken = ~walk.room()
        length = max(min(_MOST, problem.n // _SHARE, _ALTOGETHER // len(y)), _LEAST)
        while not (walk.full or taken.all()):
            lists = _neighbours(problem, y, taken, length, walk.expects)
            order = _order(problem, y, b / b.sum(), lists, backend)
            walk.along(order)
            taken[order] = True
            taken |= ~walk.room()
            length = 2 * lists.shape[1]
        return walk.finish().rows


def _neighbours(
    problem: Problem, y: NDArray[np.float32], taken: NDArray[np.bool_], length: int, wanted: int
) -> NDArray[np.int64]:
    """Return the nearest free rows of each target (m, L), nearest first, with as many as are wanted among them."""
    free = len(taken) - int(np.count_nonzero(taken))
    while True:
        length = min(length, free)
        lists = nearest_rows(problem.shards, y, problem.cost, length, taken, threads=problem.threads)
        if length == free or len(np.unique(lists)) >= wanted:
            return lists
        length *= 2


def _order(
    problem: Problem, y: NDArray[np.float32], b: NDArray[np.float64], lists: NDArray[np.int64], backend: Backend
) -> NDArray[np.int64]:
    """Return the rows of all lists (m, L) in the order in which they are drawn."""
    rows, place = np.unique(lists, return_inverse=True)
    place = place.reshape(lists.shape)
    near = gather(problem.shards, rows)
    length = _length_of(problem.cost, y)
    distances = np.stack([_distances(near[at], one, problem.cost) for at, one in zip(place, y, strict=True)])
    parts = 1.0 / _density(near, problem.cost, (_WIDTH * length) ** 2 * _GAUSSIAN, backend)[place]
    given = np.zeros(len(rows))
    np.add.at(given, place.ravel(), _given(distances, parts, b, length).ravel())
    nearest = np.full(len(rows), np.inf)
    np.minimum.at(nearest, place.ravel(), distances.ravel())
    return rows[_drawn(given, nearest, problem.seed)]


def _length_of(cost: Cost, y: NDArray[np.float32]) -> float:
    """Return the length of vectors that distances are measured by: 1 for unit vectors, else that about the mean."""
    if cost.normalize or cost.kind == "cosine":
        return 1.0
    about = float(np.sqrt(((y.astype(np.float64) - y.mean(axis=0)) ** 2).sum(axis=1).mean()))
    return about or 1.0


def _distances(x: NDArray[np.floating], y: NDArray[np.float32], cost: Cost) -> NDArray[np.float64]:
    """Return the Euclidean distances (L,) of the rows of x (L, d), as the cost takes them, from one target (d,)."""
    return cost_matrix(x, y[None], _euclidean(cost))[:, 0]


def _euclidean(cost: Cost) -> Cost:
    return Cost("euclidean", normalize=cost.normalize or cost.kind == "cosine")


def _density(x: NDArray[np.floating], cost: Cost, width: float, backend: Backend) -> NDArray[np.float64]:
    """Return sum_l exp(-d_il^2 / width) over the rows of x (u, d), for each of them (u,): at least 1, for itself."""
    count = len(x)
    itself = Target(np.ascontiguousarray(x, np.float32), np.full(count, 1.0 / count))
    squared = Cost("sqeuclidean", normalize=_euclidean(cost).normalize)
    f = np.empty(count, np.float32)
    backend.sweep((x,), Query(itself, np.zeros(count), Box.fixed(1.0 / count), width, squared, f=f))
    return np.asarray(np.maximum(count * np.exp(-f.astype(np.float64) / width), 1.0))


def _given(
    distances: NDArray[np.float64], parts: NDArray[np.float64], b: NDArray[np.float64], length: float
) -> NDArray[np.float64]:
    """Return what each target (m,) gives each of its neighbours (m, L), which count as ``parts`` of a row."""
    filled = np.cumsum(parts, axis=1)
    detours = distances[:, 1:] * filled[:, :-1] - np.cumsum(distances * parts, axis=1)[:, :-1]
    level = _level(filled[:, :-1], b[:, None] * np.diff(detours, axis=1, prepend=0.0), _DETOUR * length)
    before = filled - parts
    taken = np.clip(level - before, 0.0, parts)
    # The last of a list takes what the list has no room for.
    taken[:, -1] += np.maximum(level - filled[:, -1], 0.0)
    return np.asarray(b[:, None] * taken / level)


def _level(levels: NDArray[np.float64], rises: NDArray[np.float64], bound: float) -> float:
    """Return the level, one of ``levels``, at which the sum of all rises up to it reaches the bound, or the highest."""
    if not levels.size:
        return 1.0
    order = np.argsort(levels, axis=None, kind="stable")
    reached = np.searchsorted(np.cumsum(rises.ravel()[order]), bound)
    return float(levels.ravel()[order[min(int(reached), len(order) - 1)]])


def _drawn(given: NDArray[np.float64], nearest: NDArray[np.float64], seed: int) -> NDArray[np.intp]:
    """Return all places in the order of a draw without replacement by what was given; the rest, nearest first."""
    noise = np.random.default_rng(seed).gumbel(size=len(given))
    with np.errstate(divide="ignore"):
        keys = np.log(given) + noise
    return np.lexsort((nearest, -keys))
