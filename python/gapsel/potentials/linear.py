"""The linear system of a Newton step, without threads that stay awake.

OpenBLAS, which NumPy brings, lets its threads wait busily for more to do: they took 20 to 90 ms from the sweep after
each step (1,000 targets, two cores), and were of no use before, since up to some 2,000 unknowns one thread is as fast.

Looks at a kept plan share a Gram, and so a matrix: it is factored once (15 ms of 1,000 unknowns), and each step after
that is a substitution (1.6 ms).
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from threadpoolctl import ThreadpoolController

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
        with _one_thread(), suppress(np.linalg.LinAlgError):
            return cls(np.asarray(np.linalg.cholesky(matrix), np.float64))
        return None

    def solved(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return matrix^-1 v (m,), by substitution forwards and backwards."""
        x, lower = v.copy(), self.lower
        blocks = [slice(start, start + _BLOCK) for start in range(0, len(v), _BLOCK)]
        with _one_thread():
            for block in blocks:
                rest = x[block] - lower[block, : block.start] @ x[: block.start]
                x[block] = np.linalg.solve(lower[block, block], rest)
            for block in reversed(blocks):
                rest = x[block] - x[block.stop :] @ lower[block.stop :, block]
                x[block] = np.linalg.solve(lower[block, block].T, rest)
        return x


def solved(matrix: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return matrix^-1 v (m,) of a regular matrix (m, m)."""
    with _one_thread() if len(v) < _FEW else nullcontext():
        return np.asarray(np.linalg.solve(matrix, v))


def _one_thread() -> AbstractContextManager[object]:
    limit: AbstractContextManager[object] = _libraries().limit(limits=1, user_api="blas")
    return limit


@cache
def _libraries() -> ThreadpoolController:
    """Find the libraries that NumPy computes with."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
