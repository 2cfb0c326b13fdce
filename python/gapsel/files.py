"""Files that appear whole or not at all, and what is said where one cannot be read.

What is written goes to a temporary name beside the final one, is flushed to the disk and then renamed. A reader, or
the same command run again after a crash, meets the old file or the new one and never a half. The temporary name has
the number of its process, so that what a dead one left behind can be told from what a living one is writing; and a
random one, for processes of two containers that share a folder often have one number.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gapsel.errors import DataError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TEMPORARY = re.compile(r"\..+\.([0-9]+)\.tmp")


@contextmanager
def whole(path: Path | str) -> Iterator[BinaryIO]:
    """Open a binary file that takes the name ``path`` only if the block ends without an error.

    Missing folders are made. Raises ResourceError when the folder cannot be written or the disk is full.
    """
    final = Path(path)
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}.{os.getpid()}.tmp")
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
        msg = f"{final}: cannot be written ({error.strerror}): free some space, and give the same command again"
        raise ResourceError(msg) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def reading(source: str, errors: tuple[type[Exception], ...], otherwise: str) -> Iterator[None]:
    """Turn what goes wrong while a file is read into a DataError that names it and what to do.

    Beside what the system reports these are ``errors``; ``otherwise`` ends the message where the system has no name
    for it.
    """
    caught: tuple[type[Exception], ...] = (OSError, *errors)
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        msg = f"{source}: there is no such file: check the path"
        raise DataError(msg) from error
    except PermissionError as error:
        msg = f"{source}: permission to read it is denied: change its mode (chmod +r) or owner"
        raise DataError(msg) from error
    except caught as error:
        said = str(error).strip().split("\n", 1)[0]
        msg = f"{source}: cannot be read ({said}): {otherwise}"
        raise DataError(msg) from error


def not_writable(path: Path, error: OSError) -> ResourceError:
    """Say that a file or folder cannot be made, and what to do about it."""
    remedy = "free some space" if error.errno in _FULL else "choose another folder or change its permissions"
    return ResourceError(f"{path}: cannot be written ({error.strerror}): {remedy}, and give the same command again")


def is_leftover(path: Path) -> bool:
    """Tell whether a file has the name of a temporary one of `whole`."""
    return _TEMPORARY.fullmatch(path.name) is not None


def sweep_leftovers(folder: Path) -> None:
    """Delete, in a folder and below, the temporary files of processes that are no more, and those of this one.

    For a holder of the folder's lock: what bears this process's own number was left by a dead one that had it before.
    """
    for file in folder.rglob(".*.tmp"):
        found = _TEMPORARY.fullmatch(file.name)
        if found and not _lives_elsewhere(int(found[1])):
            with suppress(OSError):
                file.unlink()


def _lives_elsewhere(pid: int) -> bool:
    """Tell whether a process of this number, other than this one, is alive on this machine."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def write_json(path: Path | str, value: object) -> None:
    """Write ``value`` as an indented JSON file, whole or not at all."""
    with whole(path) as stream:
        stream.write(json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")


def _create(temporary: Path, final: Path) -> BinaryIO:
    """Open the temporary file for writing."""
    try:
        make_folder(temporary.parent)
        return temporary.open("wb")
    except OSError as error:
        raise not_writable(final, error) from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, such that they last."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in reversed(missing):
        _sync_folder(one.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename last; a file system that cannot sync a folder is no reason to fail."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def shown_in(folder: Path) -> list[Path]:
    """Return what lies in a folder but for hidden files and folders, sorted."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def is_loop(folder: Path) -> bool:
    """Tell whether a folder is a link to one above it, by which the same files would be found again and again.

    Links that lead there count as above it too.
    """
    where = folder.resolve()
    return folder.is_symlink() and any(above.resolve().is_relative_to(where) for above in folder.parents)


def check_complete(names: Iterable[str], folder: str) -> None:
    """Raise DataError where a folder holds some of the files NAME-00000-of-00010 and on, and not all ten."""
    found: dict[tuple[str, int, str], set[int]] = {}
    for name in names:
        if match := re.fullmatch(r"(.*-)([0-9]+)-of-([0-9]+)(\..*)?", name):
            found.setdefault((match[1], int(match[3]), match[4] or ""), set()).add(int(match[2]))
    for (stem, count, suffix), there in found.items():
        if len(there) < count:
            first = 1 if count in there else 0
            lacks = next(number for number in range(first, first + count) if number not in there)
            msg = (
                f"{folder}: holds {len(there)} of the {count} files {stem}*-of-{count}{suffix}, number {lacks} is "
                "missing: fetch the others, or, if these are meant, name them or a pattern"
            )
            raise DataError(msg)
