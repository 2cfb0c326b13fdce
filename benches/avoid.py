"""How far a choice keeps away from what is to be avoided, by the strength of that: a table for each mass.

    python benches/avoid.py --texts pool.jsonl.gz --vectors pool.npy --wanted mail-ham --unwanted mail-spam

Of a pool whose documents have labels, and vectors row for row (the first of the texts, where there are fewer), the
target is made of 240 of the wanted label and 60 of the unwanted, as an unclean sample would be; 100 other unwanted ones
are to be avoided. All of these leave the pool. Counted are the labels of the chosen.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np

from gapsel import Selector, corpus

WANTED, UNCLEAN, AVOIDED = 240, 60, 100
STRENGTHS, MASSES = (0.0, 0.1, 0.2, 0.5, 1.0), (0.0, 0.5)


def main() -> None:
    """Draw, choose, and print a line for each mass and strength."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("texts", "vectors"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("wanted", "unwanted"):
        parser.add_argument(f"--{name}", required=True, help="a value of --label-field")
    parser.add_argument("--label-field", default="domain")
    parser.add_argument("-k", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    x, rng = np.load(args.vectors, mmap_mode="r"), np.random.default_rng(0)
    found = (label for _, _, part in corpus.labels([str(args.texts)], args.label_field) for label in part)
    labels = np.array(list(itertools.islice(found, len(x))), str)
    wanted, unwanted = (rng.permutation(np.flatnonzero(labels == one)) for one in (args.wanted, args.unwanted))
    target, avoid = np.r_[wanted[:WANTED], unwanted[:UNCLEAN]], unwanted[UNCLEAN : UNCLEAN + AVOIDED]
    left = np.setdiff1d(np.arange(len(x)), np.r_[target, avoid])
    print("| mass | strength | wanted | unwanted | others | OT distance to the target | certificate |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for mass, strength in itertools.product(MASSES, STRENGTHS):
        more = {"avoid_strength": strength} if strength else {}
        selector = Selector(k=args.k, mass=mass, threads=args.threads, **more)
        chosen = selector.fit(x[target], x[left], avoid=x[avoid] if strength else None).select()
        assert selector.evidence.converged, "the solver did not converge"
        taken = labels[left[chosen.rows]]
        counts = [int(np.count_nonzero(taken == one)) for one in (args.wanted, args.unwanted)]
        percent, after = selector.certify(chosen).percent, selector.distances(chosen).after.middle
        cells = [f"{mass:g}", f"{strength:g}", *counts, args.k - sum(counts), f"{after:.3f}", f"{percent:.2f} %"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
