"""How large samples and shortlists are, through which eps a first sample goes, and what a shortlist misses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.potentials.rows import Shortlist
    from gapsel.records import Box

# Sample sizes in units of m.
_LEVELS = (4, 16, 64)
_SMALLEST_SAMPLE = 1024
# A sample of more than this part of the pool is not worth its sweeps.
_LARGEST_SAMPLE = 5
# eps starts at this share of the mean cost, where one Sinkhorn step nearly solves, and falls to this share of itself.
# Tried: halved, a sample of 4,000 rows takes 10 ms longer to an eps of .01 of the mean cost, and pools of 6,000 rows
# as many looks or one to two more; to a quarter at once gains nothing more.
_FIRST_EPS, _FALL = 0.2, 0.35
# In the order of mass 0 a mass of 1 took 8 % of the selection from beyond 16 times the share that was chosen, a mass of
# 0.5 hardly anything (10^6 documents, eps 0.02 of the mean cost). A list that goes twice as deep, with every third of
# the rows from 8 times on, is as large, and leaves a third of the pool's error, where the choice has many documents for
# each target; with one for each it leaves more. Tried: four times as deep; less of it; every fourth row of the list, to
# begin with, leaves the whole list's first look as far off as no start at all.
_SHORTLIST_DEPTH, _DEEPEST, _MANY = 16, 32, 4
_SHORTLIST_LEAST = 4
_SHORTLIST_EXTRA = 8
# Once the pool was seen near the solution, 1e-4 of the selection at most lies deeper than so many times mass k of its
# order. There a list of as few others as before leaves a tenth of the pool's error, of so many a twentieth; at a mass
# of 1 they carry nothing.
_DEPTH_NEARBY, _EXTRA_NEARBY = 8, 64
# Of a range of a few thousand eta they leave a millionth.
_HALVINGS = 36


def sample_sizes(n: int, m: int) -> list[int]:
    """Return the nested sample sizes for a pool of n rows and m targets; none where the pool itself is that small."""
    sizes = sorted({max(level * m, _SMALLEST_SAMPLE) for level in _LEVELS})
    return [size for size in sizes if size <= n // _LARGEST_SAMPLE]


def annealed_eps(mean: float, eps: float) -> list[float]:
    """Return the falling sequence of eps that ends exactly at ``eps``."""
    values, current = [], _FIRST_EPS * mean
    while current > 1.2 * eps:
        values.append(current)
        current *= _FALL
    return [*values, eps]


def shortlist_sizes(n: int, m: int, k: float, mass: float) -> tuple[int, int]:
    """Return how many rows of lowest f a shortlist has as they are for a choice of k, and how many for the rest."""
    return _lowest(n, m, k, _SHORTLIST_DEPTH * mass), max(_SHORTLIST_EXTRA * m, _SMALLEST_SAMPLE)


class ListSizes(NamedTuple):
    """A shortlist is made for so many rows of ``lowest`` f, has so many of these, and ``extra`` for the rest."""

    lowest: int
    dense: int
    extra: int


def sizes_by_plain(n: int, m: int, k: float, mass: float, room: int) -> ListSizes:
    """Return the sizes of the list by the f of mass 0; of at most ``room`` rows if that is not 0."""
    dense, extra = shortlist_sizes(n, m, k, mass)
    lowest = _lowest(n, m, k, _DEEPEST * mass) if k >= _MANY * m else dense
    return _within(room, ListSizes(lowest, dense, extra))


def sizes_nearby(n: int, m: int, k: float, mass: float, room: int) -> ListSizes:
    """Return the sizes of the list by an f near the solution; of at most ``room`` rows if that is not 0."""
    lowest, least = _lowest(n, m, k, _DEPTH_NEARBY * mass), shortlist_sizes(n, m, k, mass)[1]
    extra = least if mass == 1 else max(least, min(_EXTRA_NEARBY * m, room // 2))
    return _within(room, ListSizes(lowest, lowest, extra))


def _lowest(n: int, m: int, k: float, depth: float) -> int:
    return min(n, int(max(max(_SHORTLIST_LEAST, depth) * k, _SHORTLIST_EXTRA * m)) + 1)


def _within(room: int, sizes: ListSizes) -> ListSizes:
    return sizes._replace(dense=min(sizes.dense, max(room - sizes.extra, sizes.extra))) if room else sizes


def missed_mass(taken: NDArray[np.float64], short: Shortlist) -> float:
    """Return the selection's mass on rows that are not among the shortlist's lowest, of what each row takes (n,)."""
    return float(taken.sum() - taken[short.lowest].sum())


def threshold(f: NDArray[np.float32], box: Box) -> float:
    """Return the tau at which the row masses of f - tau sum to 1, by bisection."""
    dear = f + np.asarray(box.price)
    low, high = float(dear.min()) - 100.0 * box.eta, float(dear.max()) + 100.0 * box.eta
    room = 1.0 - float(np.broadcast_to(box.lo, f.shape).sum())
    for _ in range(_HALVINGS):
        tau = 0.5 * (low + high)
        low, high = (tau, high) if box.taken(f, tau).sum() < room else (low, tau)
    return 0.5 * (low + high)
