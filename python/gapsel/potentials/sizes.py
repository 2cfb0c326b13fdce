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
# In the order of mass 0 the deepest row that a mass of 0.5 chose in real text lay at 5 times the share that was chosen,
# the deepest that a mass of 1 chose at 15 times. Tried: 8 and 5 times at first need another look at the pool; every
# fourth row of the list, to begin with, leaves the whole list's first look as far off as no start at all.
_SHORTLIST_DEPTH, _SHORTLIST_LEAST, _SHORTLIST_EXTRA = 16, 4, 8
# Of a pool whose plan is not kept a list, whose plan is, costs little beside a sweep even if it is large: a quarter of
# it at most. It then goes deeper, since of 10^6 documents a mass of 1 took 8 % from beyond that depth: with half of its
# lowest rows random ones of those down to a sixteenth of the pool, or to twice that depth where the choice has many for
# each target. 10^7 documents, of which 10^4 are chosen, eps .06 of the mean cost, mass 0.5: a list with 88 m rows left
# the pool at an error of .66, with 64 m for the rest at .08, twice as dense and as deep as that at .02.
_LISTED, _DENSE, _EXTRA, _DEEPEST = 4, 160, 64, 16
_MANY, _DEEP_FOR_MANY = 4, 32
# Once the pool was seen near the solution, 1e-4 of the selection at most lies deeper than so many times mass k of its
# order. There a list leaves of the pool's error a tenth with 8 m for the rest, a twentieth with 64 m, and at a mass of
# 1, where these carry nothing, what it is solved to. In a very large pool a 32nd stands for the rest.
_DEPTH_NEARBY, _SHARE = 8, 32
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
    """Return the sizes of the list by the f of mass 0; ``room``: the plan of so many rows can be kept.

    Where that is all of the pool, or nothing, the list is small. Else it may cost a part of a sweep of the pool.
    """
    dense, extra = shortlist_sizes(n, m, k, mass)
    if not 0 < room < n:
        return ListSizes(dense, dense, extra)
    space = min(room, n // _LISTED)
    extra = max(extra, min(_EXTRA * m, space // 3))
    dense = max(extra, min(max(dense, _DENSE * m), space - extra))
    lowest = max(dense, n // _DEEPEST, _lowest(n, m, k, _DEEP_FOR_MANY * mass) if k >= _MANY * m else 0)
    return ListSizes(lowest, dense, extra)


def sizes_nearby(n: int, m: int, k: float, mass: float, room: int) -> ListSizes:
    """Return the sizes of the list by an f near the solution."""
    lowest, least = _lowest(n, m, k, _DEPTH_NEARBY * mass), shortlist_sizes(n, m, k, mass)[1]
    space = min(room, n // _LISTED)
    dense = min(lowest, max(space - least, least)) if room else lowest
    extra = least if mass == 1 else max(least, min(max(_EXTRA * m, n // _SHARE), space - dense))
    return ListSizes(lowest, dense, extra)


def _lowest(n: int, m: int, k: float, depth: float) -> int:
    return min(n, int(max(max(_SHORTLIST_LEAST, depth) * k, _SHORTLIST_EXTRA * m)) + 1)


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
