"""Other solvers on a GPU, one in each process: seconds to a marginal error, which benches/gpu.py asks for.

    python benches/gpu_rivals.py ENGINE N M D

prints a JSON line for each goal. Pool and target lie on the device before the clock starts, compilation and tuning for
the shape come before it too, and effort doubles until the outside judge says that the goal is reached. The pool's unit
vectors are those that gapsel gets, in float32.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import gpu_data
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    Solve = Callable[[int], torch.Tensor]

GOALS = (1e-2, 1e-3)
# No engine is started when less is left.
LEAST_SECONDS = 15.0
_MOST = 1 << 12


def flash_sinkhorn(data: gpu_data.Data, x: torch.Tensor, y: torch.Tensor, *, tf32: bool) -> Solve:
    """flash-sinkhorn, alternating updates; its potentials leave the weights inside the logarithm, as ours do."""
    from flash_sinkhorn.samples_loss import sinkhorn_flashstyle_alternating

    a, b = _weights(x), _weights(y)

    def solve(effort: int) -> torch.Tensor:
        _, g = sinkhorn_flashstyle_alternating(
            x, y, a, b, eps=data.eps, n_iters=effort, allow_tf32=tf32, threshold=None
        )
        found: torch.Tensor = g
        return found

    return solve


def geomloss(data: gpu_data.Data, x: torch.Tensor, y: torch.Tensor) -> Solve:
    """GeomLoss on KeOps: its symmetric loop, all steps at eps; its cost is |x - y|^2 / 2."""
    from geomloss import SamplesLoss

    blur, wide = math.sqrt(data.eps / 2), 1.0001
    a, b = _weights(x), _weights(y)

    def solve(effort: int) -> torch.Tensor:
        solver = SamplesLoss(
            "sinkhorn", blur=blur, diameter=wide * blur, scaling=wide ** (-1 / effort), debias=False, potentials=True,
            backend="online",
        )  # fmt: skip
        found: torch.Tensor = 2.0 * solver(a, x, b, y)[1].reshape(-1)
        return found

    return solve


def ott(data: gpu_data.Data, x: torch.Tensor, y: torch.Tensor, *, rows: int | None) -> Solve:
    """OTT-JAX with momentum 1.3; ``rows`` of costs at a time, or all."""
    import jax
    from ott.geometry import pointcloud
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import acceleration, sinkhorn

    places = [jax.numpy.asarray(side.cpu().numpy()) for side in (x, y)]

    def potentials(solver: Any, x: Any, y: Any) -> Any:  # noqa: ANN401 - JAX arrays
        space = pointcloud.PointCloud(x, y, epsilon=data.eps, batch_size=rows)
        return solver(linear_problem.LinearProblem(space)).g

    compiled: dict[int, Any] = {}

    def solve(effort: int) -> torch.Tensor:
        if effort not in compiled:
            solver = sinkhorn.Sinkhorn(
                threshold=0.0, inner_iterations=effort, min_iterations=effort, max_iterations=effort,
                momentum=acceleration.Momentum(value=1.3),
            )  # fmt: skip
            compiled[effort] = jax.jit(lambda x, y: potentials(solver, x, y)).lower(*places).compile()
        return torch.from_numpy(jax.numpy.asarray(compiled[effort](*places)).__array__().copy())

    return solve


def dense(data: gpu_data.Data, x: torch.Tensor, y: torch.Tensor) -> Solve:
    """Torch alone: the whole matrix in float32 and Sinkhorn in the logarithm, what people write themselves."""

    def solve(effort: int) -> torch.Tensor:
        costs = 2 - 2 * x @ y.T
        g = torch.zeros(len(y), device=x.device)
        for _ in range(effort):
            f = -data.eps * (torch.logsumexp((g - costs) / data.eps, dim=1) - math.log(len(y)))
            g = -data.eps * (torch.logsumexp((f[:, None] - costs) / data.eps, dim=0) - math.log(len(x)))
        return g

    return solve


# In the order in which they are measured, while there is time.
ENGINES: dict[str, Callable[[gpu_data.Data, torch.Tensor, torch.Tensor], Solve]] = {
    "flash-sinkhorn, TF32": partial(flash_sinkhorn, tf32=True),
    "GeomLoss, KeOps": geomloss,
    "OTT-JAX": partial(ott, rows=None),
    "torch, dense": dense,
    "flash-sinkhorn, float32": partial(flash_sinkhorn, tf32=False),
    "OTT-JAX, online": partial(ott, rows=2048),
}


def _weights(x: torch.Tensor) -> torch.Tensor:
    return torch.full((len(x),), 1 / len(x), device=x.device)


def timed(solve: Solve, effort: int) -> tuple[float, torch.Tensor]:
    """Return the seconds of the better of two calls, and what they found."""
    solve(effort)
    seconds = []
    for _ in range(2):
        _wait()
        began = time.perf_counter()
        g = solve(effort)
        _wait()
        seconds.append(time.perf_counter() - began)
    return min(seconds), g


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(name: str, data: gpu_data.Data, device: str = "cuda") -> list[dict[str, Any]]:
    """Return seconds and effort for each goal, as far as there is one that reaches it."""
    x = torch.nn.functional.normalize(data.x.to(device).float())
    solve = ENGINES[name](data, x, data.y.to(device))
    found, effort = [], 2
    for goal in GOALS:
        while (error := gpu_data.marginal_error(data, solve(effort), device)) > goal and effort < _MOST:
            effort *= 2
        if not error <= goal:
            break
        seconds, _ = timed(solve, effort)
        found.append({"goal": goal, "seconds": seconds, "steps": effort, "error": error})
        print(json.dumps(found[-1]), flush=True)
    return found


def run(name: str, sizes: tuple[int, int, int], limit: float) -> tuple[list[dict[str, Any]], str]:
    """Measure one engine in a process of its own; return what it reached, and how it ended if not well."""
    if limit < LEAST_SECONDS:
        return [], "there was no time left for it"
    command = [sys.executable, __file__, name, *map(str, sizes)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)  # noqa: S603 (itself)
        out, why = done.stdout, "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1:]
    except subprocess.TimeoutExpired as late:
        out, why = late.stdout or "", [f"stopped after {limit:.0f} s"]
    text = out.decode() if isinstance(out, bytes) else out
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"goal"')]
    return lines, "".join(why)


def main() -> None:
    """Measure one engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=list(ENGINES))
    parser.add_argument("sizes", type=int, nargs=3, help="rows, targets, dimensions")
    args = parser.parse_args()
    # Else JAX takes three quarters of the device for itself before it is asked for anything.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    measure(args.engine, gpu_data.make(*args.sizes))


if __name__ == "__main__":
    main()
