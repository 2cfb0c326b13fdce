"""Weights of the pool from a field of its documents, read as labels are, row for row beside their vectors.

They are written to the run folder, so that what follows reads n numbers and not the documents again.
"""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

import numpy as np

from gapsel import corpus
from gapsel.errors import DataError, UsageError
from gapsel.files import whole
from gapsel.pipeline.folder.run_folder import sign
from gapsel.pipeline.inputs.weights import check_weights
from gapsel.pipeline.vectors.sides import has_texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gapsel.config import Settings
    from gapsel.pipeline.work import Run


def read_own_weights(settings: Settings, count: int) -> NDArray[np.float64] | None:
    """Return the weights (count,) in a field of the pool's documents, None where the settings name no field.

    Raises UsageError where the pool has no documents, and DataError where none has the field, for a row without a
    finite number that is not negative, and for weights that sum to 0 or to infinity.
    """
    field = settings.weight_field
    if field is None:
        return None
    if not has_texts(settings, "pool"):
        msg = (
            f"weight_field is {field!r}, a field of documents, and the pool has vectors alone: give the documents "
            "beside them (--pool), or a file of weights (--pool-weights)"
        )
        raise UsageError(msg)
    # Where no document has the field the error says which fields there are, and not that the first row lacks it.
    any(value is not None for _, _, part in _values(settings, field) for value in part)
    found = array("d")
    for source, rows, part in _values(settings, field):
        found.extend(_weight(value, f"{source} row {row}", field) for row, value in zip(rows, part, strict=True))
    return check_weights(np.frombuffer(found), count, f"{', '.join(settings.pool)}: the weights in {field!r}")


def write_own_weights(run: Run) -> str | None:
    """Write the weights in the field that the settings name; return the file's name in the run, None without one."""
    s = run.settings
    weights = read_own_weights(s, run.pool.n)
    if weights is None:
        return None
    file = f"vectors/weights-{sign(s.weight_field, s.text_field, s.id_field)[:12]}.npy"
    with whole(run.path / file) as stream:
        np.save(stream, weights, allow_pickle=False)
    return file


def _values(settings: Settings, field: str) -> Iterator[tuple[str, NDArray[np.int64], list[str | None]]]:
    return corpus.labels(
        settings.pool, field, text_field=settings.text_field, id_field=settings.id_field, setting="weight_field"
    )


def _weight(value: str | None, place: str, field: str) -> float:
    try:
        # Python's own numbers may have underscores; those of data do not.
        weight = math.nan if value is None or "_" in value else float(value)
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        what = "nothing" if value is None else repr(value[:40])
        msg = (
            f"{place}: has {what} in {field!r}, and a weight is a finite number, not negative: repair it, or name "
            "another field (--weight-field)"
        )
        raise DataError(msg)
    return weight
