"""The two verbs a backend knows, and the choice among backends.

The solver, the selection and the tests speak to a backend through this protocol alone; a new machine (GPU, cluster)
is one more file in this folder.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from gapsel.errors import DeviceError, GapselError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from gapsel.records import KeptPlan, Query, Sweep

NAMES = ("auto", "cpu", "gpu", "ray", "reference")


class Keeper(Protocol):
    """A machine that can keep the plan of a sweep, and look at that again at another g, for far less than a sweep."""

    def sweep(self, shards: Sequence[NDArray[np.floating]], query: Query) -> Sweep:
        """Read the rows once, as a backend does; ``query.plan`` is an output like the others."""
        ...

    def sweep_kept(self, kept: KeptPlan, query: Query) -> Sweep:
        """Look at a kept plan at ``query.g``, at the eps, the target and the cost of the sweep that kept it.

        ``hard`` and ``entropy`` are nan, and of the outputs there is ``f`` alone. Raises DataError for shapes that do
        not fit.
        """
        ...


class Backend(Protocol):
    """A machine that can read the pool.

    The pool is a sequence of shards, each an (n_s, d) C-contiguous array of float16, float32 or bfloat16 (the type that
    ml_dtypes brings; the reference takes float64 too); together they are n rows, numbered across the shards. How the
    rows are cut into shards changes no bit of any result.
    """

    name: str
    # Differences of the dual below this share of it are rounding.
    resolution: float

    @property
    def identity(self) -> str:
        """What of the machine may change the last bits of an answer."""
        ...

    @property
    def keeper(self) -> Keeper | None:
        """Who can keep the plan of a few rows here, and look at it: None where a look at vectors costs no more."""
        ...

    def sweep(self, shards: Sequence[NDArray[np.floating]], query: Query) -> Sweep:
        """Read the pool once and return what records.Sweep lists, as records.Query says it is wanted.

        Raises DataError for shapes or values that do not fit, naming the first bad row, UsageError for settings.
        """
        ...

    def topk(self, values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Return the rows of the k lowest values, in order of (value, row)."""
        ...


def choose(name: str = "auto", threads: int = 0, *, ray: bool = False, gpu_share: float = 1.0) -> Backend:
    """Return the backend of that name; ``threads`` 0 means all the cores the process may use.

    "auto" is the GPU where there is one that agrees with the reference, else the CPU. With ``ray`` it is the cluster:
    for "gpu" its GPUs, of which each worker takes ``gpu_share``, else its processors. Raises MissingDependencyError or
    DeviceError where a GPU is asked for and cannot be had, ResourceError where a cluster cannot be reached.
    """
    if ray or name == "ray":
        from gapsel.backends.ray import RayBackend

        return RayBackend(threads, gpu_share if name == "gpu" else 0.0)
    if name == "gpu":
        from gapsel.backends.gpu import GpuBackend

        return GpuBackend()
    if name == "auto":
        return _gpu_if_sound() or choose("cpu", threads)
    if name == "cpu":
        from gapsel.backends.cpu import CpuBackend

        return CpuBackend(threads)
    if name == "reference":
        from gapsel.backends.reference import ReferenceBackend

        return ReferenceBackend()
    msg = f"backend {name!r} is unknown: choose one of {', '.join(NAMES)}"
    raise UsageError(msg)


def _gpu_if_sound() -> Backend | None:
    """Return the GPU backend; without CuPy or a GPU None, and with a warning None if a GPU is there but fails."""
    if find_spec("cupy") is None:
        return None
    from gapsel.backends.gpu import GpuBackend

    try:
        backend = GpuBackend()
    except GapselError:
        return None
    try:
        backend.examine()
    except DeviceError as error:
        warnings.warn(f"{error}. The CPU is used", RuntimeWarning, stacklevel=3)
        return None
    return backend
