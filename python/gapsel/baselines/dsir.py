"""DSIR: importance resampling by hashed n-grams.

Xie, Santurkar, Ma, Liang, "Data selection for language models via importance resampling", NeurIPS 2023:

    words and pairs of words of a text, hashed into 10,000 buckets: counts c
    p_target,v = (counts of the target in v + 0.1) / (all of them + 1,000)     p_pool,v: without 0.1
    log weight = sum_v c_v (log(p_target,v + 1e-8) - log(p_pool,v + 1e-8))

and the k rows of the largest log weight plus Gumbel noise, which draws without replacement by the weights. Words, hash
and smoothing are those of its authors' package, data-selection, and a test holds the weights to it. The 0.1 is the
pseudo-count that they have for small targets (target_laplace_smoothing). One departure: texts of fewer than 100 words,
which the package leaves out, are drawn too. docs/evaluation.md says what came of the package's own defaults.
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
from gapsel.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.baselines.problem import Problem

BUCKETS, SMOOTHING = 10_000, 1e-8
# Without it a bucket that a target of some hundred texts lacks costs 9 nats or so, and the shortest texts come first.
_PSEUDO_COUNT = 0.1
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
        weights = log_weights(*problem.texts)
        if len(weights) != problem.n:
            texts, vectors = counted(len(weights), "text"), counted(problem.n, "vector")
            msg = f"DSIR: the pool has {texts} and {vectors}: give one vector for each text"
            raise DataError(msg)
        noisy = weights + np.random.default_rng(problem.seed).gumbel(size=problem.n)
        order = np.argsort(-noisy, kind="stable")
        return problem.first_of(lambda count: order[:count])


def log_weights(pool: Callable[[], Iterable[str]], target: Callable[[], Iterable[str]]) -> NDArray[np.float64]:
    """Return the log importance weight (n,) of each text of the pool."""
    of_pool, of_target = _shares(pool(), 0), _shares(target(), _PSEUDO_COUNT)
    gain = np.log(of_target + SMOOTHING) - np.log(of_pool + SMOOTHING)
    return np.array([gain[buckets(text)].sum() for text in pool()])


def buckets(text: str) -> NDArray[np.intp]:
    """Return the buckets of all words and pairs of words of a text."""
    words = _WORD.findall(text.lower())
    grams = [*words, *(f"{a} {b}" for a, b in pairwise(words))]
    return np.fromiter(map(_bucket, grams), np.intp, len(grams))


def _shares(texts: Iterable[str], pseudo_count: float) -> NDArray[np.float64]:
    counts = np.full(BUCKETS, pseudo_count, np.float64)
    for text in texts:
        counts += np.bincount(buckets(text), minlength=BUCKETS)
    return np.asarray(counts / max(counts.sum(), 1))


@lru_cache(maxsize=1 << 18)
def _bucket(gram: str) -> int:
    # A surrogate, which stands for a byte that is not UTF-8, is a character like others.
    return int.from_bytes(hashlib.sha256(gram.encode("utf-8", "surrogatepass")).digest(), "big") % BUCKETS
