"""Files that appear whole or not at all.

What is written goes to a temporary name beside the final one, is flushed to the disk and then renamed. A reader, or
the same command run again after a crash, meets the old file or the new one and never a half.
"""

from __future__ import annotations

import errno
import json
import os
import re
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gapsel.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole(path: Path | str) -> Iterator[BinaryIO]:
    """Open a binary file that takes the name ``path`` only if the block ends without an error.

    Missing folders are made. Raises DataError when the folder cannot be written or the disk is full.
    """
    final = Path(path)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    stream = _create(temporary, final)
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(final)
        _sync_folder(final.parent)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        msg = f"{final}: cannot be written ({error.strerror}): free some space or choose another folder"
        raise DataError(msg) from error
    finally:
        temporary.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Tell whether a file is a temporary one of `whole`, left behind by a process that was killed."""
    return re.fullmatch(r"\..+\.[0-9]+\.tmp", path.name) is not None


def write_json(path: Path | str, value: object) -> None:
    """Write ``value`` as an indented JSON file, whole or not at all."""
    with whole(path) as stream:
        stream.write(json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")


def _create(temporary: Path, final: Path) -> BinaryIO:
    """Open the temporary file for writing."""
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        return temporary.open("wb")
    except OSError as error:
        msg = f"{final}: cannot be written ({error.strerror}): choose another folder or change its permissions"
        raise DataError(msg) from error


def _sync_folder(folder: Path) -> None:
    """Make a rename last; a file system that cannot sync a folder is no reason to fail."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
