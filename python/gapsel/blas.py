"""NumPy's matrix products and solvers on one thread, for matrices that one thread does as fast.

OpenBLAS, which NumPy brings, lets its threads wait busily for more to do: they took 20 to 90 ms from the sweep after
each of its calls (1,000 targets, two cores). And its sums depend on the number of threads, which one thread's do not.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager[object]:
    """Return a context in which NumPy computes on one thread."""
    limit: AbstractContextManager[object] = _libraries().limit(limits=1, user_api="blas")
    return limit


@cache
def _libraries() -> ThreadpoolController:
    """Find the libraries that NumPy computes with."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
