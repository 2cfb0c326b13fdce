"""The Rust core: the verbs over borrowed arrays, `gapsel.backends` their only caller."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gapsel.records import KeptPlan, Query

__all__ = ["DEBUG_BUILD", "__version__", "isas", "span_rows", "sweep", "sweep_kept", "topk"]

__version__: str
DEBUG_BUILD: bool

def isas(*, rough: bool = False) -> list[str]:
    """Return the instruction sets this machine can run, best first; the last is "portable".

    A name stands for what may be used: "avx512bf16" is AVX-512 in float32 sweeps, AVX512-BF16 in rough ones, and
    "amx" likewise AMX. With ``rough``, only those that multiply bfloat16.
    """

_Swept: TypeAlias = tuple[
    NDArray[np.float64],  # q (m,)
    float,  # value
    float,  # hard
    float,  # entropy
    tuple[NDArray[np.float64], NDArray[np.float64]] | None,  # gram (m, m), sum_i v_i (r_i - w_i) p_i (m,)
    tuple[NDArray[np.int64], NDArray[np.float32]] | None,  # top: rows (k,), f (k,)
]

def sweep(
    shards: Sequence[NDArray[np.floating]],  # float16, bfloat16 (of ml_dtypes) or float32
    query: Query,  # arrays in one piece: y float32; b and g float64; the box's float64 or float32; outputs as OUTPUTS
    *,
    first: int = 0,
    n: int | None = None,
    threads: int = 0,
    isa: str | None = None,
) -> _Swept:
    """Read the pool once, or the span of it that begins at row ``first`` of ``n`` (None: the shards are all of it).

    A span's share of the sums is in the units of the whole; the shares added in order are the whole's, bit for bit.
    """

def sweep_kept(kept: KeptPlan, query: Query, *, threads: int = 0, isa: str | None = None) -> _Swept:
    """Look at a kept plan at the query's g. It knows no hard minimum and no entropy: these are nan."""

def span_rows(columns: int, n: int, *, gram: bool = False, rough: bool = False, isa: str | None = None) -> int:
    """Return the rows of a span in a sweep of n rows against so many targets of positive weight.

    With a Gram it is a multiple of what it is without.
    """

def topk(values: NDArray[np.float32], k: int) -> NDArray[np.int64]: ...
