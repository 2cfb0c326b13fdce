"""Hidden states as they are, and put right in several ways: what of the pool is chosen for targets of known kinds.

    python benches/hidden.py --model MODEL --pool POOL --target A B C --like A_DOMAIN B_DOMAIN,OTHER C_DOMAIN

1,000 random documents of the pool's first 100,000, 60 of each target, 64 tokens each, bfloat16. For each target as many
are chosen as the pool's sample has of the domains that are like it; the share of the chosen that are of these is
printed. A model's folder can be made with benches/smollm.py.
"""

from __future__ import annotations

import argparse
import gzip
import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import Selector, embed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

FIRST, SAMPLED, OF_TARGET = 100_000, 1_000, 60


def read(path: Path) -> list[dict[str, Any]]:
    """Return the first documents of a file."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in islice(stream, FIRST)]


def unit(x: Matrix) -> Matrix:
    """Return rows (n, d) of unit norm."""
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


def forms(x: Matrix, y: Matrix) -> Iterator[tuple[str, Matrix, Matrix]]:
    """Yield pool (n, d) and target (m, d), unit vectors, as they are and put right by the pool's own moments."""
    yield "as they are", x, y
    centred = x - x.mean(axis=0), y - x.mean(axis=0)
    spread = centred[0].std(axis=0)
    _, sizes, axes = np.linalg.svd(centred[0], full_matrices=False)
    white = axes.T / (sizes + 0.1 * sizes.mean())
    for name, moved in (
        ("less the mean", centred),
        ("standardised", tuple(one / spread for one in centred)),
        ("without the first axis", tuple(one - np.outer(one @ axes[0], axes[0]) for one in centred)),
        ("whitened", tuple(one @ white for one in centred)),
    ):
        yield name, unit(moved[0]), unit(moved[1])


def main() -> None:
    """Embed, and print a line for each form."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--model", type=Path, required=True)
    flags.add_argument("--pool", type=Path, required=True)
    flags.add_argument("--target", type=Path, nargs="+", required=True)
    flags.add_argument("--like", nargs="+", required=True, help="domains of the pool, with commas, for each target")
    flags.add_argument("--keep", type=Path, help="a file for the states, which is read where it is there")
    given = flags.parse_args()
    documents = read(given.pool)
    rows = np.sort(np.random.default_rng(0).choice(len(documents), SAMPLED, replace=False))
    texts = {"pool": [documents[row]["text"] for row in rows]}
    for path in given.target:
        found = read(path)
        order = np.random.default_rng(1).permutation(len(found))[:OF_TARGET]
        texts[path.name] = [found[at]["text"] for at in order]
    if given.keep and given.keep.exists():
        states = dict(np.load(given.keep))
    else:
        encoder = embed.load(given.model, features="hidden", dtype="bfloat16", max_tokens=64, threads=1)
        states = {name: encoder.encode(some).vectors for name, some in texts.items()}
        if given.keep:
            np.savez(given.keep, **states)
    x, domains = states["pool"], np.array([documents[row]["domain"] for row in rows])
    variance = np.sort(x.var(axis=0))[::-1]
    print(f"the two widest of {x.shape[1]} dimensions have {variance[:2].sum() / variance.sum():.0%} of the variance")
    for path, like in zip(given.target, given.like, strict=True):
        akin = np.isin(domains, like.split(","))
        for name, pool, target in forms(x, states[path.name]):
            chosen = Selector(k=int(akin.sum()), threads=1).fit(target, pool).select().rows
            print(f"{path.name:30}{name:26}{akin[chosen].mean():6.2f}", flush=True)


if __name__ == "__main__":
    main()
