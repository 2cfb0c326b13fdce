"""The constants of the cost model, measured here: what each kind of work takes, and what cutting a sweep in parts adds.

Paces are those that `gapsel plan` measures, on the demo's documents and their vectors drawn again to m = 1,000, in
processor time, so that what else runs does not count for much. Parts are the spans of a pool shared out to 1, 2 and 4
workers that work one after the other, in this process: the rows that they sweep in a second of the processor, and the
bytes that would cross the network. --record keeps it all in benches/record/scale, one file for each day and machine,
and scale_tables.py makes docs/scale.md's tables and docs/scale.svg of the newest.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from gapsel import corpus, files
from gapsel.backends.cpu import CpuBackend
from gapsel.backends.parts import Part, added
from gapsel.bench import record
from gapsel.bench.cases import DEMO, demo_vectors, drawn
from gapsel.config import Settings
from gapsel.plan import calibrate, encoding, sample
from gapsel.records import Box, Cost, Target

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "target" / "bench"
RECORDS = ROOT / "benches" / "record" / "scale"
M, ROWS, EPS = 1000, 131_072, 0.1
WORKERS = (1, 2, 4)


def paces(threads: int) -> dict[str, Any]:
    """Return the paces of this machine, each of one thread, and the bytes of table rows."""
    watch, cost = calibrate.Stopwatch(), Cost()
    texts = sample.take([str(ROOT / DEMO / "pool.jsonl.gz")], "text", "id")
    encoder = encoding.load(Settings(threads=threads))
    encoded = encoding.measure(encoder, texts.text, watch, 1)
    x, y = demo_vectors("pool", CACHE), drawn(demo_vectors("target_mix", CACHE), M, 384, 1)
    backend = CpuBackend(threads)
    tables = calibrate.tables(
        [str(row.id) for row in texts.text], texts.sources, [f"target-{at}" for at in range(M)], watch
    )
    rates = {
        **calibrate.sweeping(backend, x, y, cost, watch, 1),
        "solve": calibrate.solving(M, watch, 1),
        "turns": calibrate.turning(backend, x, y, cost, watch),
        "token": encoded.rate,
        "parse": 1 / texts.parse_seconds,
        "hash": calibrate.hashing(watch),
        "check": calibrate.checking(x, watch),
        "table": tables.rate,
    }
    return {
        "rates": rates, "table_bytes": tables.store, "score_bytes": tables.scores,
        "tokens_of_a_document": encoded.mean_tokens().value, "row_bytes": texts.row_bytes,
        "clock_by_processor": watch.busy(threads),
    }  # fmt: skip


def shared(workers: int, threads: int, *, gram: bool) -> dict[str, float]:
    """Sweep a pool as so many workers would, each the spans of its share, and add up what they give."""
    x = drawn(demo_vectors("pool", CACHE), ROWS, 384, 0).astype(np.float16)
    y = drawn(demo_vectors("target_mix", CACHE), M, 384, 1)
    target, backend, g = Target(y, np.full(M, 1 / M)), CpuBackend(threads), np.zeros(M)
    rows = backend.span_rows(target, ROWS, gram=gram)
    firsts = list(range(0, ROWS, rows))
    parts: list[Part] = []
    took = []
    for worker in range(workers):
        own = firsts[worker * len(firsts) // workers : (worker + 1) * len(firsts) // workers]
        began = time.process_time()
        for first in own:
            span = x[first : first + rows]
            box = Box.fixed(1 / ROWS)
            parts.append(backend.part([span], target, g, box, eps=EPS, cost=Cost(), first=first, n=ROWS, gram=gram))
        took.append(time.process_time() - began)
    began = time.process_time()
    whole = added(parts)
    merging = time.process_time() - began
    assert abs(whole.q.sum() - 1) < 1e-6
    back = sum(part.q.nbytes + (sum(one.nbytes for one in part.gram) if part.gram else 0) for part in parts)
    return {
        "rows_a_second": ROWS / (sum(took) + merging), "merging": merging, "slowest": max(took) / sum(took),
        "bytes": back + workers * g.nbytes,
    }  # fmt: skip


def whole(threads: int, *, gram: bool) -> float:
    """Return the rows a second of the processor of one sweep that is not cut."""
    x = drawn(demo_vectors("pool", CACHE), ROWS, 384, 0).astype(np.float16)
    target = Target(drawn(demo_vectors("target_mix", CACHE), M, 384, 1), np.full(M, 1 / M))
    began = time.process_time()
    CpuBackend(threads).sweep([x], target, np.zeros(M), Box.fixed(1 / ROWS), eps=EPS, cost=Cost(), gram=gram)
    return ROWS / (time.process_time() - began)


def parts(threads: int) -> dict[str, dict[str, Any]]:
    """Return what 1, 2 and 4 workers do, without and with a Gram, beside one sweep that is not cut."""
    return {
        name: {
            "whole": whole(threads, gram=gram),
            **{str(count): shared(count, threads, gram=gram) for count in WORKERS},
        }
        for name, gram in (("plain", False), ("gram", True))
    }


def main() -> None:
    """Measure, print and perhaps record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--record", action="store_true", help="keep the results in benches/record/scale")
    args = parser.parse_args()
    assert sum(len(batch.ids) for batch in corpus.read([ROOT / DEMO / "target_mix.jsonl.gz"])) == 120
    found = record.empty(args.threads, "the demo's, drawn again with jitter")
    del found["cases"]
    found |= {"m": M, "d": 384, "rows": ROWS, **paces(args.threads), "parts": parts(args.threads)}
    for kind, rate in found["rates"].items():
        print(f"{kind:6s} {rate:12.4g} a second of one thread")
    for name, own in found["parts"].items():
        for count in WORKERS:
            one = own[str(count)]
            share = one["rows_a_second"] / own["whole"]
            print(f"{name:5s} {count} workers: {share:.1%} of the rows of a whole sweep, {one['bytes']:,} bytes")
    if args.record:
        RECORDS.mkdir(parents=True, exist_ok=True)
        files.write_json(record.path(RECORDS, found), found)
        print(f"kept in {record.path(RECORDS, found).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
