"""Vectors for benches/gpu.py, made on the GPU where there is one: clustered unit vectors, the same in every process.

Clusters and a heavy tail of targets, because flat random data lets a wrong softmax pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 1 << 18
_CLUSTERS = 64


@dataclass(frozen=True)
class Data:
    """A pool x (n, d) float16 and a target y (m, d) float32 on the host, and eps: half the spread of a row's costs."""

    x: torch.Tensor
    y: torch.Tensor
    eps: float


def make(n: int, m: int, d: int, device: str = "cuda") -> Data:
    """Return n pool rows and m targets of d dimensions."""
    source = torch.Generator(device).manual_seed(n + m + d)
    centres = torch.randn(_CLUSTERS, d, device=device, generator=source)
    x = torch.empty(n, d, dtype=torch.float16)
    for first in range(0, n, _BLOCK):
        x[first : first + _BLOCK] = _clustered(centres, min(_BLOCK, n - first), source).half().cpu()
    y = _clustered(centres[: _CLUSTERS // 4], m, source)
    sample = x[:2048].to(device).float()
    eps = 0.5 * math.sqrt(float((2 - 2 * sample @ y.T).var(dim=1).mean()))
    return Data(x, y.cpu(), eps)


def _clustered(centres: torch.Tensor, count: int, source: torch.Generator) -> torch.Tensor:
    which = torch.randint(len(centres), (count,), device=centres.device, generator=source)
    noise = torch.randn(count, centres.shape[1], device=centres.device, generator=source)
    return torch.nn.functional.normalize(centres[which] + 1.5 * noise)


def marginal_error(data: Data, g: torch.Tensor, device: str = "cuda") -> float:
    """Return sum_j |q_j - 1/m| at potentials g (m,), in float64: the outside judge of all solvers."""
    n, m = len(data.x), len(data.y)
    y, q = data.y.to(device).double(), torch.zeros(m, dtype=torch.float64, device=device)
    g = g.to(device).double()
    for x in _blocks(data.x, max(1, (1 << 28) // m)):
        rows = torch.nn.functional.normalize(x.to(device).double())
        q += torch.softmax((g - (2 - 2 * rows @ y.T)) / data.eps, dim=1).sum(dim=0) / n
    return float((q - 1 / m).abs().sum())


def soft_minimum(data: Data, g: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return f of some rows (s,) at g (m,) in float64."""
    x = torch.nn.functional.normalize(data.x[rows].double())
    costs = 2 - 2 * x @ data.y.double().T
    return -data.eps * (torch.logsumexp((g.double() - costs) / data.eps, dim=1) - math.log(len(g)))


def _blocks(x: torch.Tensor, rows: int) -> Iterator[torch.Tensor]:
    for first in range(0, len(x), rows):
        yield x[first : first + rows]
