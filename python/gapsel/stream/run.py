"""`gapsel score --model`: inputs in, scored rows out, in order, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from gapsel import corpus
from gapsel.calibration import CONFIDENCE, Threshold
from gapsel.errors import UsageError
from gapsel.stream.inputs import Inputs, Reading
from gapsel.stream.outputs import output, sending
from gapsel.wording import counted

if TYPE_CHECKING:
    import io
    from collections.abc import Callable
    from pathlib import Path

    from gapsel.stream.scorer import Scorer


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be scored, how it is read, and which rows are passed on: all, a share, or those up to a score."""

    inputs: tuple[str, ...] = ()
    reading: Reading = field(default_factory=Reading)
    keep: str | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.reading.batch_rows < 1:
            msg = f"batch_rows is {self.reading.batch_rows}: give at least 1"
            raise UsageError(msg)
        if self.threshold is not None and not np.isfinite(self.threshold):
            msg = f"threshold is {self.threshold}: give a score, a finite number"
            raise UsageError(msg)


@dataclass(slots=True)
class Summary:
    """What has happened so far: rows scored, rows passed on, rows set aside."""

    scored: int = 0
    kept: int = 0
    rejects: corpus.Rejects = field(default_factory=corpus.Rejects)

    def finish(self, rejected: Path | None) -> None:
        """Write the rows that were set aside, if somebody wants them."""
        if rejected is not None:
            self.rejects.finish(rejected)

    def in_words(self, rejected: Path | None) -> list[str]:
        """Say it, for people."""
        share = f", kept {self.kept:,} ({self.kept / self.scored:.3%})" if self.scored != self.kept else ""
        lines = [f"scored {counted(self.scored, 'document')}{share}; set aside {self.rejects.count:,}"]
        if self.rejects.count and rejected is not None:
            return [*lines, f"  see {rejected}"]
        for reason, times in self.rejects.by_reason.most_common():
            file, line, _, value = self.rejects.example[reason]
            lines.append(f"  {times:,} x {reason}, for example {file} row {line} {value}".rstrip())
        return lines


def run(
    scorer: Scorer,
    request: Request,
    stdin: io.BufferedReader,
    stdout: BinaryIO,
    *,
    summary: Summary,
    say: Callable[[str], None] = lambda _: None,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Score all inputs, and pass on what is asked for; ``summary`` is true at every moment.

    Raises UsageError for a share that the calibration does not support, DataError for what cannot be read.
    """
    limit = _limit(scorer, request, say)
    sent = output(request.reading.form, stdout)
    for part in Inputs(request.reading, scorer, summary.rejects).parts(request.inputs, stdin):
        scores = scorer.part(part)
        at = np.flatnonzero(scores <= limit)
        with sending():
            sent.write(part, at, scores)
        summary.scored += len(scores)
        summary.kept += len(at)
        advance(len(scores))
    with sending():
        sent.close()


def _limit(scorer: Scorer, request: Request, say: Callable[[str], None]) -> float:
    """Return the highest score that is passed on."""
    if request.keep is None:
        return np.inf if request.threshold is None else request.threshold
    kept = scorer.model.calibration.keep(request.keep)
    say(in_words(kept))
    return kept.score


def in_words(kept: Threshold) -> str:
    """Say what a threshold will keep."""
    which = "that the solver has not seen" if kept.fresh else "of the pool"
    share = (
        f"  of documents like the pool's that is {kept.share:.3%}, with {CONFIDENCE:.0%} confidence {kept.low:.3%} to "
        f"{kept.high:.3%} ({kept.rank:,} of {kept.rows:,} {which})"
    )
    lines = [f"keeps scores up to {kept.score!r}", share]
    seen = "  the solver has seen these, so that a stream may keep more; fit with --fit-rows to leave some out"
    return "\n".join(lines if kept.fresh else [*lines, seen])
