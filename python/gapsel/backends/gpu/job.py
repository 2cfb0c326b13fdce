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

    ``pool`` has rows of a pool of ``n``, which are swept ``span`` at a time. ``keep`` are the targets of positive
    weight; ``fused`` allows the stage of that name. The bounds of ``box`` and the ``outputs`` on the host, where wanted
    (f, hard and nearest), are those of the pool's rows here.
    """

    pool: PoolRows
    n: int
    span: int
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

    def at(self, rows: range) -> slice:
        """Return where rows, known by their numbers in the whole, lie among those here."""
        first = self.pool.rows.start
        return slice(rows.start - first, rows.stop - first)
