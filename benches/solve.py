"""How many sweeps the solver needs at each mass and eps, what it costs in sweeps' time, how soon the choice stands.

Vectors are real: ready-made ones by --pool and --target, else the demo's documents, embedded once; drawn again with
jitter where there are fewer than asked for. "full" counts sweeps of the whole pool, those at mass 0 included that come
before another mass; "samples", "lists" and "work" are the time in samples, on shortlists, and in all, in units of one
exact sweep measured in the same run. "error" is the marginal error, by a sweep of its own. "overlap" is the share of
the k lowest f at each full sweep of this mass that the k lowest of a solution to 1e-5 have. With --cold a mass above 0
is solved a second time without shortlists, with --ranking for the choice alone, whose overlap is the last, and with
--from-k from the solution for another k. --detail adds "reads", all rows looked at, in pools, and "errors", the
marginal error at each full sweep of this mass.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np

from gapsel.backends.cpu import CpuBackend
from gapsel.bench.cases import demo_vectors, drawn
from gapsel.cost import measure_scale
from gapsel.potentials import Rows, Start, Task, boxed, solve
from gapsel.potentials.sizes import ListSizes
from gapsel.records import Cost, Query, Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gapsel.potentials import Solution
    from gapsel.records import Sweep

CACHE = Path(__file__).resolve().parent.parent / "target" / "bench"
CONVERGED = 1e-5
_BLOCK = 50_000


class Watched(CpuBackend):
    """Keeps the k lowest f of every sweep of the whole pool, and whether its row masses were fixed."""

    def __init__(self, threads: int, n: int, k: int) -> None:
        """Watch for sweeps of n rows."""
        super().__init__(threads)
        self.n, self.k = n, k
        self.choices: list[tuple[bool, NDArray[np.int64]]] = []

    def sweep(self, shards: Sequence[NDArray[np.floating]], query: Query) -> Sweep:
        """Read the pool once; see Backend.sweep."""
        if sum(map(len, shards)) < self.n:
            return super().sweep(shards, query)
        f = np.empty(self.n, np.float32) if query.f is None else query.f
        swept = super().sweep(shards, replace(query, f=f))
        self.choices.append((query.box.is_fixed, self.topk(f, self.k)))
        return swept


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
    parser.add_argument("--cold", action="store_true", help="also without shortlists")
    parser.add_argument("--ranking", action="store_true", help="also for the choice alone")
    parser.add_argument("--from-k", type=int, help="also from the solution for this k, at a mass above 0")
    parser.add_argument("--detail", action="store_true", help="rows looked at, and the error at each full sweep")
    options = parser.parse_args()
    pool = _pool(options.pool, options.n)
    y = np.load(options.target) if options.target else demo_vectors("target_mix", CACHE)
    y = drawn(y, options.m, y.shape[1], 1)
    target, cost = Target(y, np.full(len(y), 1 / len(y))), Cost()
    rows = Rows.whole([pool], options.k)
    scale = measure_scale(rows.sample(2048, np.random.default_rng(0)).shards[0], target, cost)
    print(f"n {rows.n}, m {len(y)}, d {rows.d}, k {options.k}, {options.threads} threads; mean cost {scale.mean:.3f}")
    more = "reads  errors  " if options.detail else ""
    print(f"eps/mean  mass  start  full  samples  lists  work  seconds  error    {more}overlap")
    for relative in options.eps:
        for mass in options.mass:
            task = Task(rows, target, cost, scale, relative * scale.mean, mass)
            for start in _starts(options, mass):
                line = _line(task, start, options)
                print(f"{relative:<8g}  {mass:<4g}  {start}   {line}", flush=True)


def _starts(options: argparse.Namespace, mass: float) -> list[str]:
    wanted = {"warm": True, "cold": options.cold and mass > 0, "rank": options.ranking}
    wanted["from"] = options.from_k is not None and mass > 0
    return [start for start, is_wanted in wanted.items() if is_wanted]


def _pool(path: str | None, n: int) -> NDArray[np.float16]:
    """Return n vectors (n, d), made block by block; the first n of a file that has as many."""
    given = np.load(path, mmap_mode="r") if path else demo_vectors("pool", CACHE)
    if path and len(given) >= n:
        return np.asarray(given[:n], np.float16)
    pool = np.empty((n, given.shape[1]), np.float16)
    for seed, first in enumerate(range(0, n, _BLOCK)):
        pool[first : first + _BLOCK] = drawn(given, min(_BLOCK, n - first), given.shape[1], seed)
    return pool


def _line(task: Task, start: str, options: argparse.Namespace) -> str:
    threads, known = options.threads, _known(task, start, options)
    backend = Watched(threads, task.rows.n, task.k)
    began = time.perf_counter()
    solution = _solve(task, backend, start, known)
    seconds = time.perf_counter() - began
    choices = [chosen for fixed, chosen in backend.choices if fixed == (task.mass == 0)]
    choices += [solution.chosen] if solution.chosen is not None else []
    sweep_seconds, error = _sweep(task, solution, CpuBackend(threads))
    of_stage = {name: spent / sweep_seconds for name, spent in _seconds(solution)}
    evidence = solution.potentials.evidence
    detail = _detail(task, solution) if options.detail else ""
    return (
        f"{evidence.full_sweeps:<4d}  {of_stage.get('sample', 0):7.2f}  {of_stage.get('shortlist', 0):5.2f}  "
        f"{seconds / sweep_seconds:4.1f}  {seconds:7.2f}  {error:.1e}  {detail}"
        f"{_overlaps(task, solution, choices, threads)}"
        f"{'' if evidence.converged else '  not converged'}"
    )


def _known(task: Task, start: str, options: argparse.Namespace) -> Start | None:
    """Return the solution for the other k, where that is what is started from."""
    if start != "from":
        return None
    other = replace(task, rows=replace(task.rows, capacity=1.0 / options.from_k))
    found = solve(other, CpuBackend(options.threads))
    return Start(options.from_k, found.potentials.g, found.f, found.potentials.evidence.plain_value)


def _detail(task: Task, solution: Solution) -> str:
    trace = solution.potentials.evidence.trace
    reads = sum(stage.rows for stage in trace) / task.rows.n
    of_pool = [stage for stage in trace if stage.name == "pool" and (stage.mass, stage.eps) == (task.mass, task.eps)]
    return f"{reads:5.1f}  {' '.join(f'{stage.marginal_error:.0e}' for stage in of_pool)}  "


def _solve(task: Task, backend: Watched, start: str, known: Start | None) -> Solution:
    if start != "cold":
        return solve(task, backend, start=known, ranking=start == "rank")
    # A shortlist of all rows is none.
    with mock.patch.object(boxed, "sizes_by_plain", lambda n, *_: ListSizes(n, n, 0)):
        return solve(task, backend)


def _sweep(task: Task, solution: Solution, backend: CpuBackend) -> tuple[float, float]:
    """Return the seconds of one exact sweep at the solution, and the marginal error there."""
    began = time.perf_counter()
    query = Query(task.target, solution.potentials.g, task.box(), task.eps, task.cost)
    swept = backend.sweep(task.rows.shards, query)
    return time.perf_counter() - began, float(np.abs(swept.q - task.target.b).sum())


def _seconds(solution: Solution) -> Iterator[tuple[str, float]]:
    """Yield every stage's name with the seconds up to its last sweep since the last one of another stage."""
    spent: dict[str, float] = {}
    before = 0.0
    for stage in solution.potentials.evidence.trace:
        spent[stage.name] = spent.get(stage.name, 0.0) + stage.seconds - before
        before = stage.seconds
    yield from spent.items()


def _overlaps(task: Task, solution: Solution, choices: list[NDArray[np.int64]], threads: int) -> str:
    closer = Task(task.rows, task.target, task.cost, task.scale, task.eps, task.mass, tolerance=CONVERGED)
    backend = CpuBackend(threads)
    converged = backend.topk(solve(closer, backend, start=solution.potentials.g).f, task.k)
    return " ".join(f"{np.isin(chosen, converged).mean():.4f}" for chosen in choices)


if __name__ == "__main__":
    main()
