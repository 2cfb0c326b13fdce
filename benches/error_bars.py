"""How well halves of a target that agree foretell a good choice: what the warning of `--error-bars` stands on.

    python benches/error_bars.py --pool VECTORS --target A B C D --texts POOL A B C D --labels domain domain sub domain

Half of each target is held out. Choices are made by few and by many of the other half's examples, for several k; of
each is measured on how much disjoint halves of the examples agree, and how far the chosen rows alone are, by exact
transport, from the held-out half. *Lost* is what the fewness of the examples costs: 0 is the distance that all of the
half reaches, 100 % that of random rows. Vectors are NumPy files; texts give the labels for the precision. One line of
JSON for each choice goes to --lines, and without --pool the tables of that file are printed again.
"""

from __future__ import annotations

import argparse
import gzip
import json
from itertools import islice, pairwise
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np
import ot

import gapsel
from gapsel.cost import cost_matrix
from gapsel.records import Cost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

RECORD = Path(__file__).resolve().parent / "record" / "error_bars.jsonl"
SIZES = (8, 16, 32, 64, 128)
KS = (50, 200, 1000)
EDGES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.01)
# A choice is counted as harmed where more than this of what could be had is lost.
HARM = 0.1


def labels(path: Path, field: str, most: int | None = None) -> list[str]:
    """Return a field of each document."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [str(json.loads(line).get(field)) for line in islice(stream, most)]


def distance(x: Matrix, y: Matrix) -> float:
    """Return the exact distance of rows (k, d) of equal weight from examples (m, d)."""
    return float(ot.emd2([], [], cost_matrix(x, y, Cost())))


def chosen(pool: Matrix, target: Matrix, k: int) -> tuple[NDArray[np.int64], float]:
    """Return the rows that gapsel chooses with its default settings, and how far halves of the target agree."""
    selector = gapsel.Selector(k=k, threads=1).fit(target, pool)
    selection = selector.select()
    return selection.rows, selector.error_bars(selection).target.agree


def choices(pool: Matrix, target: Matrix, akin: NDArray[np.bool_] | None, draws: int) -> Iterator[dict[str, Any]]:
    """Yield what is known of each choice by some of a target's examples."""
    order = np.random.default_rng(0).permutation(len(target))
    held, own = target[order[: len(order) // 2]], order[len(order) // 2 :]
    for k in KS:
        rng = np.random.default_rng(k)
        random = fmean(distance(pool[rng.choice(len(pool), k, replace=False)], held) for _ in range(3))
        full = distance(pool[chosen(pool, target[own], k)[0]], held)
        for size in (size for size in SIZES if 2 * size <= len(own)):
            for draw in range(draws):
                some = np.random.default_rng([size, draw]).choice(own, size, replace=False)
                rows, agree = chosen(pool, target[some], k)
                far = distance(pool[rows], held)
                precision = None if akin is None else float(akin[rows].mean())
                yield {
                    "k": k, "examples": size, "agree": agree, "distance": far, "random": random, "full": full,
                    "lost": (far - full) / (random - full), "precision": precision,
                }  # fmt: skip


def by_agreement(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a table: what is lost where halves agree on so much."""
    yield f"{'halves agree on':18}{'choices':>9}{'lost, median':>14}{'the most':>10}{f'more than {HARM:.0%}':>15}"
    for low, high in pairwise(EDGES):
        lost = [one["lost"] for one in found if low <= one["agree"] < high]
        if lost:
            harmed = sum(one > HARM for one in lost)
            span = f"{low:.0%} to {min(high, 1):.0%}"
            yield f"{span:18}{len(lost):9}{median(lost):14.1%}{max(lost):10.1%}{harmed:15}"


def by_threshold(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a table: whom a warning below a threshold would reach."""
    harmed = [one for one in found if one["lost"] > HARM]
    yield f"{'warn below':12}{'warned':>8}{'of these harmed':>17}{'harmed, not warned':>20}"
    for edge in EDGES[1:-1]:
        warned = [one for one in found if one["agree"] < edge]
        hit = sum(one["lost"] > HARM for one in warned)
        yield f"{edge:<12.0%}{len(warned):8}{hit:17}{len(harmed) - hit:20}"


def by_size(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a table of every target, k and size."""
    yield f"{'target':16}{'k':>6}{'examples':>10}{'agree':>8}{'lost':>8}{'precision':>11}"
    for target, k, size in sorted({(one["target"], one["k"], one["examples"]) for one in found}):
        cell = [one for one in found if (one["target"], one["k"], one["examples"]) == (target, k, size)]
        agree, lost = (fmean(one[name] for one in cell) for name in ("agree", "lost"))
        precision = "" if cell[0]["precision"] is None else f"{fmean(one['precision'] for one in cell):.1%}"
        yield f"{target:16}{k:6}{size:10}{agree:8.0%}{lost:8.1%}{precision:>11}"


def measure(given: argparse.Namespace) -> None:
    """Append the choices of all targets to the file of lines."""
    stored = np.load(given.pool, mmap_mode="r")
    rows = np.sort(np.random.default_rng(0).choice(len(stored), min(given.rows, len(stored)), replace=False))
    pool = np.ascontiguousarray(stored[rows], np.float32)
    for at, path in enumerate(given.target):
        name, akin = path.name.removeprefix("vectors_target_").removesuffix("_f16.npy"), None
        if given.labels and given.labels[at] != "-":
            wanted = set(labels(given.texts[1 + at], given.labels[at]))
            akin = np.isin(np.array(labels(given.texts[0], given.labels[at], len(stored)))[rows], list(wanted))
        with given.lines.open("a", encoding="utf-8") as file:
            for one in choices(pool, np.load(path).astype(np.float32), akin, given.draws):
                file.write(json.dumps({"target": name, **one}) + "\n")
                file.flush()


def main() -> None:
    """Measure where a pool is given, and print the tables."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--lines", type=Path, default=RECORD)
    flags.add_argument("--pool", type=Path)
    flags.add_argument("--rows", type=int, default=20_000, help="random ones of the pool")
    flags.add_argument("--target", type=Path, nargs="+")
    flags.add_argument("--texts", type=Path, nargs="+", help="of the pool, then of each target")
    flags.add_argument("--labels", nargs="+", help="a field for each target; - for one without")
    flags.add_argument("--draws", type=int, default=2)
    given = flags.parse_args()
    if given.pool:
        measure(given)
    found = [json.loads(line) for line in given.lines.read_text(encoding="utf-8").splitlines()]
    for table in (by_size, by_agreement, by_threshold):
        print("\n".join(table(found)), end="\n\n")
    ranks = np.corrcoef(*(np.argsort(np.argsort([one[name] for one in found])) for name in ("agree", "lost")))
    print(f"rank correlation of agreement with what is lost: {ranks[0, 1]:.2f}")


if __name__ == "__main__":
    main()
