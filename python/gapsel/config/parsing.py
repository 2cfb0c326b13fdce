"""Settings that are written as texts: "5%", "50M", "domain=20%", "2GB"."""

from __future__ import annotations

import re

from gapsel.config.allowed import check
from gapsel.errors import UsageError
from gapsel.wording import counted

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_THOUSANDS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def parse_k(k: str) -> tuple[float, bool]:
    """Return (number, whether it is per cent) of a "1000", a "10K" or a "5%". Raises UsageError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMBT%]?)", k.strip().upper())
    number, percent = (float(match[1]) * _THOUSANDS.get(match[2], 1), match[2] == "%") if match else (0.0, False)
    fits = 0 < number <= 100 if percent else number >= 1 and number.is_integer()  # noqa: PLR2004 - per cent
    check(fits, "k", k, "a whole number from 1, 10K say, or per cent like 5%")
    return number, percent


def parse_count(count: str) -> int:
    """Return the number that a "50M", "1.5 B" or "800000" is. Raises UsageError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMBT]?)", count.strip().upper())
    number = float(match[1]) * _THOUSANDS[match[2]] if match else 0.0
    check(number >= 1, "tokens", count, "a number like 50M, 1.5B or 800000")
    return round(number)


def parse_quota(quota: str) -> tuple[str, float]:
    """Return (field, share from 0 to 1) of a "domain=20%". Raises UsageError."""
    match = re.fullmatch(r"(.+)=([0-9]+(?:\.[0-9]+)?)%", quota.strip())
    share = float(match[2]) / 100 if match else 0.0
    check(0 < share <= 1, "at_most", quota, "a field and a share, like domain=20%")
    return match[1] if match else "", share


def parse_masses(masses: tuple[str, ...]) -> tuple[float, ...]:
    """Return the numbers from 0 to 1 that ("0.5", "1") are. Raises UsageError."""
    found = tuple(float(mass) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", mass) else -1.0 for mass in masses)
    check(all(0 <= mass <= 1 for mass in found), "masses", masses, "numbers from 0 to 1")
    return found


def parse_size(size: str) -> int:
    """Return the bytes of a "2GB", "1.5 GiB" or "800M". Raises UsageError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?I?)B?", size.strip().upper())
    number = float(match[1]) * _UNITS.get(match[2], 0) if match else 0.0
    check(number >= 1, "memory", size, "a size like 2GB, 1.5GB or 800MB")
    return int(number)


def rows_for(k: str, n: int) -> int:
    """Return how many of n rows a k means. Raises UsageError when that is more than there are."""
    number, percent = parse_k(k)
    rows = max(1, round(n * number / 100)) if percent else int(number)
    if rows > n:
        msg = f"k is {k}, and the pool has {counted(n, 'document')}: choose at most {n:,}"
        raise UsageError(msg)
    return rows
