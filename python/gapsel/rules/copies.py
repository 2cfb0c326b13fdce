"""Near copies within the choice: a candidate too much like one that was kept before is passed over.

By words, the likeness is the Jaccard index of the sets of five-word runs of two texts, as MinHash estimates it (Broder
1997; 128 numbers a text, so that the estimate is off by some 0.04); rensa, in Rust, keeps and finds them. By vectors it
is the cosine, compared with all that were kept, a block at a time: k^2 d multiplications for a choice of k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import memory
from gapsel.errors import MissingDependencyError
from gapsel.potentials import gather
from gapsel.rules.words import shingles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from gapsel.rules.choose import Copies

    # From rows (r,), which ascend, to their texts, some at a time.
    Texts = Callable[[NDArray[np.int64]], Iterable[Sequence[str]]]

_RUN, _NUMBERS, _SEED = 5, 128, 42
_MISSED = 1e-3
# What a sketch takes, its object included, and the part of the memory that those of candidates may.
_SKETCH_BYTES, _PART = 1024, 1 / 16
# Candidates whose vectors are compared together, and kept ones at a time.
_LOOKED_AT, _KEPT_ROWS = 2048, 8192


class ByWords:
    """Copies by the words of their texts: an estimated Jaccard index of ``threshold`` or more."""

    def __init__(self, texts: Texts, threshold: float) -> None:
        self._kept = _rensa().RMinHashDeduplicator(threshold, _NUMBERS, use_lsh=True, num_bands=bands(threshold))
        self._texts = texts
        self._rows = np.zeros(0, np.int64)
        self._first = 0
        self._sketches: list[Any] = []

    def look(self, rows: NDArray[np.int64]) -> None:
        """Look at the next candidates (r,)."""
        self._rows, self._first, self._sketches = rows, 0, []

    def is_copy(self, at: int) -> bool:
        """Whether candidate ``at`` is like a kept one."""
        return bool(self._kept.is_duplicate(str(self._rows[at]), self._sketch(at)))

    def keep(self, at: int) -> None:
        """Keep candidate ``at``."""
        self._kept.add(str(self._rows[at]), self._sketch(at))

    def _sketch(self, at: int) -> Any:  # noqa: ANN401 - rensa has no types
        if not self._first <= at < self._first + len(self._sketches):
            self._first = at
            self._sketches = self._made(self._rows[at : at + memory.share(_PART, least=1 << 20) // _SKETCH_BYTES])
        return self._sketches[at - self._first]

    def _made(self, rows: NDArray[np.int64]) -> list[Any]:
        """Return the sketches of rows (r,), in their order; texts are read in the order of the pool."""
        order = np.argsort(rows)
        ascending = [
            sketch
            for batch in self._texts(rows[order])
            for sketch in _rensa().RMinHash.from_token_sets([shingles(text, _RUN) for text in batch], _NUMBERS, _SEED)
        ]
        place = np.argsort(order)
        return [ascending[at] for at in place.tolist()]


def bands(threshold: float) -> int:
    """Return into how many bands sketches are cut: as few as miss a pair at the threshold once in a thousand times.

    Two texts are compared where a band of theirs is the same. With a Jaccard index J, bands of r of N numbers all
    differ with the probability (1 - J^r)^(N/r).
    """
    found = (_NUMBERS // r for r in (32, 16, 8, 4, 2) if (1.0 - threshold**r) ** (_NUMBERS / r) <= _MISSED)
    return next(found, _NUMBERS)


class ByVectors:
    """Copies by their vectors: a cosine of ``threshold`` or more."""

    def __init__(self, shards: Sequence[NDArray[np.floating]], threshold: float) -> None:
        self._shards, self._threshold = shards, threshold
        self._kept: list[NDArray[np.int64]] = []
        self._rows = np.zeros(0, np.int64)
        self._first, self._stop = 0, 0
        self._copy = np.zeros(0, np.bool_)
        self._likeness = np.zeros((0, 0), np.bool_)
        self._kept_here: list[int] = []

    def look(self, rows: NDArray[np.int64]) -> None:
        """Look at the next candidates (r,)."""
        self._settle()
        self._rows, self._first, self._stop = rows, 0, 0

    def is_copy(self, at: int) -> bool:
        """Whether candidate ``at`` is like a kept one."""
        if at >= self._stop:
            self._settle()
            self._compare(at)
        return bool(self._copy[at - self._first])

    def keep(self, at: int) -> None:
        """Keep candidate ``at``: all of its batch that are like it are copies from now on."""
        self._kept_here.append(int(self._rows[at]))
        self._copy |= self._likeness[at - self._first]

    def _settle(self) -> None:
        """Put what was kept of this batch with the rest."""
        self._kept.append(np.array(self._kept_here, np.int64))
        self._kept_here = []

    def _compare(self, first: int) -> None:
        """Compare a batch of candidates with each other and with all that were kept."""
        rows = self._rows[first : first + _LOOKED_AT]
        self._first, self._stop = first, first + len(rows)
        x = self._unit(rows)
        self._likeness = x @ x.T >= self._threshold
        self._copy = np.zeros(len(rows), np.bool_)
        kept = np.sort(np.concatenate(self._kept))
        self._kept = [kept]
        for at in range(0, len(kept), _KEPT_ROWS):
            self._copy |= (x @ self._unit(kept[at : at + _KEPT_ROWS]).T).max(axis=1) >= self._threshold

    def _unit(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of rows (r,), in their order, scaled to unit norm."""
        order = np.argsort(rows)
        x = np.empty((len(rows), self._shards[0].shape[1]), np.float32)
        x[order] = gather(self._shards, rows[order])
        norms = np.linalg.norm(x, axis=1, keepdims=True)
        return np.asarray(x / np.where(norms > 0, norms, 1.0), np.float32)


def check_by_words() -> None:
    """Raise MissingDependencyError where copies by words cannot be found for want of a package."""
    _rensa()


class Both:
    """Copies by either of two ways."""

    def __init__(self, *ways: Copies) -> None:
        self._ways = ways

    def look(self, rows: NDArray[np.int64]) -> None:
        """Look at the next candidates (r,)."""
        for way in self._ways:
            way.look(rows)

    def is_copy(self, at: int) -> bool:
        """Whether candidate ``at`` is a copy either way."""
        return any(way.is_copy(at) for way in self._ways)

    def keep(self, at: int) -> None:
        """Keep candidate ``at``."""
        for way in self._ways:
            way.keep(at)


def _rensa() -> Any:  # noqa: ANN401 - a module without types
    try:
        import rensa
    except ImportError as error:
        msg = "near copies by words are found by rensa: pip install 'gapsel[copies]', or go by vectors (--max-cosine)"
        raise MissingDependencyError(msg) from error
    return rensa
