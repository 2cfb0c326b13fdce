"""Files that are as they were when their contents were last read: told by size, inode and times of change.

Whatever program writes to a file, the system notes it in the time of change of its inode, which cannot be set back.
What a stamp does not show is a disk that gives back other bits than were written to it. So commands after fit and score
go by stamps, where they would have to read the whole pool again; fit and score read and compare.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from gapsel import remote
from gapsel.pipeline.folder.run_folder import sign

if TYPE_CHECKING:
    from collections.abc import Iterable

# Seconds that a file has to be left alone before a stamp tells all later changes: clocks of file systems are coarse.
SETTLED = 2.0


def stamp(files: Iterable[str | Path]) -> str | None:
    """Return what stands for the state of some files; None where nothing can: URLs, what is missing or just changed."""
    found = _found(files)
    if found is None or any(max(times) > time.time_ns() - int(SETTLED * 1e9) for *_, times in found):
        return None
    return sign(found)


def state(files: Iterable[str | Path]) -> str | None:
    """Return what stands for files that were changed just now, too; for who compares within one command."""
    found = _found(files)
    return None if found is None else sign(found)


def _found(files: Iterable[str | Path]) -> list[tuple[str, int, int, int, tuple[int, int]]] | None:
    found = []
    for file in map(str, files):
        if remote.is_url(file):
            return None
        try:
            there = Path(file).stat()
        except OSError:
            return None
        times = there.st_mtime_ns, there.st_ctime_ns
        found.append((file, there.st_size, there.st_dev, there.st_ino, times))
    return found
