"""What stays on a device from sweep to sweep: operands of pools and of the last target.

Only of arrays that nobody can write to (``flags.writeable`` is False: memory maps, and what the solver freezes), known
by identity as long as they live. All others are brought anew for each sweep, so that no stale copy can answer.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gapsel.backends.checks import refuse_row
from gapsel.backends.gpu.operands import BadRow, Preparation
from gapsel.backends.gpu.span import least_bytes
from gapsel.backends.gpu.target import place

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from gapsel.backends.gpu.device import Device
    from gapsel.backends.gpu.job import Job
    from gapsel.backends.gpu.operands import Piece
    from gapsel.backends.gpu.target import TargetOperand

# What is left free beside kept pools, for strips and whatever else the process does there.
_RESERVE = 3 << 30


@dataclass(frozen=True, slots=True)
class _Alive:
    """References that keep an entry only as long as its arrays live."""

    references: tuple[weakref.ref[object], ...]

    def __bool__(self) -> bool:
        return all(reference() is not None for reference in self.references)


def _alive(arrays: Iterable[object]) -> _Alive:
    return _Alive(tuple(weakref.ref(array) for array in arrays))


class Kept:
    """The kept operands of one device, the ones used last at the end."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._pools: dict[Hashable, tuple[_Alive, Piece]] = {}
        self._target: tuple[Hashable, _Alive, TargetOperand] | None = None
        self._reserve = _RESERVE

    def target(self, job: Job) -> TargetOperand:
        """Return y as operands."""
        key = (id(job.query.target.y), job.keep.tobytes(), job.form)
        if self._target is not None and self._target[0] == key and self._target[1]:
            return self._target[2]
        self._target = None
        placed = place(self.device, job.query.target, job.keep, job.form)
        if not job.query.target.y.flags.writeable:
            self._target = key, _alive([job.query.target.y]), placed
        return placed

    def preparation(self, job: Job) -> Preparation:
        """Return what is done to pool rows in this sweep."""
        return Preparation(self.device, job.form, self.target(job), BadRow(self.device))

    def pool(self, job: Job, preparation: Preparation, rows: range) -> Piece | None:
        """Return these rows on the device, or None where they have to be streamed."""
        self._bury()
        if not job.pool.keepable:
            return None
        key = (tuple(map(id, job.pool.shards)), rows, job.form, preparation.y.centre_bytes)
        if key in self._pools:
            self._pools[key] = self._pools.pop(key)
            return self._pools[key][1]
        if not self._make_room(len(rows) * job.form.row_bytes, least_bytes(job, preparation)):
            return None
        try:
            piece = preparation.hold(job.pool, rows)
        except MemoryError:
            return None
        bad = preparation.bad.found()
        if bad is not None:
            refuse_row("pool", bad, job.pool.row(bad))
        self._pools[key] = _alive(job.pool.shards), piece
        return piece

    def clear(self) -> None:
        """Keep nothing, and from now on leave more room beside what is kept."""
        self._reserve *= 2
        self._pools.clear()
        self._target = None
        self.device.release()

    def _make_room(self, size: int, beside: int) -> bool:
        """Let the oldest pools go until there is room for a pool and what a sweep takes; False if there never is."""
        while size > self._room(beside):
            if not self._pools:
                return False
            del self._pools[next(iter(self._pools))]
            self.device.release()
        return True

    def _room(self, beside: int) -> int:
        free = self.device.free_memory()
        return free - max(beside, min(free // 4, self._reserve))

    def _bury(self) -> None:
        for key in [key for key, (alive, _) in self._pools.items() if not alive]:
            del self._pools[key]
