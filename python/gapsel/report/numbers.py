"""Numbers and texts as a reader wants them: sensible digits, units, and a dash where nothing was measured.

No function here lets nan or inf through. Bounds are rounded to the safe side, so that the page never claims more
than was measured.
"""

from __future__ import annotations

import math
import re
from typing import TypeGuard

UNKNOWN = "–"
MINUS = "\N{MINUS SIGN}"
NARROW = "\N{NARROW NO-BREAK SPACE}"
ELLIPSIS = "…"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")
_FIXED = (1e-3, 1e6)
_MINUTE, _HOUR = 60, 3600


def known(value: float | None) -> TypeGuard[float]:
    """Return whether there is a finite number to print."""
    return value is not None and math.isfinite(value)


def integer(value: int) -> str:
    """Return a count with separators: 1,000,000."""
    return f"{value:,}".replace("-", MINUS)


def compact(value: float) -> str:
    """Return a count for an axis: 500, 20k, 3M, 1G."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a measured number with so many significant digits, as a power of ten where it is tiny or huge."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0"
    if not _FIXED[0] <= abs(value) < _FIXED[1]:
        return power(value, digits)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def power(value: float, digits: int = 2) -> str:
    """Return a finite number as 8.1 × 10⁻⁵, and as 10⁻³ where the factor is one."""
    mantissa, _, exponent = f"{value:.{max(0, digits - 1)}e}".partition("e")
    ten = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
    if float(mantissa) == 1:
        return ten
    return f"{mantissa.replace('-', MINUS)}{NARROW}×{NARROW}{ten}"


def setting(value: float) -> str:
    """Return a number that somebody chose, as it was written: 0.5, not 0.500."""
    text = number(value)
    return text.rstrip("0").rstrip(".") if re.fullmatch(r"\D?\d*\.\d+", text) else text


def error(value: float | None) -> str:
    """Return a marginal error: two digits."""
    return number(value, 2)


def share(value: float | None) -> str:
    """Return a fraction in per cent; what is not quite nothing or not quite all never reads as 0 or 100."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    percent = 100 * value
    if 0 < percent < 0.01:  # noqa: PLR2004 - the smallest share that two decimals can say
        return f"<{NARROW}0.01{NARROW}%"
    if 99.95 <= percent < 100:  # noqa: PLR2004 - the next would read 100 %
        return f">{NARROW}99.9{NARROW}%"
    decimals = 0 if percent == 0 else 2 if percent < 0.995 else 1 if percent < 9.95 or 99 < percent < 100 else 0  # noqa: PLR2004
    return f"{percent:.{decimals}f}{NARROW}%".replace("-", MINUS)


def at_most(percent: float) -> str:
    """Return an upper bound in per cent, two significant digits, rounded up."""
    if percent <= 0:
        return f"0{NARROW}%"
    decimals = min(4, max(0, 1 - math.floor(math.log10(percent))))
    # The small slack keeps 1.3, which binary cannot hold, from becoming 1.4.
    return f"{math.ceil(percent * 10**decimals - 1e-9) / 10**decimals:.{decimals}f}{NARROW}%"


def duration(seconds: float | None) -> str:
    """Return a time as 0.42 s, 12.3 s, 4 min 12 s or 2 h 05 min."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    if seconds < _MINUTE - 0.05:
        return f"{seconds:.{2 if seconds < 1 else 1}f} s"
    rounded = round(seconds)
    if rounded < _HOUR:
        return f"{rounded // _MINUTE} min {rounded % _MINUTE:02d} s"
    minutes = round(seconds / _MINUTE)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: int) -> str:
    """Return bytes in binary units with three digits."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:  # noqa: PLR2004 - the binary kilo
            return f"{value:.{0 if unit == 'B' or value >= 100 else 1}f} {unit}"  # noqa: PLR2004
        value /= 1024
    return f"{value:,.1f} TiB"


def excerpt(text: str, limit: int = 300) -> str:
    """Return the start of a text on one line, cut at a word where one ends nearby."""
    head = text[: 4 * limit]
    line = re.sub(r"\s+", " ", head).strip()
    if len(line) <= limit and len(head) == len(text):
        return line
    short = line[:limit]
    space = short.rfind(" ", limit * 4 // 5)
    return (short[:space] if space > 0 else short).rstrip(" ,;:.") + ELLIPSIS


def clean(page: str) -> str:
    """Return a page without what no page may hold: controls and half characters are replaced.

    Marks that turn the direction of writing are dropped: left open, they would turn the words around them as well.
    """
    return _TURNS.sub("", _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", page))


def names(items: tuple[str, ...] | list[str], most: int = 3) -> str:
    """Return a list in words, "a, b and c", folded beyond ``most``."""
    if len(items) > most:
        return f"{', '.join(items[: most - 1])} and {integer(len(items) - most + 1)} more"
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def basename(path: str) -> str:
    """Return the last part of a path of any system."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or path
