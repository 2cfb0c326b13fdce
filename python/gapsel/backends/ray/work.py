"""Pieces of work on their way: handed out, lost, done twice, taken in order."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gapsel.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Item = TypeVar("Item")
Result = TypeVar("Result")

# A piece may be lost so often, and so many workers of one machine in a row, before it is given up.
TRIES = 4
# Work counts as late after so many times what work takes, and so many seconds more.
_LATE = (3.0, 2.0)


@dataclass(slots=True, eq=False)
class Member:
    """A worker, the machine it is on, its place among the others, and its process once it has begun.

    ``behind`` is what it is still at of calls that are over: until then others are asked.
    """

    actor: Any
    node: str
    seat: int
    hello: Any
    process: int = 0
    behind: set[Any] = field(default_factory=set)

    @property
    def joined(self) -> bool:
        """Whether it has begun."""
        return self.process > 0


@dataclass(slots=True)
class Work(Generic[Item, Result]):
    """One call of `Crew.map`, whose items are known by their number in it.

    ``started`` and ``taken`` count the items that were begun and the results that were yielded; ``known`` are those in
    between, of which some are ``waiting``, some ``running`` (reference: worker, item, since when) and some ``done``.
    """

    items: Iterator[Callable[[], Item]]
    started: int = 0
    taken: int = 0
    known: dict[int, Callable[[], Item]] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)
    running: dict[Any, tuple[Member, int, float]] = field(default_factory=dict)
    done: dict[int, Result | Exception] = field(default_factory=dict)
    losses: dict[int, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def pull(self, most: int) -> bool:
        """Take up new items while fewer than ``most`` are on their way; tell whether any are."""
        while len(self.known) < most:
            item = next(self.items, None)
            if item is None:
                break
            self.known[self.started] = item
            self.waiting.append(self.started)
            self.started += 1
        return bool(self.known)

    def load(self, member: Member) -> int:
        """Return how many items a worker has."""
        return sum(who is member for who, _, _ in self.running.values())

    def next_for(self, member: Member, seats: int) -> int | None:
        """Return the item that a worker is to do: its own if there is one, as it was in the sweep before."""
        if self.waiting:
            own = next((index for index in self.waiting if index % seats == member.seat % seats), self.waiting[0])
            self.waiting.remove(own)
            return own
        return self._late(member)

    def _late(self, member: Member) -> int | None:
        """Return an item that somebody else takes too long for, if this worker has nothing to do."""
        if not self.seconds or self.load(member):
            return None
        factor, more = _LATE
        limit = time.monotonic() - factor * median(self.seconds) - more
        several = [index for _, index, _ in self.running.values()]
        late = [
            index
            for _, index, began in self.running.values()
            if began < limit and several.count(index) == 1 and index in self.known and index not in self.done
        ]
        return min(late, default=None)

    def settle(self, index: int, result: Result | Exception) -> None:
        """Note a result, unless it is there already."""
        if index in self.known:
            self.done.setdefault(index, result)

    def lose(self, index: int, why: str) -> None:
        """Hand an item out again, unless somebody else is at it, or raise ResourceError: it is lost too often."""
        if index not in self.known or index in self.done or any(at == index for _, at, _ in self.running.values()):
            return
        self.losses[index] = self.losses.get(index, 0) + 1
        if self.losses[index] >= TRIES:
            msg = f"the cluster lost one piece of work {TRIES} times ({why}): give its machines more memory"
            raise ResourceError(msg)
        self.waiting.insert(0, index)

    def take(self) -> Iterator[Result]:
        """Yield the results that are next. Raises the error that one of them is."""
        while self.taken in self.done:
            result = self.done.pop(self.taken)
            del self.known[self.taken]
            self.taken += 1
            if isinstance(result, Exception):
                raise result
            yield result
