"""The sweep against the bare matrix product it contains: torch's float32 `x @ y.T` into an array made beforehand.

The sweep does that product and then everything else (exponentials, row and column sums, the hard minimum), without
writing n x m numbers. A ratio of 1 means that all of that is free. Both run in one process on the same number of
threads, in turn, so that whatever else the machine does hits both alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from gapsel.backends.cpu import CpuBackend
from gapsel.records import Box, Cost, Target

if TYPE_CHECKING:
    from collections.abc import Callable


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def unit_rows(rng: np.random.Generator, rows: int, d: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return random unit vectors (rows, d)."""
    x = rng.standard_normal((rows, d), np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def main() -> None:
    """Print medians and their ratio, for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("n", 100_000), ("m", 1000), ("d", 384), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--isa", choices=["avx512", "avx2", "portable"])
    parser.add_argument("--half", action="store_true", help="hold the sweep's pool in float16")
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    x, y = unit_rows(rng, args.n, args.d), unit_rows(rng, args.m, args.d)
    pool = [x.astype(np.float16) if args.half else x]
    target, g = Target(y, np.full(args.m, 1 / args.m)), np.zeros(args.m)
    x_torch, y_torch, out = torch.from_numpy(x), torch.from_numpy(y), torch.empty(args.n, args.m)
    print(f"n={args.n} m={args.m} d={args.d}, pool {pool[0].dtype}, {args.rounds} rounds")
    for threads in args.threads:
        torch.set_num_threads(threads)
        backend = CpuBackend(threads, args.isa)

        def gemm() -> object:
            return torch.mm(x_torch, y_torch.T, out=out)

        def sweep(backend: CpuBackend = backend) -> object:
            return backend.sweep(pool, target, g, Box.fixed(1 / args.n), eps=0.05, cost=Cost())

        gemm()
        exact = -0.05 * torch.logsumexp((2 * out[:1000].double() - 2) / 0.05 - np.log(args.m), dim=1).mean().item()
        first = backend.sweep([x[:1000]], target, g, Box.fixed(1e-3), eps=0.05, cost=Cost())
        assert abs(first.value - exact) < 1e-5, (first.value, exact)
        pairs = [(seconds(gemm), seconds(sweep)) for _ in range(args.rounds)]
        gemm_s, sweep_s = (statistics.median(column) for column in zip(*pairs, strict=True))
        rate = 2e-9 * args.n * args.m * args.d
        print(
            f"threads {threads}: gemm {gemm_s:.3f} s ({rate / gemm_s:.0f} GFLOP/s), "
            f"sweep {sweep_s:.3f} s ({rate / sweep_s:.0f} GFLOP/s), ratio {sweep_s / gemm_s:.2f}"
        )


if __name__ == "__main__":
    main()
