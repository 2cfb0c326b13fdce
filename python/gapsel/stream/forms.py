"""The forms in which a batch comes from other people's pipelines: Arrow, a dict of columns, a pandas frame.

A column is read as an Arrow array, and new ones go back in the form that the batch came in. Ray Data, Spark and
`datasets` hand over one or the other; pandas is known by what its frames can do, and never imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from gapsel import corpus
from gapsel.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MATRIX = 2


class Form(Protocol):
    """A batch, whatever its form."""

    @property
    def names(self) -> list[str]:
        """The names of its columns."""
        ...

    def column(self, name: str) -> pa.Array:
        """Return a column in one piece. Raises DataError for values that are not of one type."""
        ...

    def with_columns(self, new: Mapping[str, NDArray[Any]]) -> Any:  # noqa: ANN401 - of the same form
        """Return the batch with ``new`` columns, (n,) or (n, d), in the place of any of these names.

        NaN, in a vector its first number, stands for no value; it becomes null where a form has that.
        """
        ...


@dataclass(frozen=True, slots=True)
class Arrow:
    """A table or record batch."""

    batch: pa.Table | pa.RecordBatch

    @property
    def names(self) -> list[str]:
        """See Form."""
        names: list[str] = self.batch.schema.names
        return names

    def column(self, name: str) -> pa.Array:
        """See Form; of a type that extends another, such as Ray's tensors, what it is stored as."""
        column = self.batch.column(name)
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        return column.storage if isinstance(column, pa.ExtensionArray) else column

    def with_columns(self, new: Mapping[str, NDArray[Any]]) -> pa.Table | pa.RecordBatch:
        """See Form."""
        batch = self.batch
        for name, values in new.items():
            batch = corpus.with_column(batch, name, arrow_of(values))
        return batch


@dataclass(frozen=True, slots=True)
class Columns:
    """A dict of arrays or lists."""

    batch: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        """See Form."""
        return list(self.batch)

    def column(self, name: str) -> pa.Array:
        """See Form."""
        values = self.batch[name]
        try:
            array = values if isinstance(values, list) else np.asarray(values)
            if isinstance(array, np.ndarray) and array.ndim == _MATRIX:
                return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])
            return pa.array(array, from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError) as error:
            msg = f"column {name!r} of a batch holds values that are not of one type ({error}): make them alike"
            raise DataError(msg) from error

    def with_columns(self, new: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """See Form."""
        return {**self.batch, **new}


@dataclass(frozen=True, slots=True)
class Frame(Columns):
    """A pandas frame, whose columns are read like those of a dict."""

    batch: Any

    def with_columns(self, new: Mapping[str, NDArray[Any]]) -> Any:  # noqa: ANN401 - a pandas.DataFrame
        """See Form; a vector is an array in its row."""
        return self.batch.assign(**{name: list(one) if one.ndim == _MATRIX else one for name, one in new.items()})


def form_of(batch: object) -> Form:
    """Return the form of a batch. Raises UsageError for one that is none of them."""
    if isinstance(batch, pa.Table | pa.RecordBatch):
        return Arrow(batch)
    if isinstance(batch, Mapping):
        return Columns(batch)
    if hasattr(batch, "assign") and hasattr(batch, "columns"):
        return Frame(batch)
    msg = (
        f"a batch is of type {type(batch).__name__}: give a pyarrow Table or RecordBatch, a dict of columns, or a "
        "pandas DataFrame"
    )
    raise UsageError(msg)


def arrow_of(values: NDArray[Any]) -> pa.Array:
    """Return values (n,), or vectors (n, d), as Arrow has them: null where they are NaN."""
    if values.ndim < _MATRIX:
        return pa.array(values, from_pandas=True)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    none = np.isnan(values[:, 0])
    return rows.take(pa.array(np.arange(len(values)), mask=none)) if none.any() else rows
