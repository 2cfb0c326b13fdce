"""What ends a command early: Ctrl-C, and SIGTERM, by which schedulers and service managers end what they started.

Both unwind the program: a file that is half written goes, the rows that a stream has set aside are written, a Ray that
was started here ends. Python tells a program of a signal between two of its own instructions, and a sweep of a large
pool, of a minute, is one. A command that could not be told within seconds is ended as it is, which loses nothing that
was finished: kill -9 does not either.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SAID = "stopped; the same command goes on from here"
# What shells say of a program that a signal has ended: this, and the signal's number.
_BY_SIGNAL = 128
# Seconds that the program may take until it hears of the signal.
_PATIENCE = 5.0
_USUAL: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
# No signal has this number.
_OVER = b"\0"


class Stopped(KeyboardInterrupt):
    """A signal has ended the command; ``exit_code`` is what shells say of that."""

    def __init__(self, number: int) -> None:
        """Note the signal."""
        super().__init__()
        self.exit_code = _BY_SIGNAL + number


def exit_code(stopped: KeyboardInterrupt) -> int:
    """Return the exit code of a command that was stopped."""
    return stopped.exit_code if isinstance(stopped, Stopped) else _BY_SIGNAL + signal.SIGINT


@contextmanager
def stoppable() -> Iterator[None]:
    """Have SIGINT and SIGTERM raise Stopped in the block; a signal that somebody else has in hand, or ignores, is left.

    In another thread than the main one, which alone hears of signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told = threading.Event()

    def stop(number: int, _frame: FrameType | None) -> None:
        again = told.is_set()
        told.set()
        # `timeout` sends SIGTERM twice, and the second must not break off what the first has begun.
        if not (again and number == signal.SIGTERM):
            raise Stopped(number)

    ours = [number for number, usual in _USUAL.items() if signal.getsignal(number) == usual]
    with _watched(told, ours):
        for number in ours:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number in ours:
                signal.signal(number, _USUAL[number])


@contextmanager
def _watched(told: threading.Event, ours: list[signal.Signals]) -> Iterator[None]:
    """End the process where a signal has come in the block and the program is not ``told`` of it in time."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watch = threading.Thread(target=_watch, args=(reader, told, ours), name="gapsel-stop", daemon=True)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(writer, _OVER)
        watch.join()
        os.close(reader)
        os.close(writer)


def _watch(reader: int, told: threading.Event, ours: list[signal.Signals]) -> None:
    while (number := os.read(reader, 1)) != _OVER:
        if number[0] in ours and not told.wait(_PATIENCE):
            _end(number[0])


def _end(number: int) -> NoReturn:
    os.write(2, f"gapsel: {SAID}\n".encode())
    os._exit(_BY_SIGNAL + number)
