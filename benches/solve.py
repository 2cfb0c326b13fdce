"""How many sweeps the solver needs, at each mass and eps, and what it costs in sweeps' time.

Vectors are real: ready-made ones by --pool and --target, else the demo's documents, embedded once and drawn again with
jitter to the size asked for. "full" counts sweeps of the whole pool, "work" the solver's whole time in units of one
sweep measured in the same run. The marginal error is measured by a sweep of its own.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from gapsel.backends.cpu import CpuBackend
from gapsel.bench.cases import demo_vectors, drawn
from gapsel.cost import measure_scale
from gapsel.potentials import Rows, Task, solve
from gapsel.records import Cost, Target

CACHE = Path(__file__).resolve().parent.parent / "target" / "bench"


def main() -> None:
    """Print one line for each eps and mass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", help="vectors (.npy) instead of the demo's")
    parser.add_argument("--target", help="vectors (.npy) instead of the demo's")
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--m", type=int, default=1000)
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--eps", type=float, nargs="+", default=[0.05, 0.02, 0.01], help="times the mean cost")
    parser.add_argument("--mass", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    options = parser.parse_args()
    pool = np.load(options.pool, mmap_mode="r") if options.pool else demo_vectors("pool", CACHE)
    y = np.load(options.target) if options.target else demo_vectors("target_mix", CACHE)
    pool = pool[: options.n] if options.pool else drawn(pool, options.n, pool.shape[1], 0).astype(np.float16)
    y = y[: options.m] if options.target else drawn(y, options.m, y.shape[1], 1)
    target = Target(np.ascontiguousarray(y, np.float32), np.full(len(y), 1 / len(y)))
    backend, cost, rows = CpuBackend(options.threads), Cost(), Rows.whole([pool], options.k)
    scale = measure_scale(rows.sample(2048, np.random.default_rng(0)).shards[0], target, cost)
    print(f"n {rows.n}, m {len(y)}, d {rows.d}, k {options.k}, {options.threads} threads; mean cost {scale.mean:.3f}")
    print("eps/mean  mass  full  error     seconds  work  converged")
    for relative in options.eps:
        for mass in options.mass:
            eps = relative * scale.mean
            began = time.perf_counter()
            task = Task(rows, target, cost, scale, eps, mass)
            solution = solve(task, backend)
            seconds = time.perf_counter() - began
            began = time.perf_counter()
            g = solution.potentials.g
            swept = backend.sweep(rows.shards, target, g, task.box(), eps=eps, cost=cost)
            sweep_seconds = time.perf_counter() - began
            error = float(np.abs(swept.q - target.b).sum())
            evidence = solution.potentials.evidence
            print(
                f"{relative:<8g}  {mass:<4g}  {evidence.full_sweeps:<4d}  {error:.1e}  {seconds:7.2f}  "
                f"{seconds / sweep_seconds:5.1f}  {evidence.converged}",
                flush=True,
            )


if __name__ == "__main__":
    main()
