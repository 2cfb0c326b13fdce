"""The sweep against the bare matrix product it contains: torch's `x @ y.T` into an array made beforehand.

The sweep does that product and then everything else (exponentials, row and column sums, the hard minimum), without
writing n x m numbers. A ratio of 1 means that all of that is free. Both run in one process on the same number of
threads, in turn, so that whatever else the machine does hits both alike; the best of the rounds counts. Rough sweeps
stand against torch's product in bfloat16, where the machine multiplies bfloat16.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gapsel.backends.cpu import CpuBackend
from gapsel.records import Box, Cost, Query, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SHAPES = tuple((200_000, m, d) for m in (1000, 4000) for d in (384, 768))
EPS = 0.05
# A mean of a thousand float32 scores, and of scores whose products were rounded to eight binary digits.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-4}


@dataclass(frozen=True)
class Case:
    """One shape on one number of threads: the pool as torch and as the sweep read it."""

    x: NDArray[np.float32]
    pool: NDArray[np.floating[Any]]
    target: Target
    backend: CpuBackend

    def sweep(self, rows: int, *, rough: bool) -> float:
        """Sweep the first rows and return the mean of f at g = 0."""
        g, box = np.zeros(len(self.target.b)), Box.fixed(1 / rows)
        return self.backend.sweep([self.pool[:rows]], Query(self.target, g, box, EPS, Cost(), rough=rough)).value

    def times(self, dtype: torch.dtype, rounds: int) -> tuple[float, float]:
        """Return the seconds of torch's product and of the sweep, after a look at the sweep's answer."""
        x, y = torch.from_numpy(self.x).to(dtype), torch.from_numpy(self.target.y).to(dtype)
        out, rough = torch.empty(len(x), len(y), dtype=dtype), dtype == torch.bfloat16
        cosines = torch.from_numpy(self.x[:1000]).double() @ torch.from_numpy(self.target.y).double().T
        exact = -EPS * torch.logsumexp((2 * cosines - 2) / EPS - np.log(len(y)), dim=1).mean().item()
        found = self.sweep(1000, rough=rough)
        assert abs(found - exact) < TOLERANCE[dtype], (found, exact)
        torch.mm(x[:1000], y.T, out=out[:1000])
        pairs = [
            (seconds(lambda: torch.mm(x, y.T, out=out)), seconds(lambda: self.sweep(len(x), rough=rough)))
            for _ in range(rounds)
        ]
        gemm, sweep = (min(column) for column in zip(*pairs, strict=True))
        return gemm, sweep


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def unit_rows(rng: np.random.Generator, rows: int, d: int) -> NDArray[np.float32]:
    """Return random unit vectors (rows, d)."""
    x = rng.standard_normal((rows, d), np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def dtypes(backend: CpuBackend) -> list[torch.dtype]:
    """Return what can be compared here: bfloat16 only where the rough sweep is one."""
    return [torch.float32, torch.bfloat16] if backend.multiplies_bfloat16 else [torch.float32]


def main() -> None:
    """Print a row for each shape, number of threads and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, metavar=("N", "M", "D"), action="append")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--isa", help="the sweep's instruction set instead of the best")
    parser.add_argument("--half", action="store_true", help="hold the sweep's pool in float16")
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    print(f"{'n':>8} {'m':>6} {'d':>5} threads     precision    gemm s  GFLOP/s   sweep s  GFLOP/s  ratio")
    for n, m, d in args.shape or SHAPES:
        x, target = unit_rows(rng, n, d), Target(unit_rows(rng, m, d), np.full(m, 1 / m))
        pool = x.astype(np.float16) if args.half else x
        for threads in args.threads:
            torch.set_num_threads(threads)
            case = Case(x, pool, target, CpuBackend(threads, args.isa))
            for dtype in dtypes(case.backend):
                times = case.times(dtype, args.rounds)
                row = "  ".join(f"{t:8.3f} {2e-9 * n * m * d / t:8.0f}" for t in times)
                name = str(dtype).removeprefix("torch.")
                print(f"{n:8} {m:6} {d:5} {threads:7}  {name:>12}  {row}  {times[1] / times[0]:5.2f}", flush=True)


if __name__ == "__main__":
    main()
