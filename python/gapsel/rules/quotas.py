"""Quotas: one group of rows, of a source or a domain, may be at most a share of the budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.errors import UsageError
from gapsel.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gapsel.rules.budget import Budget


@dataclass(frozen=True, slots=True, eq=False)
class Quota:
    """Each group of a ``field`` may be at most ``share`` (0 to 1) of the budget.

    ``codes`` (n,) int32, from 0, says which group a row is of; ``names`` what some of the groups are called.
    """

    field: str
    share: float
    codes: NDArray[np.int32]
    names: Mapping[int, str]

    def most(self, amount: int) -> int:
        """Return the documents, or tokens, of a budget that one group may be."""
        # A share is typed in decimals: 0.29 of 100 is 29, and not the 28 that floats make of it.
        return int(self.share * amount + 1e-9 * amount)

    def name(self, code: int) -> str:
        """Return what a group is called."""
        return self.names.get(code, f"group {code}")

    def part(self, rows: NDArray[np.int64]) -> Quota:
        """Return the same quota for some rows (r,) alone."""
        return Quota(self.field, self.share, self.codes[rows], self.names)


def check_met(budget: Budget, quotas: Sequence[Quota]) -> None:
    """Raise UsageError for a quota under which the whole budget cannot be chosen."""
    for quota in quotas:
        most = quota.most(budget.amount)
        units = np.bincount(quota.codes, weights=budget.allowed())
        reach = int(np.minimum(units, most).sum())
        if reach < budget.amount:
            what = "document" if budget.sizes is None else "token"
            groups = int(np.count_nonzero(units))
            msg = (
                f"at_most {quota.field}={100 * quota.share:g}% cannot be met: the pool has {counted(groups, 'group')} "
                f"of {quota.field!r}, each may be at most {counted(most, what)}, and "
                f"that is {reach:,} of the {budget.amount:,} asked for: allow a larger share, or choose fewer"
            )
            raise UsageError(msg)
