"""The linear system of a Newton step, without threads that stay awake.

OpenBLAS, which NumPy brings, lets its threads wait busily for more to do: they took 20 to 90 ms from the sweep after
each step (1,000 targets, two cores), and were of no use before, since up to some 2,000 unknowns one thread is as fast.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from threadpoolctl import ThreadpoolController

_FEW = 2048


def solved(matrix: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return matrix^-1 v (m,) of a regular matrix (m, m)."""
    with _libraries().limit(limits=1, user_api="blas") if len(v) < _FEW else nullcontext():
        return np.asarray(np.linalg.solve(matrix, v))


@cache
def _libraries() -> ThreadpoolController:
    """Find the libraries that NumPy computes with."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
