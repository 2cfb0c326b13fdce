"""The linear system of a Newton step; up to some 2,000 unknowns one thread is as fast as several (blas.py).

Looks at a kept plan share a Gram, and so a matrix: it is factored once (15 ms of 1,000 unknowns), and each step after
that is a substitution (1.6 ms).
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.blas import one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEW = 2048
# Unknowns of a block of the triangle: 32 and 128 are no faster.
_BLOCK = 64


@dataclass(frozen=True, slots=True)
class Factored:
    """A positive definite matrix L L' by its lower triangle (m, m); many systems can be solved for the price of one."""

    lower: NDArray[np.float64]

    @classmethod
    def of(cls, matrix: NDArray[np.float64]) -> Factored | None:
        """Factor a matrix (m, m) of at most some 2,000 rows, which is worth keeping; None if it cannot be."""
        if len(matrix) >= _FEW:
            return None
        with one_thread(), suppress(np.linalg.LinAlgError):
            return cls(np.asarray(np.linalg.cholesky(matrix), np.float64))
        return None

    def solved(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return matrix^-1 v (m,), by substitution forwards and backwards."""
        x, lower = v.copy(), self.lower
        blocks = [slice(start, start + _BLOCK) for start in range(0, len(v), _BLOCK)]
        with one_thread():
            for block in blocks:
                rest = x[block] - lower[block, : block.start] @ x[: block.start]
                x[block] = np.linalg.solve(lower[block, block], rest)
            for block in reversed(blocks):
                rest = x[block] - x[block.stop :] @ lower[block.stop :, block]
                x[block] = np.linalg.solve(lower[block, block].T, rest)
        return x


def solved(matrix: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return matrix^-1 v (m,) of a regular matrix (m, m)."""
    with one_thread() if len(v) < _FEW else nullcontext():
        return np.asarray(np.linalg.solve(matrix, v))
