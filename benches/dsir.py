"""How DSIR's two settings change what it draws: the least length of a text, and the pseudo-count of the target.

    python benches/dsir.py --pool POOL --target A B C D --labels domain domain sub sqlite-docs=postgres-docs

For targets of several sizes, drawn at random: the share of the k drawn that are of the target's own kind, and their
median length in words. A label is the field that says the kind, or, where the pool calls its like by another name,
TARGET'S=POOL'S values of the field `domain`. The weights are those of gapsel's own code but for the two settings.
"""

from __future__ import annotations

import argparse
import gzip
import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.baselines import dsir

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Pseudo-count and least length: the released package's own, without its least length, and what is tried instead.
FORMS = ((0.0, 100), (0.0, 0), (0.01, 0), (0.1, 0), (1.0, 0))


def read(path: Path, most: int | None = None) -> list[dict[str, Any]]:
    """Return a file's documents, the first ones if so many are enough."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in islice(stream, most)]


def akin(pool: list[dict[str, Any]], target: list[dict[str, Any]], label: str) -> NDArray[np.bool_]:
    """Return which documents of the pool are of the target's kind."""
    field, _, other = label.partition("=")
    if other:
        return np.array([one["domain"] == other for one in pool])
    wanted = {str(one.get(field)) for one in target}
    return np.array([str(one.get(field)) in wanted for one in pool])


class Pool:
    """The pool's n-grams, counted once."""

    def __init__(self, texts: list[str]) -> None:
        found = [dsir.buckets(text).astype(np.uint16) for text in texts]
        self.words = np.array([(len(one) + 1) // 2 for one in found])
        self._grams = np.concatenate(found)
        self._of = np.repeat(np.arange(len(found)), [len(one) for one in found])
        self._shares = np.bincount(self._grams, minlength=dsir.BUCKETS) / len(self._grams)

    def draw(self, target: NDArray[np.int64], pseudo_count: float, least: int, k: int) -> NDArray[np.int64]:
        """Draw k rows for a target's counts (buckets,), longer texts before all that are shorter than ``least``."""
        smoothed = target + pseudo_count
        gain = np.log(smoothed / smoothed.sum() + dsir.SMOOTHING) - np.log(self._shares + dsir.SMOOTHING)
        weights = np.bincount(self._of, gain[self._grams], minlength=len(self.words))
        noisy = weights + np.random.default_rng(0).gumbel(size=len(weights))
        return np.lexsort((-noisy, self.words < least))[:k]


def counts(texts: list[str]) -> NDArray[np.int64]:
    """Return how often each bucket occurs (buckets,)."""
    return np.bincount(np.concatenate([dsir.buckets(text) for text in texts]), minlength=dsir.BUCKETS)


def main() -> None:
    """Print a line for each target and size."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--pool", type=Path, required=True)
    flags.add_argument("--rows", type=int, default=100_000, help="of the pool")
    flags.add_argument("--target", type=Path, nargs="+", required=True)
    flags.add_argument("--labels", nargs="+", required=True)
    flags.add_argument("--sizes", type=int, nargs="+", default=(20, 150, 300))
    flags.add_argument("-k", type=int, default=500)
    given = flags.parse_args()
    documents = read(given.pool, given.rows)
    pool = Pool([one["text"] for one in documents])
    print(f"half of the pool have {np.median(pool.words):.0f} words or more, {np.mean(pool.words >= 100):.0%} have 100")
    head = [f"{count:g}, >= {least} words" for count, least in FORMS]
    print(f"{'target':28}{'examples':>9}{'unseen':>8}" + "".join(f"{one:>20}" for one in head))
    for path, label in zip(given.target, given.labels, strict=True):
        target = read(path)
        order = np.random.default_rng(0).permutation(len(target))
        kind = akin(documents, target, label)
        for size in given.sizes:
            found = counts([target[at]["text"] for at in order[:size]])
            drawn = [pool.draw(found, *form, given.k) for form in FORMS]
            cells = [f"{kind[rows].mean():.1%} ({np.median(pool.words[rows]):.0f} words)" for rows in drawn]
            unseen = f"{np.mean(found == 0):.0%}"
            print(f"{path.name:28}{size:9}{unseen:>8}" + "".join(f"{one:>20}" for one in cells), flush=True)
        long = np.sum(kind & (pool.words >= FORMS[0][1]))
        print(f"  {kind.sum()} of the pool are of its kind, {long} of {FORMS[0][1]} words or more")


if __name__ == "__main__":
    main()
