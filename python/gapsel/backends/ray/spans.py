"""What a worker does: one span of the pool after another, by the Rust core or on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.backends.cpu import CpuBackend
from gapsel.backends.ray.cluster import fetched
from gapsel.backends.ray.rows import in_files, opened
from gapsel.records import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.backends.gpu import GpuBackend
    from gapsel.backends.parts import Part
    from gapsel.backends.ray.rows import MappedRows, Message
    from gapsel.records import Box, Cost

_KINDS = {"f": np.float32, "hard": np.float32, "nearest": np.int32}
# Pieces of files that stay open at most.
_OPEN = 4096


@dataclass(frozen=True, slots=True)
class Job:
    """What all spans of a sweep have in common, but for y; ``wanted`` names the outputs, see Backend.sweep."""

    b: NDArray[np.float64]
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
    """One span: the references of the job and of y, the number of its first row, where its rows lie, and their box."""

    job: list[Any]
    y: list[Any]
    first: int
    rows: Message
    box: Box


class Sweeper:
    """Sweeps spans; of files the arrays are the same each time, so that a GPU backend can keep what it has of them."""

    def __init__(self, backend: CpuBackend | GpuBackend) -> None:
        self._backend, self.identity = backend, backend.identity
        self._known: dict[str, tuple[list[Any], Any]] = {}
        self._open: dict[tuple[MappedRows, ...], list[NDArray[np.floating]]] = {}

    def __call__(self, span: Span) -> tuple[Part, tuple[NDArray[Any], ...]]:
        """Return what the span gives, and its outputs in the order they were named."""
        job: Job = self._last("job", span.job)
        target, shards = Target(self._last("y", span.y), job.b), self._opened(span.rows)
        outputs = {name: np.empty(sum(map(len, shards)), _KINDS[name]) for name in job.wanted}
        part = self._backend.part(
            shards, target, job.g, span.box,
            eps=job.eps, cost=job.cost, first=span.first, n=job.n, gram=job.gram, k=job.k, rough=job.rough, **outputs,
        )  # fmt: skip
        return part, tuple(outputs.values())

    def _last(self, name: str, reference: list[Any]) -> Any:  # noqa: ANN401 - whatever was put there
        """Return what a reference means, fetched once."""
        if name not in self._known or self._known[name][0] != reference:
            self._known[name] = reference, fetched(reference)
        return self._known[name][1]

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
