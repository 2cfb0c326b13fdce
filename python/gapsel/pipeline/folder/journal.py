"""A journal of long sweeps, by which a step that was killed in the middle goes on from there.

The solver is deterministic given what its sweeps answer. So nothing of its state need be saved: what a long sweep
answered is kept in a file named by a hash of all that was asked, and when the same command asks the same again, the
answer is read. It runs through what was done in no time, to the same bits, and goes on. The journal is cleared when its
step is done. It is a convenience: one that cannot be written is left out, and a damaged answer is made again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import warnings
import weakref
import zipfile
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import __version__
from gapsel.errors import ResourceError, UsageError
from gapsel.files import whole
from gapsel.records import OUTPUTS, Sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from gapsel.backends import Backend, Keeper
    from gapsel.records import KeptPlan, Query

FOLDER = ".sweeps"
# Shorter sweeps are made again in less time than they are worth on disk.
LONG_SECONDS = 1.0
# Bytes kept: so many for Grams and shortlists, and so many for each row of the pool (an answer has 4 to 12).
_BYTES, _BYTES_A_ROW = 1 << 30, 32
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True, slots=True)
class Question:
    """All that a sweep is asked, and of which rows."""

    shards: Sequence[NDArray[np.floating]]
    query: Query

    @property
    def rows(self) -> int:
        """The number of rows that are swept."""
        return sum(len(shard) for shard in self.shards)

    @property
    def outputs(self) -> dict[str, NDArray[Any]]:
        """What is written beside the answer, by its name."""
        plan = self.query.plan
        return self.query.outputs if plan is None else {**self.query.outputs, "plan": plan}

    def hash(self, content: str) -> str:
        """Return a hash of the question, ``content`` being one of the rows and of who is to answer."""
        target, g, box = self.query.target, self.query.g, self.query.box
        apart = {"target", "g", "box", "plan", *OUTPUTS}
        names = [field.name for field in fields(self.query) if field.name not in apart]
        asked = [content, {name: getattr(self.query, name) for name in names}, sorted(self.outputs)]
        digest = hashlib.blake2b(json.dumps(asked, sort_keys=True, default=asdict).encode(), digest_size=16)
        for numbers in (target.y, target.b, g, box.lo, box.hi, box.price, box.eta):
            array = np.ascontiguousarray(numbers)
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(array.data)
        return digest.hexdigest()


class Journal:
    """A backend that keeps what its long sweeps answer in a folder, and answers from there when asked again.

    ``pool`` are the shards of the whole pool, and a hash of their content that is known; others are hashed when a sweep
    of theirs was long, or when there are answers for as many rows.
    """

    def __init__(
        self, backend: Backend, folder: Path, pool: Callable[[], tuple[Sequence[NDArray[np.floating]], str]]
    ) -> None:
        self._backend = backend
        self._folder = folder
        self._pool = pool
        self._known: tuple[list[weakref.ref[NDArray[Any]]], str] = ([], "")
        self.name = backend.name
        self.resolution = backend.resolution

    @property
    def identity(self) -> str:
        """See Backend."""
        return self._backend.identity

    @property
    def keeper(self) -> Journal | None:
        """See Backend. Looks at plans are short, and not in the journal; the sweeps that keep them are."""
        return None if self._backend.keeper is None else self

    def sweep_kept(self, kept: KeptPlan, query: Query) -> Sweep:
        """Look at a kept plan; see Keeper."""
        return self._keeping().sweep_kept(kept, query)

    def sweep(self, shards: Sequence[NDArray[np.floating]], query: Query) -> Sweep:
        """Answer from the journal, or read the pool once; see Backend.sweep."""
        asked = Question(shards, query)
        there = [kept for kept in self._kept() if kept.rows == asked.rows]
        name = self._name(asked) if there else ""
        found = next((_read(kept.path, asked) for kept in there if kept.name == name), None)
        if found is not None:
            return found
        began = time.perf_counter()
        machine = self._backend if query.plan is None else self._keeping()
        answer = machine.sweep(shards, query)
        seconds = time.perf_counter() - began
        if seconds > LONG_SECONDS:
            self._keep(name or self._name(asked), asked, answer, seconds)
        return answer

    def topk(self, values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Return the rows of the k lowest values, in order of (value, row)."""
        return self._backend.topk(values, k)

    def _keeping(self) -> Keeper:
        if self._backend.keeper is None:
            msg = f"the {self.name} backend keeps no plans"
            raise UsageError(msg)
        return self._backend.keeper

    def _name(self, asked: Question) -> str:
        return asked.hash(f"{__version__} {self._backend.identity} {self._content(asked.shards)}")

    def _content(self, shards: Sequence[NDArray[np.floating]]) -> str:
        """Return a hash of the rows; that of a shortlist is remembered as long as the shortlist is there."""
        pool, content = self._pool()
        if _same(shards, pool):
            return content
        if not _same(shards, [known() for known in self._known[0]]):
            self._known = [weakref.ref(shard) for shard in shards], _hash(shards)
        return self._known[1]

    # ---- what is kept

    def _kept(self) -> list[_Kept]:
        return [_Kept.of(path) for path in self._folder.glob("[!.]*.sweep")]

    def _keep(self, name: str, asked: Question, answer: Sweep, seconds: float) -> None:
        """Write an answer, and let go of those that took least time for their size where there is too much."""
        path = self._folder / f"{name}-{asked.rows}-{int(1000 * seconds)}.sweep"
        try:
            with whole(path) as stream:
                np.savez(stream, allow_pickle=False, **_columns(answer, asked))
        except ResourceError as error:
            warnings.warn(f"{error}. A killed command will not go on from this sweep", RuntimeWarning, stacklevel=3)
            return
        kept = sorted(self._kept(), key=lambda one: one.seconds / one.size)
        room = _BYTES + _BYTES_A_ROW * max(one.rows for one in kept)
        while sum(one.size for one in kept) > room:
            kept.pop(0).path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer on disk, as its name and size tell of it."""

    path: Path
    name: str
    rows: int
    seconds: float
    size: int

    @classmethod
    def of(cls, path: Path) -> _Kept:
        name, rows, milliseconds = path.stem.split("-")
        return cls(path, name, int(rows), int(milliseconds) / 1000, path.stat().st_size)


def clear(run_folder: Path) -> None:
    """Delete the journal of a run folder."""
    shutil.rmtree(run_folder / FOLDER, ignore_errors=True)


def _columns(answer: Sweep, asked: Question) -> dict[str, NDArray[Any]]:
    rows, values = (None, None) if answer.top is None else answer.top
    found = {
        "q": answer.q,
        "totals": np.array([answer.value, answer.hard, answer.entropy]),
        "gram": answer.gram,
        "gram_q": answer.gram_q,
        "top_rows": rows,
        "top_values": values,
        **{f"out_{name}": out for name, out in asked.outputs.items()},
    }
    return {name: array for name, array in found.items() if array is not None}


def _read(path: Path, asked: Question) -> Sweep | None:
    """Return an answer and fill the outputs, or None, without the file, where it is damaged."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            for name, out in asked.outputs.items():
                out[:] = stored[f"out_{name}"]
            value, hard, entropy = map(float, stored["totals"])
            gram, gram_q = (stored["gram"], stored["gram_q"]) if asked.query.gram else (None, None)
            top = (stored["top_rows"], stored["top_values"]) if asked.query.k else None
            return Sweep(stored["q"], value, hard, entropy, gram, gram_q, top)
    except _DAMAGED:
        path.unlink(missing_ok=True)
        return None


def _same(these: Sequence[object], those: Sequence[object]) -> bool:
    return len(these) == len(those) and all(one is other for one, other in zip(these, those, strict=True))


def _hash(shards: Iterable[NDArray[np.floating]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for shard in shards:
        digest.update(f"{shard.dtype}{shard.shape}".encode())
        digest.update(np.ascontiguousarray(shard).view(np.uint8).data)
    return digest.hexdigest()
