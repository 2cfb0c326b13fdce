"""The linear system of a Newton step, by conjugate gradients around its diagonal.

Where rows share their mass among many columns, few eigenvalues of such a matrix lie apart from the others: on text, at
eps from 0.05 to 0.01 of the mean cost, ten to twenty products with a vector are as good as a factorisation (2 to 3.2
ms in place of 22 for 1,000 unknowns, by a script that is not kept). Those in float32 take half as long as in float64,
and a Gram of plans in eight bits, or of rows rounded to bfloat16, has no more digits. Where that fails there is a
factorisation still. Tried: three digits in place of four, in half of the time; two are too few at a kink.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np

from gapsel.blas import one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Up to so many unknowns one thread is as fast as several (blas.py).
_FEW = 2048
# What is left of the error, in the norm of the matrix, and after how many products a factorisation would be as cheap.
_LEFT, _PRODUCTS = 1e-4, 100


def solved(diagonal: NDArray[np.float64], gram: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (diag(diagonal) - gram)^-1 v (m,), for a diagonal (m,) and a Gram (m, m) that leave a regular matrix."""
    with one_thread() if len(v) < _FEW else nullcontext():
        found = _by_conjugate_gradients(diagonal, gram, v)
        return _by_factorisation(diagonal, gram, v) if found is None else found


def _by_conjugate_gradients(
    diagonal: NDArray[np.float64], gram: NDArray[np.float64], v: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return the solution to four digits; None if the matrix is not positive, or too far from its diagonal."""
    own = diagonal - gram.diagonal()
    if not np.all(own > 0):
        return None
    narrow = gram.astype(np.float32)
    x, rest = np.zeros_like(v), v.copy()
    way = rest / own
    first = size = float(rest @ way)
    for _ in range(_PRODUCTS):
        if size <= _LEFT**2 * first:
            return x
        image = diagonal * way - narrow @ way.astype(np.float32)
        bend = float(way @ image)
        if not bend > 0:
            return None
        x += (size / bend) * way
        rest -= (size / bend) * image
        scaled = rest / own
        size, before = float(rest @ scaled), size
        way *= size / before
        way += scaled
    return None


def _by_factorisation(
    diagonal: NDArray[np.float64], gram: NDArray[np.float64], v: NDArray[np.float64]
) -> NDArray[np.float64]:
    matrix = -gram
    matrix[np.diag_indices_from(matrix)] += diagonal
    return np.asarray(np.linalg.solve(matrix, v))
