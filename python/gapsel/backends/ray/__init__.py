"""A cluster: the two verbs on many machines, by Ray, with the bits of one.

The pool is swept span by span (`backends.parts`) by workers, one on each machine or one on each GPU, and what they give
is added up here in the order of the rows; so neither their number nor who swept what changes a bit. What crosses the
network for a sweep is g and b to the workers, and for each span an m-vector back, a Gram and a list of the lowest f if
asked for, and four bytes for each row of an output. y is sent once, if it is read-only. Vectors in files are read where
they lie by every machine that sees the files; others are handed out once, through Ray's object store.

    cluster.py  joining a cluster, or starting one here     crew.py, work.py    the workers, and what they are at
    rows.py     how rows of the pool travel                 spans.py            what a worker does with a span
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gapsel.backends import checks
from gapsel.backends.cpu import CpuBackend
from gapsel.backends.gpu import GpuBackend
from gapsel.backends.gpu import span as gpu_span
from gapsel.backends.parts import Part, added, swept
from gapsel.backends.ray import cluster
from gapsel.backends.ray.crew import Crew
from gapsel.backends.ray.rows import Pool, UnseenError
from gapsel.backends.ray.spans import Job, Span, on_gpu, on_processors
from gapsel.backends.shards import readable
from gapsel.errors import DataError, DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from gapsel.records import Query, Sweep, Target

# Fewer rows are swept here, by processors: they are not worth the way.
FEW_ROWS = 16384
# Pools that are known at a time: all of it, and the sample or shortlist that the solver is at.
_POOLS = 2


class RayBackend:
    """The two verbs on a cluster: the one at RAY_ADDRESS, or a Ray started on this machine for as long as it is needed.

    ``threads`` are those of each worker, 0 for all processors of its machine; samples and shortlists are swept by this
    process. All machines multiply as this one does, by its instruction set; with one that lacks it a sweep raises
    UsageError, and GAPSEL_ISA names one that all have.

    With ``gpus``, the share of a GPU that each worker takes, GPUs sweep whatever there is to sweep, each examined
    first; those of another kind than the first to answer are left out. Raises ResourceError where the cluster cannot be
    reached, MissingDependencyError without Ray, DeviceError where GPUs are asked for and there are none.
    """

    name = "ray"
    resolution = max(CpuBackend.resolution, GpuBackend.resolution)

    def __init__(self, threads: int = 0, gpus: float = 0.0) -> None:
        """Join the cluster, or start one; its workers start with the first sweep of a pool."""
        self._here, self._gpus = CpuBackend(threads), gpus
        cluster.join()
        if gpus and not cluster.has_gpus():
            msg = "no machine of the Ray cluster has a GPU: add one (ray start --num-gpus), or leave out --backend gpu"
            raise DeviceError(msg)
        make = partial(on_gpu, GpuBackend) if gpus else partial(on_processors, self._here.instructions)
        self._crew: Crew[Span, Swept] = Crew(make, threads, gpus)
        self._pools: list[Pool] = []
        self._y: cluster.Shared[NDArray[np.float32]] | None = None

    @property
    def identity(self) -> str:
        """That of one machine: the bits are the same."""
        return self._crew.identity() if self._gpus else self._here.identity

    @property
    def keeper(self) -> CpuBackend | None:
        """This process, but for a cluster of GPUs: the rows of a plan that is kept are few."""
        return None if self._gpus else self._here

    def sweep(self, shards: Sequence[NDArray[np.floating]], query: Query) -> Sweep:
        """Read the pool once; see Backend.sweep. Raises ResourceError where workers die again and again."""
        if not self._gpus and sum(len(shard) for shard in shards) < FEW_ROWS:
            return self._here.sweep(shards, query)
        target, pool = query.target, self._known(shards, query.target)
        checks.check_target(target, query.g)
        checks.check_query(query, pool.n, pool.n)
        spans = gpu_span.spans(range(pool.n), self._span_rows(target, pool.n, gram=query.gram, rough=query.rough))
        told = cluster.Shared(Job.of(query, pool.n)), self._sent(target.y)
        return swept(added(self._parts(pool, told, spans, query), query.k))

    def topk(self, values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Return the rows of the k lowest values, in order of (value, row)."""
        return self._here.topk(values, k)

    def _known(self, shards: Sequence[NDArray[np.floating]], target: Target) -> Pool:
        """Return the pool, one of those before if it is still that."""
        self._pools = [pool for pool in self._pools if pool.is_still(pool.shards)]
        known = next((pool for pool in self._pools if pool.is_still(shards)), None)
        if known is None:
            arrays = [readable(shard, index) for index, shard in enumerate(shards)]
            _check_widths(arrays, target.y.shape[1])
            known = Pool(arrays, self._span_rows(target, sum(map(len, arrays))))
        self._pools = [*(pool for pool in self._pools if pool is not known), known][-_POOLS:]
        return known

    def _sent(self, y: NDArray[np.float32]) -> cluster.Shared[NDArray[np.float32]]:
        """Return y as it was sent before, if it is that and nobody can have written to it."""
        if self._y is None or self._y.value is not y or y.flags.writeable:
            self._y = cluster.Shared(y)
        return self._y

    def _span_rows(self, target: Target, n: int, *, gram: bool = False, rough: bool = False) -> int:
        if self._gpus:
            return gpu_span.span_rows(n, int(np.count_nonzero(target.b)) if gram else 0)
        return self._here.span_rows(target, n, gram=gram, rough=rough)

    def _parts(
        self,
        pool: Pool,
        told: tuple[cluster.Shared[Job], cluster.Shared[NDArray[np.float32]]],
        spans: Sequence[range],
        query: Query,
    ) -> Iterator[Part]:
        """Yield what the spans give, in their order, and write their share of the outputs."""
        job, y = told

        def item(rows: range) -> Callable[[], Span]:
            part = query.box.at(slice(rows.start, rows.stop))
            return lambda: Span(job.reference(), y.reference(), rows.start, pool.message(rows), part)

        def again(error: Exception) -> bool:
            if isinstance(error, UnseenError):
                pool.hand_out()
                return True
            if cluster.is_loss(error):
                for what in (pool, job, y):
                    what.forget()
                return True
            return False

        for rows, (part, found) in zip(spans, self._crew.map(map(item, spans), again), strict=True):
            for out, values in zip(query.outputs.values(), found, strict=True):
                out[rows.start : rows.stop] = values
            yield part


Swept = tuple[Part, tuple["NDArray[np.generic]", ...]]


def _check_widths(shards: Sequence[NDArray[np.floating]], d: int) -> None:
    for index, shard in enumerate(shards):
        if shard.shape[1:] != (d,):
            msg = (
                f"shard {index} has {shard.shape[-1]} dimensions, the target has {d}: both must come from one embedder"
            )
            raise DataError(msg)
