"""The constants of the cost model, measured here: what each kind of work takes, and what sharing out a sweep adds.

Paces are those that `gapsel plan` measures, on the demo's documents and their vectors drawn again to m = 1,000, in
processor time, so that what else runs does not count for much. What sharing out adds is measured by scale_nodes.py on
nodes of a local cluster. --record keeps it all in benches/record/scale, one file for each day and machine, and
scale_tables.py makes docs/scale.md's tables and docs/scale.svg of the newest.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import scale_nodes

from gapsel import corpus, files
from gapsel.backends.cpu import CpuBackend
from gapsel.bench import record
from gapsel.bench.cases import DEMO, demo_vectors, drawn
from gapsel.config import Settings
from gapsel.plan import calibrate, encoding, sample
from gapsel.records import Cost

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "target" / "bench"
RECORDS = ROOT / "benches" / "record" / "scale"
M = 1000


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


def main() -> None:
    """Measure, print and perhaps record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--record", action="store_true", help="keep the results in benches/record/scale")
    args = parser.parse_args()
    assert sum(len(batch.ids) for batch in corpus.read([ROOT / DEMO / "target_mix.jsonl.gz"])) == 120
    found = record.empty(args.threads, "the demo's, drawn again with jitter")
    del found["cases"]
    with tempfile.TemporaryDirectory() as folder:
        found |= {"m": M, "d": 384, **paces(args.threads), "parts": scale_nodes.looks(Path(folder))}
    for kind, rate in found["rates"].items():
        print(f"{kind:6s} {rate:12.4g} a second of one thread")
    if args.record:
        RECORDS.mkdir(parents=True, exist_ok=True)
        files.write_json(record.path(RECORDS, found), found)
        print(f"kept in {record.path(RECORDS, found).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
