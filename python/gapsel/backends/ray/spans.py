"""What a worker does: one span of the pool after another, by the Rust core or on a GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.backends.cpu import CpuBackend
from gapsel.backends.ray.cluster import fetched
from gapsel.backends.ray.rows import in_files, opened
from gapsel.records import OUTPUTS, Box, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.backends.gpu import GpuBackend
    from gapsel.backends.parts import Part
    from gapsel.backends.ray.rows import MappedRows, Message
    from gapsel.records import Query

# Pieces of files that stay open at most.
_OPEN = 4096
# Stands where each span has a box of its own.
_ANY = Box.fixed(0.0)


@dataclass(frozen=True, slots=True)
class Job:
    """What all spans of a sweep of n rows have in common: a ``query`` without y, box and outputs.

    These travel by themselves: y once for many sweeps, each span's rows of the others with the span. ``outputs`` names
    those that are wanted.
    """

    query: Query
    n: int
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, query: Query, n: int) -> Job:
        """Leave out what travels by itself."""
        none: dict[str, Any] = dict.fromkeys(OUTPUTS)
        target = replace(query.target, y=query.target.y[:0])
        return cls(replace(query, target=target, box=_ANY, **none), n, tuple(query.outputs))

    def of_span(self, y: NDArray[np.float32], box: Box, rows: int) -> Query:
        """Return what is asked of a span, with room for its outputs."""
        outputs: dict[str, Any] = {name: np.empty(rows, OUTPUTS[name]) for name in self.outputs}
        return replace(self.query, target=Target(y, self.query.target.b), box=box, **outputs)


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
        """Return what the span gives, and its outputs in the order of Query."""
        job: Job = self._last("job", span.job)
        shards = self._opened(span.rows)
        query = job.of_span(self._last("y", span.y), span.box, sum(map(len, shards)))
        return self._backend.part(shards, query, span.first, job.n), tuple(query.outputs.values())

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
