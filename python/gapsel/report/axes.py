"""Axes: a straight or logarithmic map from numbers to places, and round numbers to mark on it.

Places are per cent of the width across, so that a chart fits every page while its letters keep their size, and
pixels from the top downwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gapsel.report.numbers import compact, number, power

_DECADES = 6  # more marks than that crowd a logarithmic axis


@dataclass(frozen=True, slots=True)
class Tick:
    """One mark on an axis: where, and what it reads."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """Numbers from ``low`` to ``high`` laid from ``start`` to ``end``; what lies outside is put on the edge."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return the place of a finite number."""
        low, high, value = (self._bend(v) for v in (self.low, self.high, value))
        part = (value - low) / (high - low)
        return self.start + (self.end - self.start) * min(1.0, max(0.0, part))

    def ticks(self, most: int = 6) -> tuple[Tick, ...]:
        """Return at most about ``most`` round numbers within the axis."""
        if self.log:
            return tuple(Tick(self.at(10.0**e), _decade(e)) for e in _decades(self.low, self.high))
        step = round_step((self.high - self.low) / most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return tuple(Tick(self.at(i * step), _plain(i * step, decimals)) for i in range(first, last + 1))

    def _bend(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.log else value


def round_step(rough: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that is not below ``rough``."""
    unit = 10.0 ** math.floor(math.log10(rough))
    return next((unit * f for f in (1, 2, 5) if unit * f >= rough * (1 - 1e-9)), 10 * unit)


def round_top(value: float, most: int = 5) -> float:
    """Return the first round mark at or above a positive number, 1 where there is none."""
    if not (math.isfinite(value) and value > 0):
        return 1.0
    step = round_step(value / most)
    return step * math.ceil(value / step - 1e-9)


def _decades(low: float, high: float) -> range:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return range(first, last + 1, max(1, math.ceil((last - first) / _DECADES)))


def _decade(exponent: int) -> str:
    return compact(10.0**exponent) if exponent >= 0 else power(10.0**exponent)


def _plain(value: float, decimals: int) -> str:
    if abs(value) >= 1000:  # noqa: PLR2004 - from here the unit letter is shorter
        return compact(value)
    return (
        number(0.0) if abs(value) < 10.0 ** -(decimals + 3) else f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}")
    )
