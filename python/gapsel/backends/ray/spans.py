"""What a worker does: one span of the pool after another, by the Rust core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.backends.cpu import CpuBackend
from gapsel.backends.ray.cluster import fetched
from gapsel.backends.ray.rows import opened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends.parts import Part
    from gapsel.backends.ray.rows import Message
    from gapsel.records import Box, Cost, Target

_KINDS = {"f": np.float32, "hard": np.float32, "nearest": np.int32}


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
    """Sweeps spans with ``threads`` threads by an instruction set."""

    def __init__(self, isa: str, threads: int) -> None:
        self._backend = CpuBackend(threads, isa)
        self._job: tuple[list[Any], Job] | None = None

    def __call__(self, span: Span) -> tuple[Part, tuple[NDArray[Any], ...]]:
        """Return what the span gives, and its outputs in the order they were named."""
        job, shards = self._known(span.job), opened(span.rows)
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
