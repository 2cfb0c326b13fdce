"""Files that lie elsewhere, by URL, through fsspec: s3://, https://, memory:// and whatever else it has a client for.

They are found, told apart from what they were, and read a part at a time without a copy of the whole. A read that fails
is tried again from where it was, with longer and longer pauses; what is not there and what may not be read is said at
once. Settings of a store (keys, an endpoint) are the store's own: environment variables and fsspec's configuration.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
from contextlib import contextmanager
from glob import has_magic
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from gapsel.errors import DataError, MissingDependencyError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

T = TypeVar("T")
BLOCK = 4 << 20
# Seconds before each further try.
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
# What stores call that by which contents can be told apart; and, where they say none of these, the time of the change.
_TAGS = ("ETag", "etag", "md5Hash", "crc32c", "Content-MD5", "Digest")
_TIMES = ("LastModified", "Last-Modified", "last_modified", "mtime", "updated", "created")
# Answers of an HTTP server that another try may change.
_PASSING = (408, 425, 429)
_MISSING = (404, 410)
_SERVER_FAULTS = 500


def is_url(path: str) -> bool:
    """Tell whether a path is the URL of something that does not lie in the file system."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path) is not None and not path.startswith("file://")


def name_of(path: str) -> str:
    """Return the path by which a file's format is known: that of a URL without what follows a question mark."""
    return urlsplit(path).path if path.startswith(("http://", "https://")) else path


def expand(url: str) -> tuple[list[str], bool]:
    """Return (URLs of the files that a URL means, sorted; whether it names one file, and not a folder or a glob).

    Hidden files are left out. Raises DataError where there is nothing, ResourceError where the store cannot be asked.
    """
    system, path = _system(url)
    if has_magic(name_of(url)):
        found = _patiently(url, lambda: system.glob(path))
        files, root = [one for one in found if not _is_folder(system, url, one)], _root(path)
    elif _is_folder(system, url, path):
        files, root = _patiently(url, lambda: system.find(path)), path
    else:
        return [system.unstrip_protocol(path)], True
    shown = sorted(system.unstrip_protocol(file) for file in files if not _is_hidden(file, root))
    if not shown:
        msg = f"{url}: nothing is there: check the URL, and quote a pattern so that the shell does not expand it"
        raise DataError(msg)
    return shown, False


def tag(url: str) -> str:
    """Return a hash (32 hex digits) that changes with a file: of what the store says of it, or else of its contents."""
    system, path = _system(url)
    about = _patiently(url, lambda: system.info(path))
    known = _said(about, _TAGS) or _said(about, _TIMES)
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([known, about.get("size")], sort_keys=True).encode())
    if not known:
        with opened(url) as stream:
            while chunk := stream.read(BLOCK):
                digest.update(chunk)
    return digest.hexdigest()


def _said(about: dict[str, Any], names: tuple[str, ...]) -> dict[str, str]:
    return {name: str(about[name]) for name in names if about.get(name)}


def opened(url: str, block: int = BLOCK) -> io.BufferedReader:
    """Open a file for binary reading, ``block`` bytes at a time; it can be sought in where the server gives parts.

    Raises DataError for a file that is not there, ResourceError, here or while it is read, where the store cannot be
    reached or refuses.
    """
    return io.BufferedReader(_Parts(url, block), block)


@contextmanager
def in_any_order(path: str) -> Iterator[pa.NativeFile]:
    """Open a file, here or by URL, for reading in any order, as tables are read; it is Arrow's kind of file.

    Raises DataError, besides what `opened` raises, where the server sends whole files only.
    """
    import pyarrow as pa

    if not is_url(path):
        with pa.OSFile(path) as here:
            yield here
        return
    with opened(path) as stream:
        if not stream.seekable():
            msg = f"{path}: the server sends whole files only, and tables are read in parts: copy the file from there"
            raise DataError(msg)
        yield pa.PythonFile(stream, mode="r")


class _Parts(io.RawIOBase):
    """A file read by parts; from a server that only sends all of it, by one stream from front to back."""

    def __init__(self, url: str, block: int) -> None:
        self.name = url
        self._block = block
        self._system, self._path = _system(url)
        about = _patiently(url, lambda: self._system.info(self._path))
        if about.get("type") == "directory":
            msg = f"{url}: is a folder, where a file is wanted"
            raise DataError(msg)
        self._size: int | None = about.get("size")
        self._at = 0
        self._file: Any = None
        self._in_parts = self._size is not None and self._gives_parts()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._in_parts

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if not self._in_parts or self._size is None:
            msg = "the server sends whole files only"
            raise io.UnsupportedOperation(msg)
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - what io hands over is not typed
        wanted = len(buffer)
        if self._size is not None:
            wanted = min(wanted, max(0, self._size - self._at))
        data = _patiently(self.name, lambda: self._read(wanted)) if wanted else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._let_go()
        super().close()

    def _gives_parts(self) -> bool:
        """Ask for the second byte: a server that has no parts sends the first as well."""
        if not self._path.startswith(("http://", "https://")) or (self._size or 0) <= 1:
            return True
        return _patiently(self.name, self._sends_the_second)

    def _sends_the_second(self) -> bool:
        try:
            return len(self._part(1, 1)) == 1
        except ValueError:  # what fsspec raises of such servers
            return False

    def _read(self, count: int) -> bytes:
        data = self._part(self._at, count) if self._in_parts else self._next(count)
        if len(data) < (count if self._in_parts else self._size is not None):
            msg = f"{len(data)} bytes came where {count} were asked for"
            raise ConnectionError(msg)
        return data

    def _part(self, start: int, count: int) -> bytes:
        try:
            if self._file is None:
                self._file = self._system.open(self._path, "rb", block_size=self._block, cache_type="none")
            self._file.seek(start)
            return bytes(self._file.read(count))
        except BaseException:
            self._let_go()
            raise

    def _next(self, count: int) -> bytes:
        """Read on in the stream; after a fault from its beginning again, up to where it was."""
        try:
            if self._file is None:
                self._file = self._system.open(self._path, "rb", block_size=0)
                left = self._at
                while left and (skipped := self._file.read(min(left, self._block))):
                    left -= len(skipped)
            return bytes(self._file.read(count))
        except BaseException:
            self._let_go()
            raise

    def _let_go(self) -> None:
        if getattr(self, "_file", None) is not None:
            self._file.close()
            self._file = None


def _system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and what the URL is called there."""
    try:
        import fsspec
    except ImportError as error:
        msg = f"{url}: reading by URL needs more packages: pip install 'gapsel[remote]'"
        raise MissingDependencyError(msg) from error
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        msg = f"{url}: reading it needs one more package ({error}): pip install 'gapsel[remote]' brings s3 and http"
        raise MissingDependencyError(msg) from error
    except ValueError as error:
        msg = f"{url}: cannot be opened ({error}): give a path, or a URL that fsspec knows (s3://, https://, ...)"
        raise DataError(msg) from error
    return system, path


def _is_folder(system: Any, url: str, path: str) -> bool:  # noqa: ANN401 - fsspec is not typed
    if path.startswith(("http://", "https://")):
        return path.endswith("/")
    return bool(_patiently(url, lambda: system.info(path))["type"] == "directory")


def _root(pattern: str) -> str:
    """Return the folder that a pattern begins with."""
    fixed = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    return fixed[: fixed.rfind("/") + 1]


def _is_hidden(file: str, root: str) -> bool:
    return any(part.startswith(".") for part in file.removeprefix(root).split("/"))


def _patiently(url: str, work: Callable[[], T], tried: int = 0) -> T:
    """Return what the work gives, tried again while the store fails in a way that may pass."""
    try:
        return work()
    except (DataError, ResourceError):
        raise
    except Exception as error:  # each store's client has errors of its own
        reason = _reason(error)
        if isinstance(reason, FileNotFoundError):
            msg = f"{url}: there is no such file: check the URL"
            raise DataError(msg) from error
        if tried == len(_PAUSES) or not _may_pass(reason):
            raise _refused(url, reason) from error
    time.sleep(_PAUSES[tried])
    return _patiently(url, work, tried + 1)


def _reason(error: Exception) -> BaseException:
    """Return what is behind an error: fsspec calls a file of an HTTP server missing for whatever reason it failed."""
    behind = error.__cause__
    if not isinstance(error, FileNotFoundError) or not type(behind).__module__.startswith("aiohttp"):
        return error
    return error if behind is None or getattr(behind, "status", None) in _MISSING else behind


def _may_pass(error: BaseException) -> bool:
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status in _PASSING or status >= _SERVER_FAULTS
    return not isinstance(error, PermissionError | TypeError | ValueError | ImportError)


def _refused(url: str, error: BaseException) -> ResourceError:
    said = str(error).strip().split("\n", 1)[0] or type(error).__name__
    denied = isinstance(error, PermissionError) or getattr(error, "status", None) in {401, 403}
    what = "permission to read it is denied" if denied else "cannot be reached"
    remedy = (
        "give the store's credentials" if denied else "check the URL and the network, and give the same command again"
    )
    return ResourceError(f"{url}: {what} ({said}): {remedy}")
