"""Distances to the target, known between two bounds, and how far a choice is from the best one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """The unregularised transport cost between two weighted sets lies between these two numbers."""

    lower: float
    upper: float

    def __repr__(self) -> str:
        """Say it as it is printed everywhere."""
        return f"{self.lower:.3f} .. {self.upper:.3f}"

    @property
    def middle(self) -> float:
        """The middle of the interval, to compare by where intervals are narrow."""
        return 0.5 * (self.lower + self.upper)


@dataclass(frozen=True, slots=True)
class Distances:
    """What a selection does: the distance to the target of the pool, and of its mixture with the selection.

    At mass 0 the mixture is the pool, at mass 1 the selection alone.
    """

    before: Interval
    after: Interval


@dataclass(frozen=True, slots=True)
class Certificate:
    """How far, at most, the selection is from the best one of its size at its mass.

    ``before`` and ``after`` are the regularised distance to the target of the pool and of the mixture with the
    selection, looked at once more; ``gap`` bounds what any other choice of k could still gain; ``percent`` is the gap
    in per cent of the attainable gain, before - after + gap. ``rest``, which ``after`` and ``gap`` include, bounds what
    the mixture's distance lies above the last look's dual value (primal.py), so that both are bounds too: ``before`` is
    never more than the pool's distance, ``after`` never less than the mixture's. Of a mixture of domains ``rest`` is an
    estimate, by a sample of the pool.
    """

    before: float
    after: float
    gap: float
    percent: float
    rest: float

    def __repr__(self) -> str:
        """Say it with as many digits as people read."""
        numbers = (f"{name}={getattr(self, name):.4g}" for name in ("before", "after", "gap", "percent", "rest"))
        return f"Certificate({', '.join(numbers)})"
