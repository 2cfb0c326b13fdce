"""The GPU: the sweep at the tensor cores' speed, with sums in a fixed order.

A pool that fits stays on the device from sweep to sweep, if its arrays are read-only; others are streamed through it,
copies and products side by side. How many rows are multiplied at a time follows from the free memory. Several devices
each take a share of the rows.

What is promised: the same call on the same devices gives the same bits, however the rows are cut into shards, as long
as they are of one type; equal rows give equal f wherever they stand. Totals are float64 in the order of the rows. Other
numbers of rows at a time, which free memory decides, and other devices or libraries, may round the products' float32
sums otherwise, and another number of devices the last digits of float64 totals.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import _native
from gapsel.backends import checks
from gapsel.backends.gpu.job import Job
from gapsel.backends.gpu.kept import Kept
from gapsel.backends.gpu.operands import Form
from gapsel.backends.gpu.rows import gather
from gapsel.backends.gpu.share import Share, cut, rows_at_once
from gapsel.backends.gpu.strip import SEGMENT_ROWS
from gapsel.errors import DeviceError, GapselError
from gapsel.records import Sweep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.backends.gpu.device import Device
    from gapsel.backends.gpu.share import Yield
    from gapsel.records import Box, Cost, Target


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
    def devices(self) -> list[Device]:
        """The devices in use."""
        return [kept.device for kept in self._kept]

    @property
    def identity(self) -> str:
        """The devices."""
        return " ".join([self.name, *(device.facts.name for device in self.devices)])

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

    def sweep(
        self,
        shards: Sequence[Any],
        target: Target,
        g: NDArray[np.float64],
        box: Box,
        *,
        eps: float,
        cost: Cost,
        gram: bool = False,
        k: int = 0,
        rough: bool = False,
        f: NDArray[np.float32] | None = None,
        hard: NDArray[np.float32] | None = None,
        nearest: NDArray[np.int32] | None = None,
    ) -> Sweep:
        """Read the pool once; see Backend.sweep. Raises DeviceError if a GPU fails."""
        self.examine()
        keep = checks.check_target(target, g)
        pool = gather(shards, target.y.shape[1], self.devices)
        checks.check_settings(cost, eps, box.eta, k, pool.n)
        checks.check_box(box, pool.n)
        outputs = {"f": (f, np.float32), "hard": (hard, np.float32), "nearest": (nearest, np.int32)}
        checks.check_outputs(outputs, pool.n)
        # Distances are taken exactly: their root magnifies what rough products round off.
        bears = cost.kind != "euclidean" and (cost.normalize or cost.kind == "cosine")
        job = Job(
            pool, target, keep, g, box, eps, cost, Form.of(pool.dtypes, cost, pool.d), gram, k, rough and bears,
            self._fused,
            {name: out for name, (out, _) in outputs.items()},
        )  # fmt: skip
        return _together(job, self._run(job))

    def topk(self, values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Return the rows of the k lowest values, in order of (value, row)."""
        # They lie on the host, where the Rust core needs less time than the way to the device and back.
        return _native.topk(np.ascontiguousarray(values, np.float32), k)

    @staticmethod
    def _examine_fused(device: Device) -> None:
        """Do without the kernels that do the whole product stage if they disagree with the reference, and say so."""
        from gapsel.backends import selftest

        try:
            selftest.examine(GpuBackend([device], trusted=True), selftest.FUSED_CASES)
        except DeviceError as error:
            device.refuse_fused()
            message = f"the kernel made for the GPU ({device.facts.name}) is left out; the portable ones do. {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=4)

    def _run(self, job: Job) -> list[Yield]:
        """Sweep all shares, each on its device."""
        kept = [one for one in self._kept if job.pool.device in (None, one.device)]
        shares = cut(job.pool.n, len(kept))
        if len(shares) == 1:
            return [_swept(job, kept[0], shares[0])]
        with ThreadPoolExecutor(len(shares)) as threads:
            running = [threads.submit(_swept, job, one, rows) for one, rows in zip(kept, shares, strict=False)]
            return [share.result() for share in running]


def gpus() -> list[str]:
    """Return the names of the GPUs that can be used, none without CuPy."""
    try:
        return [device.facts.name for device in GpuBackend().devices]
    except GapselError:
        return []


def _swept(job: Job, kept: Kept, rows: range) -> Yield:
    """Sweep one share; where memory runs out, let go of what is kept, then halve the rows at a time, and go on."""
    with kept.device.current():
        chunk, cleared = SEGMENT_ROWS, False
        while True:
            try:
                preparation = kept.preparation(job)
                held = None if cleared else kept.pool(job, preparation, rows)
                found = rows_at_once(job, preparation, len(rows))
                chunk = min(chunk, found) if cleared else found
                return Share(job, rows, preparation, chunk).run(held)
            except MemoryError as error:
                if cleared and chunk <= SEGMENT_ROWS:
                    raise _too_small(job, kept.device) from error
            chunk = max(SEGMENT_ROWS, chunk // 2 // SEGMENT_ROWS * SEGMENT_ROWS)
            kept.clear()
            cleared = True


def _too_small(job: Job, device: Device) -> DeviceError:
    free = device.free_memory() / 2**30
    return DeviceError(
        f"the GPU ({device.facts.name}) has {free:.2f} GiB free, too little to multiply {SEGMENT_ROWS} rows of the "
        f"pool with {len(job.keep):,} targets: free some of it, or take --backend cpu"
    )


def _together(job: Job, parts: list[Yield]) -> Sweep:
    """Add up what the shares gave, in the order of the rows."""
    m, n, keep = len(job.target.b), job.pool.n, job.keep
    value, hard, entropy = np.concatenate([part.sums for part in parts]).sum(axis=0).tolist()
    gram = gram_q = top = None
    if job.gram:
        gram = np.zeros((m, m))
        gram[np.ix_(keep, keep)] = sum(part.gram for part in parts if part.gram is not None)
        gram_q = _spread([part.gram_q for part in parts if part.gram_q is not None], job)
    if job.k:
        best = [part.top for part in parts if part.top is not None]
        rows, values = (np.concatenate(column) for column in zip(*best, strict=True))
        # Each share is sorted, and shares follow one another in the order of the rows: a stable sort merges them.
        order = np.argsort(values, kind="stable")[: job.k]
        top = rows[order], values[order]
    q = _spread([part.q for part in parts], job) / n
    return Sweep(q=q, value=value, hard=hard, entropy=entropy, gram=gram, gram_q=gram_q, top=top)


def _spread(parts: list[NDArray[np.float64]], job: Job) -> NDArray[np.float64]:
    out = np.zeros(len(job.target.b))
    for part in parts:
        out[job.keep] += part
    return out
