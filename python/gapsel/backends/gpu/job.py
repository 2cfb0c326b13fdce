"""What a sweep is asked for, checked: the noun that the parts of this backend hand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from gapsel.backends.gpu.operands import Form
    from gapsel.backends.gpu.rows import PoolRows
    from gapsel.records import Box, Cost, Target


@dataclass(frozen=True, slots=True)
class Job:
    """One call of `sweep`.

    ``keep`` are the targets of positive weight; ``fused`` allows the stage of that name; ``outputs`` are f, hard and
    nearest (n,) of the host, where wanted.
    """

    pool: PoolRows
    target: Target
    keep: NDArray[np.intp]
    g: NDArray[np.float64]
    box: Box
    eps: float
    cost: Cost
    form: Form
    gram: bool
    k: int
    rough: bool
    fused: bool
    outputs: Mapping[str, NDArray[Any] | None]

    def wants(self, name: str) -> bool:
        """Whether this output is asked for, or needed for the k lowest."""
        return self.outputs[name] is not None or (name == "f" and self.k > 0)
