"""Digits and words as a reader wants them."""

from __future__ import annotations

import pytest

from gapsel.report import numbers
from sample_run import NAN


@pytest.mark.parametrize(
    ("value", "reads"),
    [
        (0.0, "0"),
        (1.3115, "1.31"),
        (-0.2591, "\N{MINUS SIGN}0.259"),
        (12_345.6, "12,346"),
        (0.00001, "10⁻⁵"),
        (0.000081, "8.10\u202f×\u202f10⁻⁵"),
        (NAN, "–"),
        (None, "–"),
    ],
)
def test_numbers_have_sensible_digits(value: float | None, reads: str) -> None:
    assert numbers.number(value) == reads


@pytest.mark.parametrize(
    ("value", "reads"),
    [
        (0, "0"),
        (1, "100"),
        (0.372, "37"),
        (0.0449, "4.5"),
        (0.0034, "0.34"),
        (1e-6, "<\u202f0.01"),
        (0.9999, ">\u202f99.9"),
    ],
)
def test_shares_never_round_to_nothing_or_all(value: float, reads: str) -> None:
    assert numbers.share(value) == f"{reads}\u202f%"


@pytest.mark.parametrize(
    ("value", "reads"), [(1.28, "1.3"), (1.3, "1.3"), (1.3001, "1.4"), (0.021, "0.021"), (41.2, "42")]
)
def test_upper_bounds_round_up(value: float, reads: str) -> None:
    assert numbers.at_most(value) == f"{reads}\u202f%"


@pytest.mark.parametrize(
    ("value", "reads"),
    [
        (0.42, "0.42 s"),
        (12.34, "12.3 s"),
        (59.97, "1 min 00 s"),
        (252, "4 min 12 s"),
        (7_510, "2 h 05 min"),
        (NAN, "–"),
    ],
)
def test_times_read_as_people_say_them(value: float, reads: str) -> None:
    assert numbers.duration(value) == reads


@pytest.mark.parametrize(("value", "reads"), [(512, "512 B"), (2_048, "2.0 KiB"), (3_412_000_000, "3.2 GiB")])
def test_sizes_have_units(value: int, reads: str) -> None:
    assert numbers.size(value) == reads


def test_excerpts_are_short_clean_lines() -> None:
    assert numbers.excerpt("one\n two ") == "one two"
    cut = numbers.excerpt("word " * 1_000)
    assert len(cut) <= 301
    assert cut.endswith("word…")
    assert len(numbers.excerpt("東" * 1_000)) == 301
