"""The tasks that a target is made of: which examples belong to which, and what each of them weighs to begin with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gapsel import corpus, store
from gapsel.errors import DataError, UsageError
from gapsel.potentials import Weighing, weighted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gapsel.config import Settings
    from gapsel.records import Target

# One example has no spread: what its share is worth nobody can tell.
_FEWEST = 2


@dataclass(frozen=True, slots=True)
class Tasks:
    """The tasks of a target, by name, and the number of the task of each example: ``of`` (m,)."""

    names: tuple[str, ...]
    of: NDArray[np.intp]

    @classmethod
    def by_label(cls, labels: NDArray[np.generic]) -> Tasks:
        """Return the tasks that labels (m,) tell apart."""
        names, of = np.unique(labels, return_inverse=True)
        return cls(tuple(map(str, names.tolist())), of.reshape(-1).astype(np.intp))

    @property
    def several(self) -> bool:
        """Whether there is more than one."""
        return len(self.names) > 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many examples each task has (t,)."""
        return np.bincount(self.of, minlength=len(self.names))

    def shares(self, b: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weight (t,) of each task."""
        return np.asarray(np.bincount(self.of, b, len(self.names)), np.float64)

    def check(self, b: NDArray[np.float64] | None) -> None:
        """Raise DataError for a task, of several, with one example or, by the weights b (m,), with none."""
        counts = self.counts
        for name, count in zip(self.names, counts.tolist(), strict=True) if self.several else ():
            if count < _FEWEST:
                msg = (
                    f"target: the task {name!r} has {count} example: give it {_FEWEST} or more, or count it in with "
                    "another task (--target one.jsonl other.jsonl)"
                )
                raise DataError(msg)
        weights = counts if b is None else self.shares(b)
        if not np.all(weights > 0):
            name = self.names[int(np.argmin(weights))]
            msg = f"target: all examples of the task {name!r} have weight 0: give one of them some, or leave it out"
            raise DataError(msg)

    def posed(self, target: Target, settings: Settings) -> tuple[Target, Weighing]:
        """Return the target as it is to begin with, and what of its weights is then to be found by the solver."""
        apart = self.several and settings.balance != "examples"
        weighing = Weighing(self.of, level=apart and settings.balance == "gap", robust=settings.robust)
        even = np.full(len(self.names), 1.0 / len(self.names))
        return weighted(target, self.of, even) if apart else target, weighing


def read_tasks(settings: Settings, rows: Mapping[str, int]) -> Tasks:
    """Return the tasks of examples that come, in this order, from sources with so many rows each.

    Raises UsageError where ``paths_per_task`` does not fit the paths, or a file is of two tasks.
    """
    total = sum(rows.values())
    if not settings.paths_per_task:
        return Tasks(("target",), np.zeros(total, np.intp))
    paths = _cut(settings.target or settings.target_vectors, settings.paths_per_task)
    find = corpus.sources if settings.target else store.files
    task_of = dict[str, int]()
    for number, own in enumerate(paths):
        for file in find(own):
            if task_of.setdefault(file, number) != number:
                msg = f"{file}: is in two tasks of the target: name it in one of them"
                raise UsageError(msg)
    of = np.repeat([task_of[source] for source in rows], list(rows.values())).astype(np.intp)
    return Tasks(_names(paths), of)


def _cut(paths: Sequence[str], counts: Sequence[int]) -> list[tuple[str, ...]]:
    if sum(counts) != len(paths):
        msg = f"paths_per_task is {tuple(counts)}, and the target has {len(paths)} paths: let them add up to that"
        raise UsageError(msg)
    ends = np.cumsum(counts).tolist()
    return [tuple(paths[end - count : end]) for end, count in zip(ends, counts, strict=True)]


def _names(paths: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return a name for each task: that of its first file, where those differ."""
    short = [Path(own[0]).name.split(".")[0] or own[0] for own in paths]
    often = Counter(short)
    return tuple(name if often[name] == 1 else own[0] for name, own in zip(short, paths, strict=True))
