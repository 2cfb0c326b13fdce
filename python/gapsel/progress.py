"""Progress on stderr: how much is done, how fast, how long it will still take.

On a terminal a bar drawn by rich (imported only then); elsewhere, in a log file say, a plain line every few seconds
and nothing at all for work that is done sooner. Results never go through here, so stdout stays clean.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS_BETWEEN_LINES = 5.0
FEW_PER_SECOND = 10
# Slower than this, what one takes is said in place of a rate.
ONE_IN_SECONDS = 0.1
MINUTE = 60
HOUR = 3600


@contextmanager
def track(
    description: str, total: int | None = None, unit: str = "documents", *, enabled: bool = True
) -> Iterator[Callable[[int], None]]:
    """Show the progress of a block of work on stderr; yield ``advance(count)``, to be called as units are finished.

    ``total`` is the number of units in all, None if unknown (then no time left is shown). With ``enabled`` false
    nothing is ever written. Exceptions of the block pass through.
    """
    if not enabled:
        yield lambda _count: None
    elif sys.stderr.isatty():
        with _bar(description, total, unit) as advance:
            yield advance
    else:
        with _lines(description, total, unit) as advance:
            yield advance


@contextmanager
def _bar(description: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeElapsedColumn(),
    )
    start = time.monotonic()
    done = 0
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, pace=unit)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress.update(task, completed=done, pace=_pace(done, total, unit, time.monotonic() - start))

        yield advance


@contextmanager
def _lines(description: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    start = last = time.monotonic()
    done = 0

    def write(now: float) -> None:
        amount = f"{done:,}" if total is None else f"{done:,} of {total:,}"
        sys.stderr.write(f"{description}: {amount} {unit}, {_pace(done, total, unit, now - start)}\n")
        sys.stderr.flush()

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            write(now)

    yield advance


def _pace(done: int, total: int | None, unit: str, seconds: float) -> str:
    """Say the rate and, where it can be known, the time left: ``250 documents/s, 6 min left``."""
    rate = done / max(seconds, 1e-9)
    pace = f"{rate:,.0f} {unit}/s" if rate >= FEW_PER_SECOND else f"{rate:.2g} {unit}/s"
    if 0 < rate < ONE_IN_SECONDS:
        pace = f"{_duration(1 / rate)} each"
    if total is None or done == 0 or done >= total:
        return pace
    return f"{pace}, {_duration((total - done) / rate)} left"


def _duration(seconds: float) -> str:
    if seconds < 1.5 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 1.5 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h"
