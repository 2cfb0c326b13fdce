"""The choice: rows in some order, each taken that keeps to all rules, until the budget is used.

The order is that of f, or that of a simple method.

Only as many of the first are looked at as it takes, four times as many each time they do not suffice, so that memory is
that of the choice and not of the pool. With a budget of documents and no further rule they are the choice.

Of tokens, a document that is larger than what is left is passed over; the first such document ends the choice once no
more than a hundredth of the budget is left, for what may still come is too little to look for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gapsel.lowest import lowest
from gapsel.rules.linear import least_mean
from gapsel.rules.order import ordered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from gapsel.rules.budget import Budget
    from gapsel.rules.quotas import Quota

    Read = Callable[[], Iterable[NDArray[np.float32]]]
    # From a count to so many rows (r,), the first of an order; fewer where it has no more.
    First = Callable[[int], NDArray[np.int64]]

# What is left of a budget of tokens when it counts as used.
_LITTLE = 100
# Candidates that are Python's numbers at a time.
_BATCH = 4096
# Candidates at first, beside twice the rows that the budget holds, and how many more of them the next time.
_SOME, _GROWTH = 16, 4


class Copies(Protocol):
    """Tells whether a row is a near copy of one that was kept before it."""

    def look(self, rows: NDArray[np.int64]) -> None:
        """Look at the next candidates (r,); what was kept stays kept."""
        ...

    def is_copy(self, at: int) -> bool:
        """Whether candidate ``at`` of these, which is asked for in their order, is a copy of a kept one."""
        ...

    def keep(self, at: int) -> None:
        """Keep candidate ``at``, the last that was asked for."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """A budget, and the quotas within it."""

    budget: Budget
    quotas: tuple[Quota, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether so many documents of lowest f are all that is asked for."""
        return self.budget.sizes is None and self.budget.barred is None and not self.quotas

    def least_mean(self, f: NDArray[np.float32], chosen: NDArray[np.int64]) -> float:
        """Return a bound from below on the mean of f (n,) of any choice as large as that of the chosen (k,)."""
        return least_mean(f, self.budget, self.quotas, int(self.budget.units(chosen).sum()))

    def choose_some(self, f: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places (k,) of those that are chosen of some rows (r,) with f (r,), as far as they go."""
        part = self.part(rows)
        return choose(lambda: ordered([f], barred=part.budget.barred), part).rows

    def part(self, rows: NDArray[np.int64]) -> Rules:
        """Return the same rules for some rows (r,) alone, or as much of the budget as they have."""
        return Rules(self.budget.part(rows), tuple(quota.part(rows) for quota in self.quotas))


@dataclass(slots=True)
class Choice:
    """The chosen rows (k,) in order of (f, row), and how many better rows were passed over.

    ``copies`` of chosen ones; ``too_large`` for what was left of the budget; ``over_quota`` counts them by quota, and
    ``full`` has, for each quota, the groups for which there was no more room.
    """

    rows: NDArray[np.int64]
    copies: int = 0
    too_large: int = 0
    over_quota: list[int] = field(default_factory=list)
    full: list[list[str]] = field(default_factory=list)


def choose(read: Read, rules: Rules, copies: Copies | None = None) -> Choice:
    """Choose under the rules; ``read`` yields f of all rows in batches, infinite for rows that may not be chosen.

    Fewer are chosen than the budget allows where no more rows keep to the rules (`check_met` tells whether that is so
    for the quotas, whatever f is).
    """
    walk = Walk(rules, copies)
    walk.through(lambda count: _below_infinity(read, count))
    return walk.finish()


def _below_infinity(read: Read, count: int) -> NDArray[np.int64]:
    """Return the rows of lowest f, so many or all that may be chosen."""
    rows, f = lowest(read, count)
    return rows[: np.searchsorted(f, np.inf)]


class Walk:
    """A choice in the making: what is taken of the rows that come, and what is left of the budget and of the quotas.

    ``barred`` (n,) rows are refused, besides those that the budget bars.
    """

    def __init__(self, rules: Rules, copies: Copies | None = None, barred: NDArray[np.bool_] | None = None) -> None:
        own = rules.budget.barred
        self._barred = own if barred is None else barred if own is None else own | barred
        self._rules, self._copies = rules, copies
        self._most = [quota.most(rules.budget.amount) for quota in rules.quotas]
        self._used: list[dict[int, int]] = [{} for _ in rules.quotas]
        self._left = rules.budget.amount
        self._taken: list[NDArray[np.int64]] = []
        self._choice = Choice(np.zeros(0, np.int64), over_quota=[0] * len(rules.quotas))
        self.full = False

    @property
    def expects(self) -> int:
        """About how many more rows there is room for, at least one."""
        budget = self._rules.budget
        return max(1, -(-budget.rows * self._left // budget.amount))

    def through(self, first: First) -> None:
        """Go through an order of rows until the budget is used, or there are no more."""
        n, done = self._rules.budget.n, 0
        plain = self._rules.plain and self._copies is None and self._barred is None
        count = min(n, self.expects if plain else 2 * self.expects + _SOME)
        while True:
            rows = first(count)
            self.offer(rows[done:])
            if self.full or len(rows) < count or count == n:
                return
            done, count = len(rows), min(n, _GROWTH * count)

    def along(self, order: NDArray[np.int64]) -> None:
        """Go through an order of rows (r,), all of which are known."""
        self.through(lambda count: order[:count])

    def offer(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Take those of the next candidates (r,) that keep to all rules, and tell which (r,)."""
        may = slice(None) if self._barred is None else np.flatnonzero(~self._barred[rows])
        taken = np.zeros(len(rows), np.bool_)
        taken[may] = self._go(rows[may])
        self._taken.append(rows[taken])
        return taken

    def room(self) -> NDArray[np.bool_]:
        """Tell for which rows (n,) there is room, in the budget and in their groups; not which were taken."""
        budget = self._rules.budget
        units = budget.units(slice(None))
        open_ = units <= self._left
        for quota, most, used in zip(self._rules.quotas, self._most, self._used, strict=True):
            left = np.full(int(quota.codes.max(initial=0)) + 1, most)
            left[np.fromiter(used, np.intp, len(used))] -= np.fromiter(used.values(), np.int64, len(used))
            open_ &= units <= left[quota.codes]
        return open_ if self._barred is None else open_ & ~self._barred

    def finish(self) -> Choice:
        """Return the choice."""
        self._choice.rows = np.concatenate([*self._taken, np.zeros(0, np.int64)])
        for quota, most, used in zip(self._rules.quotas, self._most, self._used, strict=True):
            least = 1 if self._rules.budget.sizes is None else most // _LITTLE + 1
            full = [code for code, units in used.items() if most - units < least]
            self._choice.full.append([quota.name(code) for code in full])
        return self._choice

    def _go(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        taken = np.zeros(len(rows), np.bool_)
        if self._copies is not None:
            self._copies.look(rows)
        for first in range(0, len(rows), _BATCH):
            if not self.full:
                taken[first : first + _BATCH] = self._some(rows[first : first + _BATCH], first)
        return taken

    def _some(self, rows: NDArray[np.int64], first: int) -> NDArray[np.bool_]:
        sizes = self._rules.budget.units(rows).tolist()
        groups = list(zip(*(quota.codes[rows].tolist() for quota in self._rules.quotas), strict=True))
        taken = np.zeros(len(rows), np.bool_)
        for at, size in enumerate(sizes):
            own = groups[at] if groups else ()
            taken[at] = self._fits(size, own) and not self._is_copy(first + at)
            if taken[at]:
                self._take(first + at, size, own)
            if self.full:
                break
        return taken

    def _fits(self, size: int, groups: tuple[int, ...]) -> bool:
        """Whether there is room for a row in its groups and in the budget."""
        if size > self._left:
            self._choice.too_large += 1
            self.full = self._left * _LITTLE <= self._rules.budget.amount
            return False
        for at, group in enumerate(groups):
            if self._used[at].get(group, 0) + size > self._most[at]:
                self._choice.over_quota[at] += 1
                return False
        return True

    def _is_copy(self, at: int) -> bool:
        found = self._copies is not None and self._copies.is_copy(at)
        self._choice.copies += found
        return found

    def _take(self, at: int, size: int, groups: tuple[int, ...]) -> None:
        if self._copies is not None:
            self._copies.keep(at)
        for used, group in zip(self._used, groups, strict=True):
            used[group] = used.get(group, 0) + size
        self._left -= size
        self.full = self._left == 0
