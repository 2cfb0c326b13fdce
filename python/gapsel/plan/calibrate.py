"""Short measurements on this machine: what each kind of work takes here, with the real m and d and the sample's rows.

On the CPU they are in processor time, so that what else runs does not count, and are taken to go as many times faster
as there are threads; `Calibration.share` says how much of the processor was to be had meanwhile.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gapsel import baselines, store
from gapsel.plan.looks import gram_rows
from gapsel.records import Box, Cost, Query, Target
from gapsel.store.provenance import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.plan.cost import Kind

# Each measurement goes on for so many seconds, and takes the fastest of its turns.
_SECONDS, _TURNS = 0.3, 3
_FLOP = 1e10
_FEWEST, _MOST = 512, 1 << 16
# Larger matrices are taken to cost as their cube.
_SOLVED = 2048
# Numbers of rows that taking turns and the check are measured with; the longer the pool, the less a pair costs.
_CHECKED, _PAIRS, _TURN_ROWS = 8192, 1.6e7, (4096, 1 << 15)
_BUFFER = 8 << 20


@dataclass(frozen=True, slots=True)
class Timed:
    """How long something took: seconds of the processor (all threads together), and on the clock."""

    processor: float
    clock: float


class Stopwatch:
    """Adds up what was measured, to know what share of the processor was to be had."""

    def __init__(self) -> None:
        self.processor = self.clock = 0.0

    def fastest(self, work: Callable[[], object]) -> Timed:
        """Do the work a few times and return the fastest."""
        turns: list[Timed] = []
        while len(turns) < _TURNS and sum(one.clock for one in turns) < _SECONDS:
            turns.append(self.once(work))
        return min(turns, key=lambda one: one.processor)

    def busy(self, threads: int) -> float:
        """Return how many times longer the measurements took than if the threads had had the machine to themselves.

        Some of them run in one thread, so that only a processor that was not to be had at all counts.
        """
        return max(1.0, self.clock / max(self.processor, 1e-9)) if threads else 1.0

    def once(self, work: Callable[[], object]) -> Timed:
        """Do the work once."""
        processor, clock = time.process_time(), time.perf_counter()
        work()
        took = Timed(time.process_time() - processor, time.perf_counter() - clock)
        self.processor += took.processor
        self.clock += took.clock
        return took


def threads_of(wanted: int) -> int:
    """Return how many threads a run would have."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return wanted or cores


def spread(vectors: NDArray[np.floating], rows: int, seed: int) -> NDArray[np.float32]:
    """Return so many rows like these: drawn again with jitter, of their own norm."""
    rng = np.random.default_rng(seed)
    x = vectors[rng.integers(len(vectors), size=rows)].astype(np.float32)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    x += rng.standard_normal(x.shape, np.float32) * np.float32(0.3 / np.sqrt(x.shape[1])) * norm
    return np.asarray(x * (norm / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)))


def sweeping(  # noqa: PLR0917 - what sweeps, what is swept, how it is measured
    backend: Backend, x: NDArray[np.float32], y: NDArray[np.float32], cost: Cost, watch: Stopwatch, threads: int
) -> dict[Kind, float]:
    """Return the FLOP a second of exact and rough looks and of Grams: x (s, d) like the pool's rows, y (m, d)."""
    m, d = y.shape
    target = Target(y, np.full(m, 1.0 / m))
    one_row = 2.0 * m * (d + 32)
    s = int(np.clip(_FLOP / one_row, _FEWEST, _MOST))
    rows = spread(x, s, 0).astype(np.float16)
    box, clock = Box.fixed(1.0 / s), _clock(backend, threads)

    def look(*, rough: bool = False, gram: bool = False) -> float:
        query = Query(target, np.zeros(m), box, 0.1, cost, gram=gram, rough=rough)
        return clock(watch.fastest(lambda: backend.sweep([rows], query)))

    exact, rough = look(), look(rough=True)
    gram = max(look(rough=True, gram=True) - rough, 0.02 * rough)
    return {
        "exact": s * one_row / exact,
        "rough": s * one_row / rough,
        "gram": gram_rows(s, m, d) * m**2 / gram,
    }


def _clock(backend: Backend, threads: int) -> Callable[[Timed], float]:
    """Return how to read the watch: on a CPU as if all threads were free."""
    if backend.name == "cpu":
        return lambda timed: timed.processor / threads
    return lambda timed: timed.clock


def solving(m: int, watch: Stopwatch, threads: int) -> float:
    """Return the FLOP a second of a Newton step."""
    size = min(m, _SOLVED)
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((size, size))
    took = watch.fastest(lambda: matrix @ matrix[0])
    return 2.0 * size**2 / (took.processor / threads)


def turning(backend: Backend, x: NDArray[np.float32], y: NDArray[np.float32], cost: Cost, watch: Stopwatch) -> float:
    """Return the pairs a second that one thread compares when turns are taken, for the report."""
    count = int(np.clip(_PAIRS / len(y), *_TURN_ROWS))
    rows = spread(x, count, 1).astype(np.float16)
    target = Target(y, np.full(len(y), 1.0 / len(y)))
    problem = baselines.Problem((rows,), target, cost, max(1, count // 100))
    return count * len(y) / watch.once(lambda: baselines.RoundRobin().choose(problem, backend)).processor


def hashing(watch: Stopwatch) -> float:
    """Return the bytes a second of the fingerprint."""
    block = bytes(_BUFFER)
    return _BUFFER / watch.fastest(lambda: hashlib.blake2b(block, digest_size=16)).processor


def checking(x: NDArray[np.float32], watch: Stopwatch) -> float:
    """Return the numbers of vectors a second that are checked before use."""
    rows = spread(x, _CHECKED, 2).astype(np.float16)
    return rows.size / watch.fastest(lambda: store.check([rows], name="sample", normalize=True)).processor


@dataclass(frozen=True, slots=True)
class Tables:
    """Bytes of a row in the store's table and in that of the scores, and rows of both a second."""

    store: float
    scores: float
    rate: float


def tables(ids: Sequence[str], sources: Sequence[str], nearest: Sequence[str], watch: Stopwatch) -> Tables:
    """Write tables of these ids in memory, as the store and the scores are written."""
    count, rng = len(ids), np.random.default_rng(0)
    columns = [
        pa.array(ids, pa.string()),
        pa.array(sources, pa.string()),
        pa.array(np.arange(count), pa.int64()),
        pa.array([rng.bytes(16) for _ in range(count)], pa.binary(16)),
        pa.array(rng.integers(20, 250, count), pa.int32()),
    ]
    made = pa.table(columns, schema=SCHEMA)
    scores = made.drop_columns(["text_hash"])
    scores = scores.append_column("score", pa.array(rng.standard_normal(count)))
    scores = scores.append_column("potential", pa.array(rng.standard_normal(count).astype(np.float32)))
    scores = scores.append_column("nearest", pa.array([nearest[at] for at in rng.integers(len(nearest), size=count)]))
    took = watch.fastest(lambda: (_written(made), _written(scores)))
    return Tables(_written(made) / count, _written(scores) / count, 2 * count / took.processor)


def _written(table: pa.Table) -> int:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.tell()
