"""Does gapsel's choice help? `gapsel evaluate` on several targets, seed by seed, with a record of each target.

    python benches/evaluation.py --pool POOL --pool-vectors VECTORS --target A B C D --target-vectors A B C D \
        --labels domain domain sub - --work FOLDER

Of each target some random examples choose and fine-tune, and others, as many bytes of them as are asked for, are held
out before anything else is done. The pool is cut to the rows that have vectors. All targets share one small GPT, and
all of them are done with one seed before any is with the next. A run that was stopped goes on.
benches/evaluation_tables.py makes the tables of docs/evaluation.md from the records.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from evaluation_tables import RECORDS, write_tables

import gapsel
from gapsel import pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS = ("random", "nearest", "roundrobin", "dsir")
MASSES = ("0", "0.1", "0.5", "1")


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, compressed or not."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as stream:
        yield from stream


def prepare_pool(given: argparse.Namespace) -> Path:
    """Write the rows of the pool that have vectors."""
    file: Path = given.work / "pool.jsonl"
    if not file.exists():
        given.work.mkdir(parents=True, exist_ok=True)
        rows = len(np.load(given.pool_vectors, mmap_mode="r"))
        half = file.with_suffix(".half")
        half.write_text("".join(islice(lines_of(given.pool), rows)), encoding="utf-8")
        half.rename(file)
    return file


def prepare_target(given: argparse.Namespace, path: Path, vectors: Path, folder: Path) -> None:
    """Split a target at random: the examples that choose, and held-out ones of so many bytes."""
    lines = list(lines_of(path))
    order = np.random.default_rng(given.seed).permutation(len(lines))
    own, others = np.sort(order[: given.examples]), order[given.examples :]
    sizes = np.cumsum([len(json.loads(lines[at])["text"].encode()) for at in others])
    held_out = np.sort(others[: int(np.searchsorted(sizes, given.held_out_bytes)) + 1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("target", own), ("held_out", held_out)):
        (folder / f"{name}.jsonl").write_text("".join(lines[at] for at in rows), encoding="utf-8")
    np.save(folder / "target.npy", np.load(vectors)[own])


def choose(given: argparse.Namespace, pool: Path, folder: Path, label: str | None) -> None:
    """Run gapsel at the default mass up to the selection."""
    settings = pipeline.make_settings({
        "pool": pool, "pool_vectors": given.pool_vectors, "target": folder / "target.jsonl",
        "target_vectors": folder / "target.npy", "k": given.k, "label_field": label, "threads": given.threads,
        "methods": METHODS, "seed": given.seed,
    })  # fmt: skip
    with pipeline.begin(folder / "run", settings, quiet=True) as run:
        pipeline.advance(run, "select")


def evaluate(given: argparse.Namespace, folder: Path, seeds: int, lm: Path | None) -> dict[str, Any]:
    """Train by so many seeds, those that are done before included."""
    return gapsel.evaluate(
        folder / "run", test=folder / "held_out.jsonl", masses=MASSES, seeds=seeds, lm=lm, threads=given.threads,
        warm_tokens=given.warm_tokens, tune_tokens=given.tune_tokens, pretrain_tokens=given.pretrain_tokens,
    )  # fmt: skip


def read_arguments() -> argparse.Namespace:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pool", "pool-vectors", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("target", "target-vectors"):
        parser.add_argument(f"--{name}", type=Path, nargs="+", required=True)
    parser.add_argument("--labels", nargs="+", help="a field for each target; - for one without")
    parser.add_argument("--record", type=Path, default=RECORDS)
    parser.add_argument("-k", type=int, default=500)
    for name, number in (("examples", 150), ("held-out-bytes", 40_000), ("seeds", 5), ("seed", 0), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=number)
    for name, number in (("warm-tokens", 49_152), ("tune-tokens", 16_384), ("pretrain-tokens", 1_500_000)):
        parser.add_argument(f"--{name}", type=int, default=number)
    return parser.parse_args()


def main() -> None:
    """Make or take up the study, and write the records and the tables anew after each target and seed."""
    given = read_arguments()
    pool, first = prepare_pool(given), None
    names = [path.name.split(".")[0].removeprefix("target_") for path in given.target]
    labels = given.labels or ["-"] * len(names)
    for name, path, vectors, label in zip(names, given.target, given.target_vectors, labels, strict=True):
        if not (given.work / name / "run" / "selection.json").exists():
            prepare_target(given, path, vectors, given.work / name)
        choose(given, pool, given.work / name, None if label == "-" else label)
    for seeds in range(1, given.seeds + 1):
        for name in names:
            began = time.perf_counter()
            lm = given.work / names[0] / "run" / "evaluation" / "lm"
            found = evaluate(given, given.work / name, seeds, lm if first else None)
            first = first or name
            print(f"{name}: {seeds} seeds, {time.perf_counter() - began:.0f} s", flush=True)
            record = {"machine": platform.machine(), "gapsel": gapsel.__version__, **found}
            given.record.mkdir(parents=True, exist_ok=True)
            (given.record / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        write_tables(given.record)


if __name__ == "__main__":
    main()
