"""A process that runs commands in children and has them killed, without a word, at chosen instants.

An instant is just before or just after a file or folder is made, renamed or deleted; what happens between two of them
leaves no trace on the disk but a longer temporary file. Each line on stdin is [count, arguments]: `gapsel ARGUMENTS` is
run with small shards and parts, every sweep counting as long, and ended by SIGKILL at the count-th instant. Each line
on stdout says how it ended: a signal as a negative number.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from gapsel.cli import main
from gapsel.pipeline.folder import journal, parts
from gapsel.pipeline.vectors import sides as vectors

ROWS = 16
_left = [0]


def _dying(change: Any) -> Any:  # noqa: ANN401 - a method of Path
    def dying(self: Path, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - as the method
        if change.__name__ == "open" and args[:1] != ("wb",):
            return change(self, *args, **options)
        _tick()
        result = change(self, *args, **options)
        _tick()
        return result

    return dying


def _tick() -> None:
    _left[0] -= 1
    if _left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def _run(count: int, arguments: list[str]) -> None:
    """Be the child: run the command, with its end ahead."""
    _left[0] = count
    code = 99
    try:
        code = main(arguments)
    finally:
        os._exit(code)


if __name__ == "__main__":
    vectors._SHARD_ROWS = vectors._BATCH_ROWS = parts.PART_ROWS = ROWS
    journal.LONG_SECONDS = 0.0
    for name in ("replace", "unlink", "mkdir", "rmdir", "open"):
        setattr(Path, name, _dying(getattr(Path, name)))
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _run(*json.loads(line))
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()
