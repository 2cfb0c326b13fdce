"""Arrays of any make to what the solver takes, each checked and named where it does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import store
from gapsel.errors import DataError
from gapsel.pipeline.inputs.targets import Tasks
from gapsel.pipeline.inputs.weights import check_weights
from gapsel.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

_MATRIX = 2


def matrix(vectors: Any, name: str) -> NDArray[np.floating]:  # noqa: ANN401 - whatever NumPy makes an array of
    """Return the vectors as one C-ordered array of float16 or float32; what else floats becomes float32."""
    array = array_of(vectors, name)
    if array.dtype.kind == "O":
        # A column of lists, of a data frame or of Arrow: the rows are objects, each of them a vector.
        array = array_of(array.tolist(), name)
    # What no array of vectors can be is said here, with its name; rows are checked once all shards are there.
    if array.ndim != _MATRIX or array.dtype.kind != "f" or not array.size:
        store.check([array], name=name, normalize=False)
    with np.errstate(over="ignore"):
        return store.from_vectors(array).shards[0]


def shards_of(pool: Any) -> Sequence[Any]:  # noqa: ANN401 - as in _matrix
    """Return the arrays of a pool: a list of rows is one, as NumPy has it, a list of arrays several."""
    several = isinstance(pool, list | tuple) and not (len(pool) and np.ndim(pool[0]) == 1)
    return pool if several else [pool]


def array_of(values: ArrayLike, name: str) -> NDArray[Any]:
    """Return what NumPy makes of the values. Raises DataError, with the name, for what it can make no array of."""
    try:
        return np.asarray(values)
    # What torch and CuPy raise for a tensor on a device, with a gradient or of a type that NumPy has not.
    except (TypeError, ValueError, RuntimeError) as error:
        msg = f"{name}: cannot be read as an array ({error}): give floating numbers, all rows alike, in main memory"
        raise DataError(msg) from error


def for_rules(
    n: int, tokens: ArrayLike | None, barred: ArrayLike | None, fields: Mapping[str, ArrayLike]
) -> dict[str, Any]:
    """Return what rules are made of, each an array (n,) of its kind. Raises DataError for others."""
    return {
        "tokens": None if tokens is None else _of_rows(tokens, n, "tokens", "iu"),
        "barred": None if barred is None else _of_rows(barred, n, "barred", "b"),
        "fields": {field: _of_rows(values, n, f"fields[{field!r}]", "biufUS") for field, values in fields.items()},
    }


def _of_rows(values: ArrayLike, n: int, name: str, kinds: str) -> NDArray[Any]:
    array = array_of(values, name)
    if array.shape != (n,) or array.dtype.kind not in kinds:
        what = {"iu": "whole number", "b": "true or false"}.get(kinds, "number or text")
        msg = f"{name} are {array.dtype} of shape {array.shape}: give one {what} for each row, {n:,}"
        raise DataError(msg)
    return array


def count(shards: Sequence[NDArray[np.floating]]) -> int:
    """Return how many rows the shards have."""
    return sum(len(shard) for shard in shards)


def tasks_of(labels: ArrayLike | None, b: NDArray[np.float64]) -> Tasks:
    """Return the tasks of examples with weights b (m,); one without labels."""
    array = np.zeros(len(b), np.int64) if labels is None else array_of(labels, "tasks")
    if array.shape != b.shape or array.dtype.kind not in "iuUSb":
        msg = f"tasks are {array.dtype} of shape {array.shape}: give {counted(len(b), 'label')}, whole numbers or texts"
        raise DataError(msg)
    tasks = Tasks.by_label(array)
    tasks.check(b)
    return tasks


def weights_of(weights: ArrayLike | None, n: int, name: str) -> NDArray[np.float64] | None:
    """Return weights (n,), checked; None where there are none."""
    return None if weights is None else check_weights(array_of(weights, name), n, name)


def target_weights_of(weights: ArrayLike | None, m: int) -> NDArray[np.float64]:
    """Return the weights b (m,) of the examples, sum 1; all equal where none are given."""
    b = weights_of(weights, m, "target_weights")
    return np.full(m, 1.0 / m) if b is None else np.asarray(b / b.sum())
