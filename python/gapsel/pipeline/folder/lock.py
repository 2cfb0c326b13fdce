"""One command at a time in a run folder: a lock that dies with its holder.

The kernel holds the lock (flock) for as long as the process keeps the file open, so that nothing has to be tidied up
after a kill; what stands in the file only says who holds it. The file goes when the lock is let go. Since another
process may have opened it just before, whoever gets a lock looks whether its file is still the one of that name.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shlex
import socket
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapsel.errors import ResourceError
from gapsel.files import make_folder, not_writable

if TYPE_CHECKING:
    from types import TracebackType

# The name of a lock, "run" or that of a task.
_FILE = re.compile(r"\.(run|task-[0-9]+-of-[0-9]+)\.lock")
_NOT_SUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class Lock:
    """A lock in a folder, held inside a `with` block; locks of other names in the same folder are others.

    One that is ``shared`` keeps out those that are not.

    The folder is made where it is missing, and goes again if nothing else was put into it. Entering raises
    ResourceError, with the holder's process and machine, where another one holds it, and where nothing can be written.
    """

    def __init__(self, folder: Path, name: str = "run", *, shared: bool = False) -> None:
        self.folder = folder
        self._kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self.path = folder / f".{name}.lock"
        self._handle = -1
        self._made: list[Path] = []

    def __enter__(self) -> None:
        missing = [one for one in (self.folder, *self.folder.parents) if not one.exists()]
        try:
            self._handle = self._take()
        except OSError as error:
            raise not_writable(self.folder, error) from error
        finally:
            self._made = missing
            if self._handle < 0:
                self._tidy()
        os.ftruncate(self._handle, 0)
        with suppress(OSError):  # A full disk: who holds the lock is a courtesy.
            os.write(self._handle, json.dumps(_whoami()).encode())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            # Whoever shares the lock leaves its file to the last of them.
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.path.unlink()
        os.close(self._handle)
        self._handle = -1
        self._tidy()

    def _take(self) -> int:
        """Return the open file with the lock on it."""
        while True:
            make_folder(self.folder)
            try:
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            except FileNotFoundError:
                continue  # Its last holder removed the folder that it had made.
            try:
                self._flock(handle)
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(handle), self.path.stat()):
                        return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)

    def _flock(self, handle: int) -> None:
        try:
            fcntl.flock(handle, self._kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise self._busy(handle) from error
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
            text = f"{self.folder}: its file system has no locks: see to it that no other command writes there"
            warnings.warn(text, RuntimeWarning, stacklevel=5)

    def _busy(self, handle: int) -> ResourceError:
        holder = _read(handle)
        who = "another process"
        if holder:
            who = f"process {holder['pid']} on {holder['host']} since {holder['since']} ({holder['command']})"
        return ResourceError(
            f"{self.folder}: is in use by {who}: wait until it has ended, or stop it, and give the same command again"
        )

    def _tidy(self) -> None:
        """Remove the folders that were made for the lock and that nothing was put into."""
        with suppress(OSError):
            for folder in self._made:
                folder.rmdir()


def is_lock(path: Path) -> bool:
    """Tell whether a file has the name of a lock on a run folder, which a killed command leaves behind."""
    return _FILE.fullmatch(path.name) is not None


def _whoami() -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200],
    }


def _read(handle: int) -> dict[str, Any] | None:
    """Return what the holder says of itself; None in the moment before it has said it."""
    try:
        holder: dict[str, Any] = json.loads(os.pread(handle, 4096, 0))
    except (OSError, ValueError):
        return None
    return holder
