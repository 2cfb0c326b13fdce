"""The labels of one side, row for row beside its vectors: what the report judges by, and the choice never sees."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel import corpus
from gapsel.errors import UsageError
from gapsel.pipeline.vectors.sides import has_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.config import Settings
    from gapsel.pipeline.work import Run


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of one side: ``codes`` (n,) int32 in the store's order, and the ``names`` they stand for.

    Without labels both are empty.
    """

    codes: NDArray[np.int32]
    names: tuple[str | None, ...] = ()

    def __bool__(self) -> bool:
        return bool(len(self.codes))

    def of(self, row: int) -> str | None:
        """Return the label of one row, None where there is none."""
        return self.names[self.codes[row]] if self else None

    def part(self, rows: NDArray[np.intp]) -> Labels:
        """Return the labels of some rows, and only the names that occur there."""
        if not self:
            return self
        there, codes = np.unique(self.codes[rows], return_inverse=True)
        return Labels(codes.reshape(-1).astype(np.int32), tuple(self.names[code] for code in there))

    def akin(self, target: Labels) -> NDArray[np.bool_]:
        """Return whether each row's label (n,) is one of the target's."""
        wanted = {name for name in target.names if name is not None}
        return np.isin(self.codes, [code for code, name in enumerate(self.names) if name in wanted])

    def shares(self, rows: NDArray[np.int64]) -> dict[str, float]:
        """Return what share of some rows has each label that occurs there, the largest first."""
        counted = self.count(rows)
        return {name: count / len(rows) for name, count in counted.most_common()}

    def count(self, rows: NDArray[np.int64] | None = None) -> Counter[str]:
        """Return how often each label occurs, in all rows or in some."""
        counts = np.bincount(self.codes if rows is None else self.codes[rows], minlength=len(self.names))
        return Counter({_name(name): int(count) for name, count in zip(self.names, counts, strict=True) if count})


def read_labels(run: Run, side: str) -> Labels:
    """Read the labels of a side; empty where there are none to be had."""
    none, settings = Labels(np.zeros(0, np.int32)), run.settings
    if settings.label_field is None or not has_texts(settings, side):
        return none
    paths: Sequence[str] = getattr(settings, side)
    found = corpus.labels(paths, settings.label_field, text_field=settings.text_field, id_field=settings.id_field)
    code_of, codes = dict[str | None, int](), array("i")
    try:
        for _, _, part in found:
            codes.extend(code_of.setdefault(label, len(code_of)) for label in part)
    except corpus.MissingLabelError:
        # The target's examples need no labels; those of the pool do, since the user asked for them.
        if side == "pool":
            raise
        return none
    return Labels(np.frombuffer(codes, np.int32), tuple(code_of))


def has_labels(settings: Settings, side: str) -> bool:
    """Tell whether any document of a side has a label; it is read as far as the first."""
    if settings.label_field is None or not has_texts(settings, side):
        return False
    paths: Sequence[str] = getattr(settings, side)
    found = corpus.labels(paths, settings.label_field, text_field=settings.text_field, id_field=settings.id_field)
    try:
        return any(label is not None for _, _, part in found for label in part)
    except corpus.MissingLabelError:
        return False


def check_labels(settings: Settings) -> None:
    """Raise, before the long work begins, where labels are asked for that are not there."""
    if settings.label_field is None:
        return
    if not has_texts(settings, "pool"):
        msg = (
            f"label_field is {settings.label_field!r}, and the pool has no texts to take labels from: give them beside "
            "the vectors (--pool), or leave the labels out"
        )
        raise UsageError(msg)
    found = corpus.labels(
        settings.pool, settings.label_field, text_field=settings.text_field, id_field=settings.id_field
    )
    # Reads as far as the first label, and raises at the end of a pool that has none.
    any(label is not None for _, _, part in found for label in part)


def _name(label: str | None) -> str:
    return "(none)" if label is None else label
