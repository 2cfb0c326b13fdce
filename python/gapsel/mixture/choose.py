"""Documents by the weights of their domains: how many of each, and which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends import Backend


def apportion(w: NDArray[np.float64], k: int, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many of k documents each domain gives (u,): w_d k, rounded by largest remainders, at most its rows.

    The weights (u,) sum to 1 and are at most counts / k (u,).
    """
    exact = np.minimum(w * k, counts)
    shares = np.floor(exact + 1e-9).astype(np.int64)
    left = np.where(shares < counts, exact - shares, -np.inf)
    shares[np.argsort(-left, kind="stable")[: k - int(shares.sum())]] += 1
    return shares


def lowest_within(
    f: NDArray[np.float32], codes: NDArray[np.int32], counts: NDArray[np.int64], backend: Backend
) -> NDArray[np.int64]:
    """Return the rows of lowest f (n,) of each domain, ``counts`` (u,) of them, all in order of (f, row)."""
    found = []
    for domain in np.flatnonzero(counts):
        own = np.flatnonzero(codes == domain)
        found.append(own[backend.topk(f[own], int(counts[domain]))])
    rows = np.concatenate(found)
    return rows[np.lexsort((rows, f[rows]))]
