"""The GPU: the sweep at the tensor cores' speed, with sums in a fixed order.

A pool that fits stays on the device from sweep to sweep, if its arrays are read-only; others are streamed through it,
copies and products side by side. How many rows are multiplied at a time follows from the free memory. Totals are made
of fixed spans of the pool (`backends.parts`), of which several devices take some each.

What is promised: the same call on devices of one kind gives the same bits, however many they are and however the rows
are cut into shards, as long as they are of one type; equal rows give equal f wherever they stand. Totals are float64 in
the order of the rows. Other numbers of rows at a time, which free memory decides, and other kinds of device or
libraries, may round the products' float32 sums otherwise.
"""

from __future__ import annotations

import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import _native
from gapsel.backends import checks
from gapsel.backends.gpu.job import Job
from gapsel.backends.gpu.kept import Kept
from gapsel.backends.gpu.operands import Form
from gapsel.backends.gpu.rows import gather
from gapsel.backends.gpu.span import Pace, Span, dealt, span_rows, spans
from gapsel.backends.gpu.strip import SEGMENT_ROWS
from gapsel.backends.parts import Part, added, swept
from gapsel.errors import DeviceError, GapselError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from gapsel.backends.gpu.device import Device
    from gapsel.records import Query, Sweep, Target


class GpuBackend:
    """The two verbs on GPUs: all that CUDA shows, or the ``devices`` given.

    Each is examined before its first sweep: a small problem against the float64 reference. Shards may be NumPy arrays,
    or arrays of CuPy, torch or another library that speaks DLPack, in one GPU's memory; those are read where they lie,
    on the caller's current CuPy stream. ``trusted`` leaves out the examination, ``fused`` False the kernels that do the
    whole product stage at once, where the device has such.
    """

    name = "gpu"
    resolution = 3e-7  # a mean of float32 costs

    def __init__(self, devices: Sequence[Device] | None = None, *, trusted: bool = False, fused: bool = True) -> None:
        """Look for devices. Raises DeviceError if there is none, MissingDependencyError without CuPy."""
        if devices is None:
            from gapsel.backends.gpu.cupy_device import all_devices

            devices = all_devices()
        self._kept = [Kept(device) for device in devices]
        self._trusted, self._fused = trusted, fused

    @property
    def keeper(self) -> None:
        """Nobody: a look at vectors costs little here."""
        return

    @property
    def devices(self) -> list[Device]:
        """The devices in use."""
        return [kept.device for kept in self._kept]

    @property
    def identity(self) -> str:
        """The kinds of device."""
        return " ".join([self.name, *sorted({device.facts.name for device in self.devices})])

    def examine(self) -> None:
        """Compare each device with the reference, once. Raises DeviceError if one disagrees."""
        if self._trusted:
            return
        from gapsel.backends import selftest

        for device in self.devices:
            selftest.examine(GpuBackend([device], trusted=True, fused=False), selftest.CASES)
            if self._fused and device.fused is not None:
                self._examine_fused(device)
        self._trusted = True

    def sweep(self, shards: Sequence[Any], query: Query) -> Sweep:
        """Read the pool once; see Backend.sweep. Raises DeviceError if a GPU fails."""
        return swept(self.part(shards, query))

    def part(self, shards: Sequence[Any], query: Query, first: int = 0, n: int | None = None) -> Part:
        """Read one span of a pool: the shards are its rows from ``first`` on, of ``n`` in all (None: they are all).

        The query's box and outputs are those of the span's rows. Raises DeviceError if a GPU fails.
        """
        self.examine()
        keep, cost = checks.check_target(query.target, query.g), query.cost
        pool = gather(shards, query.target.y.shape[1], self.devices, first)
        n = pool.rows.stop if n is None else n
        checks.check_query(query, len(pool.rows), n)
        # Distances are taken exactly: their root magnifies what rough products round off.
        bears = cost.kind != "euclidean" and (cost.normalize or cost.kind == "cosine")
        query, form = replace(query, rough=query.rough and bears), Form.of(pool.dtypes, cost, pool.d)
        span = span_rows(n, len(keep) if query.gram else 0)
        return added(self._run(Job(pool, n, span, query, keep, form, self._fused)), query.k)

    def span_rows(self, target: Target, n: int, *, gram: bool = False, rough: bool = False) -> int:
        """Return how many rows each span of a pool of n rows has, but for a shorter last one."""
        del rough
        return span_rows(n, int(np.count_nonzero(target.b)) if gram else 0)

    def topk(self, values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Return the rows of the k lowest values, in order of (value, row)."""
        # They lie on the host, where the Rust core needs less time than the way to the device and back.
        return _native.topk(np.ascontiguousarray(values, np.float32), k)

    @staticmethod
    def _examine_fused(device: Device) -> None:
        """Do without the kernels that do the whole product stage if they fail or disagree, and say so."""
        from gapsel.backends import selftest

        try:
            device.try_fused()
            selftest.examine(GpuBackend([device], trusted=True), selftest.FUSED_CASES)
        except DeviceError as error:
            device.refuse_fused()
            message = f"the kernel made for the GPU ({device.facts.name}) is left out; the portable ones do. {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=4)

    def _run(self, job: Job) -> Iterable[Part]:
        """Sweep all spans, each device its own, and return what they give in their order."""
        kept = [one for one in self._kept if job.pool.device in (None, one.device)]
        shares = dealt(spans(job.pool.rows, job.span), len(kept))
        if len(shares) == 1:
            return _parts(job, kept[0], shares[0])
        with ThreadPoolExecutor(len(shares)) as threads:
            running = [threads.submit(_parts, job, one, share) for one, share in zip(kept, shares, strict=False)]
            return list(chain.from_iterable(share.result() for share in running))


def gpus() -> list[str]:
    """Return the names of the GPUs that can be used, none without CuPy."""
    try:
        return [device.facts.name for device in GpuBackend().devices]
    except GapselError:
        return []


def _parts(job: Job, kept: Kept, share: Sequence[range]) -> list[Part]:
    """Sweep spans; where memory runs out, let go of what is kept, then halve the rows at a time, and go on."""
    rows, done = range(share[0].start, share[-1].stop), list[Part]()
    with kept.device.current():
        most, cleared = sys.maxsize, False
        while True:
            pace = None
            try:
                preparation = kept.preparation(job)
                held = None if cleared else kept.pool(job, preparation, rows)
                pace = Pace.of(job, preparation).at_most(most)
                for span in share[len(done) :]:
                    own = slice(span.start - rows.start, span.stop - rows.start)
                    done.append(Span(job, span, preparation, pace).run(None if held is None else held[own]))
            except MemoryError as error:
                if cleared and (pace is None or pace.rows <= SEGMENT_ROWS):
                    raise _too_small(job, kept.device) from error
            else:
                return done
            if pace is not None:
                most = max(SEGMENT_ROWS, pace.rows // 2 // SEGMENT_ROWS * SEGMENT_ROWS)
            kept.clear()
            cleared = True


def _too_small(job: Job, device: Device) -> DeviceError:
    free = device.free_memory() / 2**30
    return DeviceError(
        f"the GPU ({device.facts.name}) has {free:.2f} GiB free, too little to multiply {SEGMENT_ROWS} rows of the "
        f"pool with {len(job.keep):,} targets: free some of it, or take --backend cpu"
    )
