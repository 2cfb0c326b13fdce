"""A function of many things by several threads, its results in the order of the things."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

T = TypeVar("T")
R = TypeVar("R")


def mapped(function: Callable[[T], R], things: Iterable[T], threads: int) -> Iterator[R]:
    """Yield what the function makes of each, in order; no more things are held than there are threads, and one."""
    if threads == 1:
        yield from map(function, things)
        return
    with ThreadPoolExecutor(threads, "gapsel-tile") as workers:
        coming: deque[Future[R]] = deque()
        for thing in things:
            coming.append(workers.submit(function, thing))
            if len(coming) > threads:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def threads_of(wanted: int) -> int:
    """Return how many threads a number means: 0 stands for as many as the process may have processors."""
    return wanted or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
