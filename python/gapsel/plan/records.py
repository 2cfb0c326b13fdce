"""The nouns of a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.plan.sample import Estimate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gapsel.corpus.rows import Row
    from gapsel.plan.cost import Disk, Machine, Memory, Problem
    from gapsel.plan.encoding import Encoding
    from gapsel.plan.machines import Room
    from gapsel.plan.ready import Ready
    from gapsel.plan.sample import Sample

# How far a run may go beyond what is said before it does not fit.
_MARGIN = 1.1


@dataclass(frozen=True, slots=True)
class Side:
    """What is known of a side: a sample of its texts, its ready-made vectors, what the encoder made of some texts."""

    name: str
    texts: Sample | None
    vectors: Ready | None
    encoding: Encoding | None = None

    @property
    def rows(self) -> Estimate:
        """The usable rows."""
        if self.vectors is not None:
            return Estimate(*(float(self.vectors.n),) * 3)
        return Estimate(0.0, 0.0, 0.0) if self.texts is None else self.texts.rows

    @property
    def embeds(self) -> bool:
        """Whether its texts have to be embedded."""
        return self.vectors is None

    @property
    def kept(self) -> tuple[Row, ...]:
        """The usable rows of the sample."""
        return () if self.texts is None else self.texts.text

    def tokens(self, most: int = 0) -> Estimate:
        """Return the tokens of all documents, each cut at ``most`` if that is given; none where there are vectors."""
        if self.encoding is None:
            return Estimate(0.0, 0.0, 0.0)
        mean, rows = self.encoding.mean_tokens(most), self.rows
        return Estimate(mean.value * rows.value, mean.low * rows.low, mean.high * rows.high)

    def some(self, d: int) -> NDArray[np.float32]:
        """Return some vectors (s, d) of this side; random ones where there are none."""
        if self.vectors is not None:
            return self.vectors.some
        if self.encoding is not None and len(self.encoding.vectors):
            return self.encoding.vectors
        return np.random.default_rng(0).standard_normal((64, d), np.float32)


@dataclass(frozen=True, slots=True)
class Change:
    """What could be changed, as flags or in words, and what the run would then take of what it lacks."""

    what: str
    helps: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would take; its sides are pool and target, and a base and what is to be avoided where these are given.

    ``seconds`` are those of each step on a machine with nothing else to do, nan where not known. ``busy`` is how many
    times longer this machine would take while it does what it did when it was measured; ``within`` what the run may
    take, in seconds; ``budget`` the tokens that are to be chosen, None where k says it.
    """

    sides: tuple[Side, ...]
    problem: Problem
    machine: Machine
    disk: Disk
    memory: Memory
    room: Room
    seconds: Mapping[str, float]
    within: float
    busy: float
    budget: int | None
    notes: tuple[str, ...]
    changes: tuple[Change, ...]

    @property
    def pool(self) -> Side:
        """The pool's side."""
        return self.sides[0]

    @property
    def target(self) -> Side:
        """The target's side."""
        return self.sides[1]

    @property
    def total(self) -> float:
        """The seconds of all steps that are known."""
        return math.fsum(value for value in self.seconds.values() if math.isfinite(value))

    @property
    def lacks(self) -> tuple[str, ...]:
        """What it does not fit into: "disk", "memory", "time"."""
        needs = {
            "disk": (_MARGIN * self.disk.total, self.room.disk),
            "memory": (_MARGIN * self.memory.total, self.room.memory),
            "time": (self.total, self.within),
        }
        return tuple(name for name, (wanted, there) in needs.items() if wanted > there)
