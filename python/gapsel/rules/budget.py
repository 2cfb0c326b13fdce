"""How much may be chosen: so many documents, or so many tokens, and which rows may not be chosen at all.

A row's capacity is the largest share of the selection that it may be: 1/k of k documents, and of a budget of T tokens
what it has of them, tokens_i / T. Rows that may not be chosen have none: they stay a part of the pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.errors import UsageError
from gapsel.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Budget:
    """``amount`` of n documents, or of tokens where ``sizes`` (n,) int32 says how many each row has.

    ``barred`` (n,) bool are the rows that may not be chosen, None where all may; of tokens, rows without any and rows
    with more than the whole budget are barred too. Raises UsageError where what may be chosen is less than the budget.
    """

    n: int
    amount: int
    sizes: NDArray[np.int32] | None = None
    barred: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.sizes is not None:
            unfit = (self.sizes < 1) | (self.sizes > self.amount)
            if unfit.any():
                object.__setattr__(self, "barred", unfit if self.barred is None else unfit | self.barred)
        there = self._there()
        if there < self.amount:
            raise UsageError(self._too_little(there))

    @property
    def rows(self) -> int:
        """About how many rows the budget holds: as many as there are in it of the mean size."""
        if self.sizes is None:
            return self.amount
        allowed = self.n if self.barred is None else self.n - np.count_nonzero(self.barred)
        return min(self.n, max(1, round(self.amount * allowed / self._there())))

    def units(self, rows: NDArray[np.int64] | slice) -> NDArray[np.int64]:
        """Return what some rows (r,) take of the budget."""
        if self.sizes is None:
            count = len(range(*rows.indices(self.n))) if isinstance(rows, slice) else len(rows)
            return np.ones(count, np.int64)
        return self.sizes[rows].astype(np.int64)

    def allowed(self) -> NDArray[np.int64]:
        """Return what each row (n,) may take of the budget, 0 for those that may not be chosen."""
        units = self.units(slice(None))
        if self.barred is not None:
            units[self.barred] = 0
        return units

    def capacity(self) -> float | NDArray[np.float64]:
        """Return the largest share of the selection that each row may be: one number, or (n,) where they differ."""
        if self.sizes is None and self.barred is None:
            return 1.0 / self.amount
        return self.allowed() / self.amount

    def shares(self, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Return what each of some rows (r,) is of them all by its tokens, sum 1; None where all count alike."""
        units = self.units(rows)
        return None if self.sizes is None or not units.any() else np.asarray(units / units.sum())

    def part(self, rows: NDArray[np.int64]) -> Budget:
        """Return the same budget for some rows (r,) alone, or as much of it as they have."""
        sizes = None if self.sizes is None else self.sizes[rows]
        barred = None if self.barred is None else self.barred[rows]
        units = self.units(rows) if barred is None else self.units(rows)[~barred]
        return Budget(len(rows), min(self.amount, int(units.sum())), sizes, barred)

    def _there(self) -> int:
        """Return how much of what is budgeted may be chosen in all."""
        if self.sizes is None:
            return self.n if self.barred is None else self.n - int(np.count_nonzero(self.barred))
        return int(self.sizes.sum(dtype=np.int64, where=True if self.barred is None else ~self.barred))

    def _too_little(self, there: int) -> str:
        if self.sizes is None:
            return (
                f"k is {self.amount:,}, and of {counted(self.n, 'document')} {there:,} may be chosen: choose fewer, "
                "or exclude less"
            )
        least = int(self.sizes[self.sizes > 0].min(initial=np.iinfo(np.int32).max))
        if least > self.amount:
            return (
                f"the budget is {counted(self.amount, 'token')}, and the shortest document has {least:,}: allow more "
                "(--tokens)"
            )
        return (
            f"the budget is {self.amount:,} tokens, and the documents that may be chosen have {there:,}, those of more "
            "than the whole budget aside: ask for fewer, or exclude less"
        )
