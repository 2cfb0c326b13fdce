"""What a sweep is asked for, checked: the noun that the parts of this backend hand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gapsel.backends.gpu.operands import Form
    from gapsel.backends.gpu.rows import PoolRows
    from gapsel.records import Query


@dataclass(frozen=True, slots=True)
class Job:
    """One call of `sweep`.

    ``pool`` has rows of a pool of ``n``, which are swept ``span`` at a time. The bounds of the ``query``'s box and its
    outputs, on the host, are those of the pool's rows here. ``keep`` are the targets of positive weight; ``fused``
    allows the stage of that name.
    """

    pool: PoolRows
    n: int
    span: int
    query: Query
    keep: NDArray[np.intp]
    form: Form
    fused: bool

    def wants(self, name: str) -> bool:
        """Whether this output is asked for, or needed for the k lowest."""
        return name in self.query.outputs or (name == "f" and self.query.k > 0)

    def at(self, rows: range) -> slice:
        """Return where rows, known by their numbers in the whole, lie among those here."""
        first = self.pool.rows.start
        return slice(rows.start - first, rows.stop - first)
