"""How large samples and shortlists are, through which eps a first sample goes, and what a shortlist misses."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
_SHORTLIST_DEPTH = 16
_SHORTLIST_LEAST = 4
_SHORTLIST_EXTRA = 8
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
    """Return how many rows the shortlist keeps exactly for a choice of k, and how many stand for the rest."""
    deep = max(_SHORTLIST_LEAST, _SHORTLIST_DEPTH * mass) * k
    exact = min(n, int(max(deep, _SHORTLIST_EXTRA * m)) + 1)
    return exact, max(_SHORTLIST_EXTRA * m, _SMALLEST_SAMPLE)


def missed_mass(taken: NDArray[np.float64], short: Shortlist) -> float:
    """Return the selection's mass on rows that the shortlist did not keep exactly, of what each row takes (n,)."""
    return float(taken.sum() - taken[short.exact].sum())


def threshold(f: NDArray[np.float32], box: Box) -> float:
    """Return the tau at which the row masses of f - tau sum to 1, by bisection."""
    dear = f + np.asarray(box.price)
    low, high = float(dear.min()) - 100.0 * box.eta, float(dear.max()) + 100.0 * box.eta
    room = 1.0 - float(np.broadcast_to(box.lo, f.shape).sum())
    for _ in range(_HALVINGS):
        tau = 0.5 * (low + high)
        low, high = (tau, high) if box.taken(f, tau).sum() < room else (low, tau)
    return 0.5 * (low + high)
