"""The Rust core: every row of the pool on the cores of this machine."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import _native
from gapsel.backends.parts import Part, swept
from gapsel.backends.shards import readable
from gapsel.errors import UsageError
from gapsel.records import Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.records import KeptPlan, Query, Sweep


class CpuBackend:
    """The two verbs on this machine's cores; ``threads`` 0 means all that the process may use.

    ``isa`` is one of ``gapsel._native.isas()``, or None for the best; the environment variable GAPSEL_ISA stands in
    for None. A name stands for what may be used: rough sweeps multiply bfloat16 under "amx" and "avx512bf16".
    On one instruction set, neither the number of threads nor the cut into shards changes a bit of a result.
    """

    name = "cpu"
    resolution = 3e-7  # a mean of float32 costs

    def __init__(self, threads: int = 0, isa: str | None = None) -> None:
        """Check the settings; threads start with the first sweep."""
        isa = isa or os.environ.get("GAPSEL_ISA") or None
        if isa is not None and isa not in _native.isas():
            msg = f"instruction set {isa!r} is unknown or not available here: choose one of {', '.join(_native.isas())}"
            raise UsageError(msg)
        if threads < 0:
            msg = f"threads is {threads}: give a positive number, or 0 for all cores"
            raise UsageError(msg)
        self.threads, self.isa = threads, isa

    @property
    def identity(self) -> str:
        """The instruction set."""
        return f"{self.name} {self.instructions}"

    @property
    def keeper(self) -> CpuBackend:
        """Itself."""
        return self

    @property
    def instructions(self) -> str:
        """The instruction set in use."""
        return self.isa or _native.isas()[0]

    @property
    def multiplies_bfloat16(self) -> bool:
        """Whether a rough sweep differs from an exact one here."""
        return self.instructions in _native.isas(rough=True)

    def sweep(self, shards: Sequence[NDArray[np.floating]], query: Query) -> Sweep:
        """Read the pool once; see Backend.sweep."""
        return swept(self.part(shards, query))

    def part(self, shards: Sequence[NDArray[np.floating]], query: Query, first: int = 0, n: int | None = None) -> Part:
        """Read one span of a pool: the shards are its rows from ``first`` on, of ``n`` in all (None: they are all).

        The query's box and outputs are those of the span's rows. Raises UsageError unless the rows are the whole pool
        or begin at a multiple of `span_rows` and are as many, or up to the pool's end.
        """
        arrays = [readable(shard, index) for index, shard in enumerate(shards)]
        return Part(*_native.sweep(arrays, _laid_out(query), first=first, n=n, threads=self.threads, isa=self.isa))

    def sweep_kept(self, kept: KeptPlan, query: Query) -> Sweep:
        """Look at a kept plan; see Backend.sweep_kept."""
        return swept(Part(*_native.sweep_kept(kept, _laid_out(query), threads=self.threads, isa=self.isa)))

    def span_rows(self, target: Target, n: int, *, gram: bool = False, rough: bool = False) -> int:
        """Return how many rows each span of a pool of n rows has, but for a shorter last one."""
        columns = int(np.count_nonzero(target.b))
        return _native.span_rows(columns, n, gram=gram, rough=rough, isa=self.isa)

    def topk(self, values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Return the rows of the k lowest values, in order of (value, row)."""
        return _native.topk(np.ascontiguousarray(values, np.float32), k)


def _laid_out(query: Query) -> Query:
    """Return the query with arrays in one piece and of the types that the core reads."""
    target, box = query.target, query.box
    return replace(
        query,
        target=Target(np.ascontiguousarray(target.y, np.float32), np.ascontiguousarray(target.b, np.float64)),
        g=np.ascontiguousarray(query.g, np.float64),
        box=replace(box, lo=_per_row(box.lo), hi=_per_row(box.hi), price=_per_row(box.price)),
    )


def _per_row(value: float | NDArray[Any]) -> float | NDArray[Any]:
    if np.ndim(value) == 0:
        return float(value)
    single = isinstance(value, np.ndarray) and value.dtype == np.float32
    return np.ascontiguousarray(value, np.float32 if single else np.float64)
