"""How time, sweeps and memory grow with the pool: one target against pools of 10^4 to 10^7 vectors on disk.

Vectors are the demo's, drawn again with jitter, float16, in one memory-mapped file of which each pool is a prefix; the
file is removed at the end. Each case runs in a process of its own, so that its peak of memory is its own: RssAnon, what
the process holds beyond mapped files (ru_maxrss would count the pages of the pool that the kernel happens to keep).

"warm" is a sweep of cached pages, "cold" a sweep after the kernel was made to drop them, "disk" a plain read of the
same bytes after the same: reading hides behind computing where cold is no more than the larger of the other two.
--record keeps the results in docs/growth.json, which growth_plot.py draws.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gapsel.backends.cpu import CpuBackend
from gapsel.bench.cases import demo_vectors, drawn
from gapsel.config import Settings
from gapsel.cost import measure_scale
from gapsel.potentials import Rows, Task, solve
from gapsel.records import Cost, Query, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "target" / "bench"
RECORD = ROOT / "docs" / "growth.json"
FILE = CACHE / "growth.npy"
CHUNK = 1 << 16
SELECTED = 0.01  # of the pool,
MOST_SELECTED = 10_000  # but no more


@dataclass(frozen=True)
class Case:
    """What is measured: pool size, target size, mass, threads, and whether reading from disk is."""

    n: int
    m: int
    mass: float
    threads: int
    reading: bool


@dataclass(frozen=True)
class Result:
    """What a case took: the solver's seconds, its sweeps of the pool, the error at its end, bytes beyond mapped files.

    The three other times, in seconds, are those of one sweep, warm and cold, and of a plain read of its bytes; the last
    two may be left out, for they do not depend on the mass.
    """

    n: int
    m: int
    d: int
    mass: float
    seconds: float
    full_sweeps: int
    error: float
    converged: bool
    anonymous_bytes: int
    warm: float
    cold: float | None
    disk: float | None


def write_pool(n: int) -> None:
    """Write n vectors (n, d) float16, each chunk seeded by the number of its first row."""
    vectors = demo_vectors("pool", CACHE)
    file = np.lib.format.open_memmap(FILE, "w+", np.float16, (n, vectors.shape[1]))

    def fill(first: int) -> None:
        rows = min(CHUNK, n - first)
        file[first : first + rows] = drawn(vectors, rows, vectors.shape[1], first)

    with ThreadPoolExecutor(os.cpu_count()) as workers:
        list(workers.map(fill, range(0, n, CHUNK)))
    file.flush()


def anonymous_bytes() -> int:
    """Return what this process holds in memory beyond mapped files."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Give a list that will hold the largest of anonymous_bytes(), looked at every 10 ms within the block."""
    peak, done = [anonymous_bytes()], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds one call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def forget() -> None:
    """Make the kernel drop its pages of the file, which nothing may have mapped."""
    with FILE.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(count: int) -> None:
    """Read so many bytes of the file from front to back, and throw them away."""
    block = memoryview(bytearray(1 << 22))
    with FILE.open("rb", buffering=0) as file:
        while count > 0:
            count -= file.readinto(block)


def pool_rows(n: int) -> Rows:
    """Map the first n vectors."""
    return Rows.whole([np.load(FILE, mmap_mode="r")[:n]], min(MOST_SELECTED, round(SELECTED * n)))


def run(case: Case) -> Result:
    """Solve one case, then measure what one of its sweeps costs."""
    backend, cost = CpuBackend(case.threads), Cost()
    vectors = demo_vectors("target_mix", CACHE)
    y = drawn(vectors, case.m, vectors.shape[1], 1)
    target = Target(y, np.full(case.m, 1 / case.m))
    with peak_memory() as peak:
        began = time.perf_counter()
        rows = pool_rows(case.n)
        scale = measure_scale(rows.sample(2048, np.random.default_rng(0)).shards[0], target, cost)
        eps = scale.eps(Settings(mass=case.mass).relative_eps)
        task = Task(rows, target, cost, scale, eps, case.mass)
        potentials = solve(task, backend).potentials
        seconds = time.perf_counter() - began
    box, evidence = task.box(), potentials.evidence
    del rows, task

    def sweep() -> float:
        shards = pool_rows(case.n).shards
        q = backend.sweep(shards, Query(target, potentials.g, box, eps, cost)).q
        return float(np.abs(q - target.b).sum())

    began = time.perf_counter()
    error = sweep()
    warm = time.perf_counter() - began
    cold = disk = None
    if case.reading:
        forget()
        cold = timed(sweep)
        forget()
        disk = timed(lambda: read(2 * case.n * y.shape[1]))
    return Result(
        case.n, case.m, y.shape[1], case.mass, seconds, evidence.full_sweeps, error, evidence.converged, peak[0],
        warm, cold, disk,
    )  # fmt: skip


def alone(case: Case) -> Result:
    """Run a case in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(run, case).result()


def slope(results: list[Result], what: str) -> float:
    """Return the exponent p of time ~ n^p, by least squares on logarithms."""
    n = np.log([result.n for result in results])
    return float(np.polyfit(n, np.log([getattr(result, what) for result in results]), 1)[0])


def shown(seconds: float | None) -> str:
    """Return a time in the table's width."""
    return f"{'':7s}" if seconds is None else f"{seconds:7.3f}"


def main() -> None:
    """Print one line for each case, then how time grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--m", type=int, default=1000)
    parser.add_argument("--mass", type=float, nargs="+", default=[0.0, 0.5])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warm", action="store_true", help="leave the reading from disk out")
    parser.add_argument("--keep", action="store_true", help="keep the file of vectors, and use the one that is there")
    parser.add_argument("--record", action="store_true", help="add the results to docs/growth.json")
    args = parser.parse_args()

    if not (args.keep and FILE.exists() and len(np.load(FILE, mmap_mode="r")) >= max(args.n)):
        print(f"wrote {max(args.n):,} vectors in {timed(lambda: write_pool(max(args.n))):.0f} s", flush=True)
    print("       n     m  mass   seconds  sweeps  error    converged  MB beyond   warm    cold    disk")
    results = []
    for mass in args.mass:
        for n in sorted(args.n):
            r = alone(Case(n, args.m, mass, args.threads, reading=mass == args.mass[0] and not args.warm))
            results.append(r)
            if args.record:
                record(r, args.threads)
            print(
                f"{n:9d} {r.m:5d}  {mass:<4g} {r.seconds:9.2f}  {r.full_sweeps:6d}  {r.error:.1e}  "
                f"{r.converged!s:<9s}  {r.anonymous_bytes / 1e6:9.0f} {r.warm:7.3f} {shown(r.cold)} {shown(r.disk)}",
                flush=True,
            )
    for mass in args.mass if len(args.n) > 1 else []:
        of_mass = [r for r in results if r.mass == mass]
        print(f"mass {mass:g}: seconds ~ n^{slope(of_mass, 'seconds'):.2f}, one sweep ~ n^{slope(of_mass, 'warm'):.2f}")
    if not args.keep:
        FILE.unlink()


def record(result: Result, threads: int) -> None:
    """Add a result to the file of records, in the place of an older one of the same n, m and mass."""
    known = json.loads(RECORD.read_text())["results"] if RECORD.exists() else []
    merged = {(r["n"], r["m"], r["mass"]): r for r in [*known, asdict(result)]}
    about = {"processor": processor(), "threads": threads, "date": time.strftime("%Y-%m-%d")}
    RECORD.write_text(json.dumps({**about, "results": [merged[key] for key in sorted(merged)]}, indent=1) + "\n")


def processor() -> str:
    """Return the processor's name."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii") if Path("/proc/cpuinfo").exists() else ""
    return cpuinfo.partition("model name\t: ")[2].partition("\n")[0] or platform.processor()


if __name__ == "__main__":
    main()
