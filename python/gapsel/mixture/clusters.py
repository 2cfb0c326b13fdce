"""Domains where none are known: clusters of the vectors, by k-means on a sample, assigned by one sweep of the pool.

scikit-learn fits the centres, on one thread, so that they do not depend on how many there are; the backend then gives
each row its nearest centre, by direction where vectors are normalised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapsel.errors import MissingDependencyError
from gapsel.records import Box, Cost, Query, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials import Rows

_SAMPLE, _FOR_EACH = 16_384, 128
_BATCH = 4096


def clusters(rows: Rows, count: int, backend: Backend, *, cost: Cost, seed: int) -> NDArray[np.int32]:
    """Return the cluster (n,) of each of the rows, from 0, the largest first; clusters that nobody is in are left out.

    Raises MissingDependencyError where scikit-learn is not installed.
    """
    unit = cost.normalize or cost.kind == "cosine"
    size = min(rows.n, max(_SAMPLE, _FOR_EACH * count))
    drawn = rows.sample(size, np.random.default_rng(seed)).shards[0].astype(np.float32)
    centres = _centres(drawn / np.linalg.norm(drawn, axis=1, keepdims=True) if unit else drawn, count, seed)
    nearest = np.empty(rows.n, np.int32)
    m = len(centres)
    target, box = Target(centres, np.full(m, 1.0 / m)), Box.fixed(1.0 / rows.n)
    backend.sweep(rows.shards, Query(target, np.zeros(m), box, 1.0, Cost("sqeuclidean", unit), nearest=nearest))
    return _by_size(nearest, m)


def _by_size(nearest: NDArray[np.int32], m: int) -> NDArray[np.int32]:
    """Return the clusters (n,) with other numbers: the largest first, none empty."""
    order = np.argsort(-np.bincount(nearest, minlength=m), kind="stable")
    number = np.empty(m, np.int32)
    number[order] = np.arange(m, dtype=np.int32)
    return number[nearest]


def _centres(sample: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """Return the centres (at most count, d) of a sample (s, d)."""
    try:
        from sklearn.cluster import MiniBatchKMeans
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        msg = "clusters need scikit-learn: pip install 'gapsel[clusters]', or name the field of the domains"
        raise MissingDependencyError(msg) from error
    count = min(count, len(np.unique(sample, axis=0)))
    means = MiniBatchKMeans(count, random_state=seed, batch_size=_BATCH, n_init=3)
    with threadpool_limits(1):
        means.fit(sample)
    return np.ascontiguousarray(means.cluster_centers_, np.float32)
