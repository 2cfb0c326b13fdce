"""What a worker does: one span of the pool after another, by the Rust core or on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.backends.cpu import CpuBackend
from gapsel.backends.ray.cluster import fetched
from gapsel.backends.ray.rows import in_files, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.backends.gpu import GpuBackend
    from gapsel.backends.parts import Part
    from gapsel.backends.ray.rows import MappedRows, Message
    from gapsel.records import Box, Cost, Target

_KINDS = {"f": np.float32, "hard": np.float32, "nearest": np.int32}
# Pieces of files that stay open at most.
_OPEN = 4096


@dataclass(frozen=True, slots=True)
class Job:
    """What all spans of a sweep have in common; ``wanted`` names the outputs, see Backend.sweep."""

    target: Target
    g: NDArray[np.float64]
    eps: float
    cost: Cost
    n: int
    gram: bool
    k: int
    rough: bool
    wanted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """One span: the job's reference, the number of its first row, where its rows lie, and their box."""

    job: list[Any]
    first: int
    rows: Message
    box: Box


class Sweeper:
    """Sweeps spans; of files the arrays are the same each time, so that a GPU backend can keep what it has of them."""

    def __init__(self, backend: CpuBackend | GpuBackend) -> None:
        self._backend, self.identity = backend, backend.identity
        self._job: tuple[list[Any], Job] | None = None
        self._open: dict[tuple[MappedRows, ...], list[NDArray[np.floating]]] = {}

    def __call__(self, span: Span) -> tuple[Part, tuple[NDArray[Any], ...]]:
        """Return what the span gives, and its outputs in the order they were named."""
        job, shards = self._known(span.job), self._opened(span.rows)
        outputs = {name: np.empty(sum(map(len, shards)), _KINDS[name]) for name in job.wanted}
        part = self._backend.part(
            shards, job.target, job.g, span.box,
            eps=job.eps, cost=job.cost, first=span.first, n=job.n, gram=job.gram, k=job.k, rough=job.rough, **outputs,
        )  # fmt: skip
        return part, tuple(outputs.values())

    def _known(self, reference: list[Any]) -> Job:
        if self._job is None or self._job[0] != reference:
            self._job = reference, fetched(reference)
        return self._job[1]

    def _opened(self, message: Message) -> list[NDArray[np.floating]]:
        files = in_files(message)
        if files is None:
            return opened(message)
        for rows in files:
            rows.check()
        self._open[files] = self._open.pop(files, []) or opened(message)
        if len(self._open) > _OPEN:
            del self._open[next(iter(self._open))]
        return self._open[files]


def on_processors(isa: str, threads: int) -> Sweeper:
    """Return what sweeps with ``threads`` threads by an instruction set."""
    return Sweeper(CpuBackend(threads, isa))


def on_gpu(backend: Callable[[], GpuBackend], _threads: int) -> Sweeper:
    """Return what sweeps on the GPU that Ray gave this process. Raises DeviceError if that does not calculate right."""
    found = backend()
    found.examine()
    return Sweeper(found)
