"""One method of the study trained again by its record: for a method that was changed since.

    python benches/evaluation_again.py --work FOLDER --lm FOLDER/botany/run/evaluation/lm --method dsir \
        --labels botany=sub emma=domain

FOLDER is that of benches/evaluation.py. Each training is done with the record's recipe and seeds, and what comes of it
takes the place of the method's trials there; all else stays. It goes on only where the model is the record's, byte by
byte, and its fine-tuning without a warm-up comes to the record's loss.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from evaluation_tables import OURS, RECORDS, methods_of, write_tables

from gapsel import baselines, evaluation
from gapsel.backends.cpu import CpuBackend
from gapsel.records import Cost, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_WARM_UP = "no warm-up"
SAME = 1e-9


def texts_of(file: Path, field: str = "text") -> list[str]:
    """Return a field of all documents of a file."""
    return [str(json.loads(line).get(field)) for line in file.read_text(encoding="utf-8").splitlines()]


class Study:
    """What was trained on and judged by for one target."""

    def __init__(self, folder: Path, record: dict[str, Any], lm: evaluation.Lm) -> None:
        assert lm.identity == record["lm"]["identity"], "another model than the record's"
        self.record, self._lm = record, lm
        self._pool, self._given = folder.parent / "pool.jsonl", folder / "target.jsonl"
        self._recipe = evaluation.Recipe(**record["recipe"])
        self._held = lm.held_out(texts_of(folder / "held_out.jsonl"), self._recipe.context)
        self._target = lm.tokens(texts_of(self._given))

    def again(self, method: baselines.Baseline, label: str | None) -> dict[str, Any]:
        """Return what the record is to say of a method that chooses by texts."""
        seeds = self.record["seeds"]
        alone = methods_of(self.record)[NO_WARM_UP]["trials"][0]
        assert abs(self._trial(None, seeds[0]).tuned - alone["tuned"]) < SAME, "another loss than the record's"
        began = time.perf_counter()
        rows = self._choose(method)
        seconds = round(time.perf_counter() - began, 3)
        texts = texts_of(self._pool)
        documents = self._lm.tokens([texts[row] for row in rows])
        trials = [asdict(self._trial(documents, seed)) for seed in seeds]
        precision = None if label is None else self._precision(rows, label)
        tokens = float(sum(map(len, documents)))
        return {"name": method.name, "tokens": tokens, "seconds": seconds, "precision": precision, "trials": trials}

    def _trial(self, documents: list[NDArray[np.int32]] | None, seed: int) -> evaluation.Trial:
        return evaluation.trial(self._lm, documents, self._target, self._held, recipe=self._recipe, seed=seed)

    def _choose(self, method: baselines.Baseline) -> NDArray[np.int64]:
        pool, target = texts_of(self._pool), texts_of(self._given)
        x, y = (np.ones((len(texts), 1), np.float32) for texts in (pool, target))
        whole = Target(y, np.full(len(y), 1 / len(y)))
        asked = baselines.Problem([x], whole, Cost(), self.record["k"], texts=(lambda: pool, lambda: target))
        return method.choose(asked, CpuBackend(1))

    def _precision(self, rows: NDArray[np.int64], label: str) -> float:
        pool, target = (texts_of(file, label) for file in (self._pool, self._given))
        return fmean(pool[row] in set(target) for row in rows)


def replaced(record: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    """Return a record with one method's trials replaced, and all of it judged anew."""
    methods = methods_of(record)
    methods[one["name"]] |= one
    trials = {name: [evaluation.Trial(**trial) for trial in each["trials"]] for name, each in methods.items()}
    judged = evaluation.judge(trials, baselines.Random.name, NO_WARM_UP, OURS)
    return {**record, "methods": [{**methods[each.name], **asdict(each)} for each in judged]}


def main() -> None:
    """Train one method again on the records' targets, and write records and tables."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--work", type=Path, required=True)
    flags.add_argument("--lm", type=Path, required=True, help="the small GPT, in the run of the study's first target")
    flags.add_argument("--method", required=True, choices=["dsir"])
    flags.add_argument("--labels", nargs="*", default=[], help="TARGET=FIELD")
    flags.add_argument("--target", nargs="+", help="names of records; all of them if not given")
    given = flags.parse_args()
    method, labels = baselines.BY_KEY[given.method], dict(one.split("=") for one in given.labels)
    for name in given.target or sorted(file.stem for file in RECORDS.glob("*.json")):
        file = RECORDS / f"{name}.json"
        record = json.loads(file.read_text(encoding="utf-8"))
        lm = evaluation.load(given.lm, context=record["recipe"]["context"], threads=1)
        again = Study(given.work / name, record, lm).again(method, labels.get(name))
        print(name, again, flush=True)
        file.write_text(json.dumps(replaced(record, again), indent=1) + "\n", encoding="utf-8")
    write_tables(RECORDS)


if __name__ == "__main__":
    main()
