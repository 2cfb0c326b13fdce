"""What the input holds, from a sample: rows with an interval, bad rows with reasons, characters, bytes of a row.

Each piece says how many rows a byte of the file has; their mean, times all bytes, is the number of rows, and their
spread its interval (95 %). That holds for what the pieces cover: where only the beginnings of files can be read, the
rest is taken to be like them, and `Sample.beginnings` says so.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel import corpus
from gapsel.corpus.find import CODECS
from gapsel.corpus.rows import Fields
from gapsel.errors import DataError
from gapsel.plan import pieces
from gapsel.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapsel.corpus.rows import Fault, Row
    from gapsel.plan.pieces import Found

# Two-sided 95 % of Student's t for 1, 2, ... degrees of freedom; then that of the normal distribution.
_T = (12.7, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.2, 2.18, 2.16, 2.14, 2.13)
_NORMAL = 2.0
# One piece says nothing of its spread: so much is assumed, less where it has many rows.
_ONE_PIECE, _LONG_PIECE, _MANY = 0.3, 0.1, 1000
# What was not looked at, behind the beginnings of files, may differ by so much more.
_UNSEEN = 0.1
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, and where it lies with 95 % confidence; all three are the same where it is known."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Estimate:
        """Return it multiplied."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Bad:
    """One reason for which rows cannot be used: its share of all rows, and where the first of them was seen."""

    reason: str
    share: float
    file: str
    value: str


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen of one side's texts: ``rows`` of them usable, ``seen`` looked at in ``bytes_read`` bytes.

    ``text`` are usable rows as they were met; ``row_bytes`` a row as its user wrote it; ``parse_seconds`` the processor
    time that reading one row took. ``beginnings``: files of which only the beginning could be looked at.
    """

    files: int
    bytes: int
    rows: Estimate
    seen: int
    bytes_read: float
    bad: tuple[Bad, ...]
    text: tuple[Row, ...]
    sources: tuple[str, ...]
    row_bytes: float
    parse_seconds: float
    beginnings: int

    @property
    def bad_share(self) -> float:
        """The share of all rows that cannot be used."""
        return sum(one.share for one in self.bad)

    @property
    def rejected(self) -> float:
        """The number of rows that cannot be used."""
        return self.rows.value * self.bad_share / max(1.0 - self.bad_share, 1e-9)


def take(paths: Sequence[str], text_field: str, id_field: str) -> Sample:
    """Look at a sample of the texts that the paths mean. Raises DataError for what `corpus.read` raises it for."""
    files = [(source, pieces.bytes_of(source)) for source in corpus.sources(paths)]
    fields = Fields(text_field, id_field)
    began = time.process_time()
    found, rows = _look(files, fields)
    parsing = time.process_time() - began
    return _sample(files, found, rows, parsing)


def _look(files: Sequence[tuple[str, int]], fields: Fields) -> tuple[list[Found], Estimate]:
    """Return what was found in the pieces, and the rows of all files, good and bad."""
    weight = sum(size * (pieces.DEFLATED if pieces.suffix(source) in CODECS else 1) for source, size in files)
    if weight <= pieces.WHOLE:
        found = [pieces.whole(source, size, fields) for source, size in files]
        return found, Estimate(*(float(sum(one.rows for one in found)),) * 3)
    groups, total = pieces.alike(files), sum(size for _, size in files)
    found, estimates = [], []
    for group in groups:
        size = sum(size for _, size in group)
        own = [pieces.look(piece, fields) for piece in pieces.lay_out(group, round(pieces.PIECES * size / total))]
        if not any(one.good or one.bad for one in own):
            own = [pieces.look(pieces.first(*group[0]), fields)]
        found += own
        estimates.append(_rows(own, size))
    return found, _sum(estimates)


def _sum(parts: list[Estimate]) -> Estimate:
    """Add estimates whose errors have nothing to do with each other."""
    value = sum(one.value for one in parts)
    below, above = (
        float(np.linalg.norm([one.value - one.low for one in parts])),
        float(np.linalg.norm([one.high - one.value for one in parts])),
    )
    return Estimate(value, value - below, value + above)


def _sample(files: Sequence[tuple[str, int]], found: list[Found], rows: Estimate, parsing: float) -> Sample:
    good = [(row, one.piece.source) for one in found for row in one.good]
    bad = [(fault, one.piece.source) for one in found for fault in one.bad]
    seen, total = len(good) + len(bad), sum(size for _, size in files)
    if not good:
        first = f"; the first: {bad[0][1]}: {bad[0][0].reason}" if bad else ""
        looked = f"{counted(seen, 'row')} looked at{first}"
        msg = f"{files[0][0]}: no usable document among the {looked}: check the path and the field"
        raise DataError(msg)
    return Sample(
        files=len(files),
        bytes=total,
        rows=rows.times(len(good) / seen),
        seen=seen,
        bytes_read=sum(one.bytes for one in found),
        bad=_reasons(bad, seen),
        text=tuple(row for row, _ in good),
        sources=tuple(source for _, source in good),
        row_bytes=_row_bytes(good, total / rows.value),
        parse_seconds=parsing / seen,
        beginnings=_beginnings(found),
    )


def _rows(found: list[Found], total: int) -> Estimate:
    """Estimate the rows of all files from those of the pieces."""
    share = np.array([one.piece.share for one in found], np.float64)
    density = np.array([one.rows / one.bytes if one.bytes else 0.0 for one in found])
    mean = float(np.average(density, weights=share))
    if len(found) == 1:
        spread = (_LONG_PIECE if found[0].rows >= _MANY else _ONE_PIECE) * mean
    else:
        deviation = np.sqrt(np.average((density - mean) ** 2, weights=share) / (len(found) - 1))
        spread = float(deviation) * (_T[len(found) - 2] if len(found) - 2 < len(_T) else _NORMAL)
    if any(pieces.is_beginning(one.piece) for one in found):
        spread += _UNSEEN * mean
    counted = float(sum(one.rows for one in found))
    if sum(one.bytes for one in found) >= total:
        return Estimate(counted, counted, counted)
    return Estimate(total * mean, max(min(counted, total * mean), total * (mean - spread)), total * (mean + spread))


def _beginnings(found: list[Found]) -> int:
    return len({one.piece.source for one in found if pieces.is_beginning(one.piece) and one.bytes < one.piece.size})


def _reasons(bad: list[tuple[Fault, str]], seen: int) -> tuple[Bad, ...]:
    counts = Counter(fault.reason for fault, _ in bad)
    first = {fault.reason: (fault, source) for fault, source in reversed(bad)}
    return tuple(
        Bad(reason, count / seen, first[reason][1], first[reason][0].value[:80])
        for reason, count in counts.most_common(_EXAMPLES)
    )


def _row_bytes(good: list[tuple[Row, str]], of_file: float) -> float:
    """Return the mean bytes of a row as it is written back: text in its own form, tables as they lie in the file."""
    own = [row.raw if isinstance(row.raw, str) else ",".join(row.raw) for row, _ in good]
    sizes = [len(raw.encode()) + 1 for raw in own if raw]
    return float(np.mean(sizes)) if sizes else of_file
