"""DSIR: importance resampling by hashed n-grams.

Xie, Santurkar, Ma, Liang, "Data selection for language models via importance resampling", NeurIPS 2023:

    words and pairs of words of a text, hashed into 10,000 buckets: counts c
    log weight = sum_v c_v (log(p_target,v + 1e-8) - log(p_pool,v + 1e-8))     p: shares of all the counts of a side

and the k rows of the largest log weight plus Gumbel noise, which draws without replacement by the weights. Words, hash,
smoothing and the least length are those of its authors' package, data-selection; a test holds the weights to it. One
departure: texts shorter than 100 words, which the package leaves out, come after all others, so that there are always
k.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gapsel.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.baselines.problem import Problem

_BUCKETS, _SMOOTHING, _LEAST_WORDS = 10_000, 1e-8, 100
_WORD = re.compile(r"\w+|[^\w\s]+")


@dataclass(frozen=True, slots=True)
class Dsir:
    """Rows drawn without replacement by their importance weights; reads all texts twice."""

    key = "dsir"
    name = "DSIR"

    def choose(self, problem: Problem, backend: Backend) -> NDArray[np.int64]:  # noqa: ARG002 - reads texts
        """Return k rows (k,), best first; see Baseline.choose. Raises UsageError without texts."""
        if problem.texts is None:
            msg = (
                "DSIR: reads texts, and there are only vectors: give the pool and the target as texts, or leave it out"
            )
            raise UsageError(msg)
        weights, words = log_weights(*problem.texts)
        if len(weights) != problem.n:
            msg = f"DSIR: the pool has {len(weights)} texts and {problem.n} vectors: give one vector for each text"
            raise DataError(msg)
        noisy = weights + np.random.default_rng(problem.seed).gumbel(size=problem.n)
        order = np.lexsort((-noisy, words < _LEAST_WORDS))
        return problem.first_of(lambda count: order[:count])


def log_weights(
    pool: Callable[[], Iterable[str]], target: Callable[[], Iterable[str]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the log importance weight (n,) of each text of the pool, and how many words it has (n,)."""
    of_pool, of_target = (_shares(texts()) for texts in (pool, target))
    gain = np.log(of_target + _SMOOTHING) - np.log(of_pool + _SMOOTHING)
    weights, words = [], []
    for text in pool():
        found, count = buckets(text)
        weights.append(gain[found].sum())
        words.append(count)
    return np.array(weights), np.array(words, np.int64)


def buckets(text: str) -> tuple[NDArray[np.intp], int]:
    """Return the buckets of all words and pairs of words of a text, and the number of its words."""
    words = _WORD.findall(text.lower())
    grams = [*words, *(f"{a} {b}" for a, b in pairwise(words))]
    return np.fromiter(map(_bucket, grams), np.intp, len(grams)), len(words)


def _shares(texts: Iterable[str]) -> NDArray[np.float64]:
    counts = np.zeros(_BUCKETS)
    for text in texts:
        counts += np.bincount(buckets(text)[0], minlength=_BUCKETS)
    return np.asarray(counts / max(counts.sum(), 1))


@lru_cache(maxsize=1 << 18)
def _bucket(gram: str) -> int:
    # A surrogate, which stands for a byte that is not UTF-8, is a character like others.
    return int.from_bytes(hashlib.sha256(gram.encode("utf-8", "surrogatepass")).digest(), "big") % _BUCKETS
