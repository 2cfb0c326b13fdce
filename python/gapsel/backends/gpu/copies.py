"""Blocks of rows on their way from the host to a device: a ring of pinned memory, and copies on a stream of their own.

A slot has a place on the host, which threads fill, and one on the device. Two events say when each is free again:
``copied``, after which the host's may be filled anew, and ``used``, after which the device's may be written.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from gapsel.backends.gpu.device import Array

_SLOTS = 3
# Threads that fill a block, and what each copies at a time: one thread fills at a quarter of what the bus takes.
_COPIERS, _COPY = 8, 4 << 20


@dataclass(frozen=True, slots=True)
class _Slot:
    """A block on its way: pinned host memory, its place on the device, and when each is free again."""

    pinned: NDArray[np.uint8]
    there: Array
    copied: Any
    used: Any


class Copies:
    """The ring of the current device; ``cupy`` is the module."""

    def __init__(self, cupy: Any) -> None:  # noqa: ANN401 (CuPy brings no types)
        self._cupy = cupy
        self._slots: list[_Slot] = []

    def stream(self, blocks: Iterable[Sequence[NDArray[Any]]], size: int) -> Iterator[Array]:
        """Bring blocks of at most ``size`` bytes, one ahead of its use; see `device.Device.stream`."""
        slots, waiting = self._ring(size), deque[tuple[_Slot, int]]()
        for index, parts in enumerate(blocks):
            waiting.append(self._send(slots[index % _SLOTS], parts))
            if len(waiting) > 1:
                yield from self._arrive(*waiting.popleft())
        while waiting:
            yield from self._arrive(*waiting.popleft())

    @property
    def _current(self) -> Any:  # noqa: ANN401
        return self._cupy.cuda.get_current_stream()

    @cached_property
    def _own(self) -> Any:  # noqa: ANN401
        return self._cupy.cuda.Stream(non_blocking=True)

    @cached_property
    def _copiers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(min(_COPIERS, os.cpu_count() or 1), thread_name_prefix="gapsel-copy")

    def _ring(self, size: int) -> list[_Slot]:
        """Return slots of at least that many bytes; they are kept, for pinning memory takes long."""
        if not self._slots or self._slots[0].there.nbytes < size:
            self._own.synchronize()  # a stream that was left early may still write to them
            self._slots = []
            self._slots = [self._slot(size) for _ in range(_SLOTS)]
        return self._slots

    def _slot(self, size: int) -> _Slot:
        cuda = self._cupy.cuda
        pinned = np.frombuffer(cuda.alloc_pinned_memory(size), np.uint8, size)
        there = self._cupy.empty(size, np.uint8)
        copied, used = cuda.Event(disable_timing=True), cuda.Event(disable_timing=True)
        used.record(self._current)  # what used this memory before may still run
        return _Slot(pinned, there, copied, used)

    def _send(self, slot: _Slot, parts: Sequence[NDArray[Any]]) -> tuple[_Slot, int]:
        """Fill a slot and start its copy."""
        slot.copied.synchronize()
        count = self._fill(slot.pinned, parts)
        self._own.wait_event(slot.used)
        runtime = self._cupy.cuda.runtime
        runtime.memcpyAsync(
            slot.there.data.ptr, slot.pinned.ctypes.data, count, runtime.memcpyHostToDevice, self._own.ptr
        )
        slot.copied.record(self._own)
        return slot, count

    def _arrive(self, slot: _Slot, count: int) -> Iterator[Array]:
        """Hand a slot out, and note when the work that was asked for meanwhile is done with it."""
        self._current.wait_event(slot.copied)
        try:
            yield slot.there[:count]
        finally:
            slot.used.record(self._current)

    def _fill(self, pinned: NDArray[np.uint8], parts: Sequence[NDArray[Any]]) -> int:
        """Copy arrays in a row, by several threads; NumPy lets go of the interpreter meanwhile."""
        at, running = 0, []
        for part in parts:
            data = part.reshape(-1).view(np.uint8)
            for first in range(0, len(data), _COPY):
                piece = data[first : first + _COPY]
                running.append(self._copiers.submit(np.copyto, pinned[at : at + len(piece)], piece))
                at += len(piece)
        wait(running)
        for copied in running:
            copied.result()
        return at
