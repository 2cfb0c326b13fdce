"""Rows that cannot be used, set aside with file, line, reason and value.

They spill to a temporary file, so that millions of them cost no memory, and become ``rejected.jsonl`` at the end.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gapsel.errors import ResourceError
from gapsel.files import whole

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

VALUE_LENGTH = 80
_IN_MEMORY = 1 << 20


class Rejected(NamedTuple):
    """One row set aside: its file, 1-based line (row where there are no lines), why, and the start of what it holds."""

    file: str
    line: int
    reason: str
    value: str


class Rejects:
    """The rows set aside while a corpus is read.

    ``seen`` counts all rows, ``count`` those set aside, ``by_reason`` them by reason, ``example`` keeps the first of
    each reason. With a path, leaving the block (after an error too) writes the file; `finish` does so at any time.
    Those that are not ``listed`` are counted only, so that a stream without end fills no disk.
    """

    def __init__(self, path: Path | str | None = None, *, listed: bool = True) -> None:
        """Begin empty; ``path`` is where the file goes when a ``with`` block ends."""
        self._listed = listed
        self.path = None if path is None else Path(path)
        self.seen = 0
        self.by_reason: Counter[str] = Counter()
        self.example: dict[str, Rejected] = {}
        self._spool = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - lives as long as this object
        weakref.finalize(self, self._spool.close)

    @property
    def count(self) -> int:
        """The number of rows set aside."""
        return self.by_reason.total()

    def add(self, file: str, line: int, reason: str, value: str) -> None:
        """Set one row aside; ``value`` is cut to 80 characters."""
        shown = value[:VALUE_LENGTH].encode(errors="backslashreplace").decode()
        rejected = Rejected(file, line, reason, shown)
        self.seen += 1
        self.by_reason[reason] += 1
        self.example.setdefault(reason, rejected)
        if self._listed:
            self._note(json.dumps(rejected._asdict(), ensure_ascii=False).encode() + b"\n")

    def _note(self, line: bytes) -> None:
        try:
            self._spool.write(line)
        except OSError as error:
            msg = (
                f"{tempfile.gettempdir()}: the rows that cannot be used cannot be noted there ({error.strerror}): free "
                "some space, or name another folder in TMPDIR"
            )
            raise ResourceError(msg) from error

    def finish(self, path: Path | str) -> Path:
        """Write the rows set aside so far, one JSON object a line, whole or not at all; an empty file if none was."""
        self._spool.seek(0)
        with whole(path) as stream:
            shutil.copyfileobj(self._spool, stream)
        return Path(path)

    def __enter__(self) -> Self:
        """Begin to collect."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the file, if one was named, and let the temporary one go."""
        if self.path is not None:
            self.finish(self.path)
        self._spool.close()
