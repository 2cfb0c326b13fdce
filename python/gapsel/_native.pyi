"""The Rust core: two verbs over borrowed arrays. `gapsel.backends.cpu` is its only caller."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["DEBUG_BUILD", "__version__", "isas", "sweep", "topk"]

__version__: str
DEBUG_BUILD: bool

def isas() -> list[str]:
    """Return the instruction sets this machine can run, best first; the last is "portable"."""

def sweep(
    shards: Sequence[NDArray[np.float16] | NDArray[np.float32]],
    y: NDArray[np.float32],
    b: NDArray[np.float64],
    g: NDArray[np.float64],
    lo: float | NDArray[np.float64],
    hi: float | NDArray[np.float64],
    *,
    eps: float,
    eta: float,
    cost: str,
    normalize: bool,
    gram: bool = False,
    k: int = 0,
    f: NDArray[np.float32] | None = None,
    hard: NDArray[np.float32] | None = None,
    nearest: NDArray[np.int32] | None = None,
    threads: int = 0,
    isa: str | None = None,
) -> tuple[
    NDArray[np.float64],  # q (m,)
    float,  # value
    float,  # hard
    float,  # entropy
    NDArray[np.float64] | None,  # gram (m, m)
    tuple[NDArray[np.int64], NDArray[np.float32]] | None,  # top: rows (k,), f (k,)
]: ...
def topk(values: NDArray[np.float32], k: int) -> NDArray[np.int64]: ...
