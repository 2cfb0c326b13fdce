"""Weights of rows: read from a file, checked, and recognised by their content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.errors import DataError
from gapsel.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 1 << 20


def content_hash(path: str | None) -> str | None:
    """Return a hash of a file of weights: the same name with other numbers is another fit."""
    if path is None:
        return None
    digest = hashlib.blake2b(digest_size=16)
    try:
        with Path(path).open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()
    except OSError as error:
        msg = f"{path}: the weights cannot be read ({error.strerror}): give a .npy file of numbers"
        raise DataError(msg) from error


def read_weights(path: str | None, count: int, side: str) -> NDArray[np.float64] | None:
    """Return the weights (count,) in a file, None without one. Raises DataError as check_weights does."""
    if path is None:
        return None
    try:
        with Path(path).open("rb") as stream:
            weights = np.lib.format.read_array(stream, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        msg = f"{path}: the {side}'s weights cannot be read ({error}): give a .npy file of {counted(count, 'number')}"
        raise DataError(msg) from error
    return check_weights(weights, count, f"{path}: the {side}'s weights")


def check_weights(weights: NDArray[Any], count: int, name: str) -> NDArray[np.float64]:
    """Return weights (count,) as float64.

    Raises DataError for another shape, negative or non-finite weights, and a sum that is 0 or not finite.
    """
    if weights.shape != (count,) or weights.dtype.kind not in "fiu":
        msg = f"{name} are {weights.dtype} of shape {weights.shape}: give {counted(count, 'number')}"
        raise DataError(msg)
    weights = weights.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if bad.size:
        msg = f"{name}: row {bad[0]} is {weights[bad[0]]}: weights are finite and not negative"
        raise DataError(msg)
    with np.errstate(over="ignore"):
        total = float(weights.sum())
    if not 0 < total < np.inf:
        msg = f"{name} sum to {total:g}: give at least one row some weight, and all of them a finite sum"
        raise DataError(msg)
    return weights
