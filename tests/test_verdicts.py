"""What the report claims: honesty where the run is bad, and nothing past what was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gapsel.findings import Distances, Interval
from gapsel.report import intervals, standing, verdicts
from gapsel.report.numbers import UNKNOWN
from sample_run import FINDINGS, INF, NAN, at_mass, text_of, with_distance


def test_a_run_that_did_not_converge_says_so_first() -> None:
    text = text_of(replace(FINDINGS, converged=False, marginal_error=0.02))
    assert text.index("NOT CONVERGED") < text.index("of 1,000,000 documents were")
    assert "The solver did not converge (marginal error 0.020" in text


def test_a_certificate_at_an_unsolved_mixture_is_a_loose_bound() -> None:
    loose = replace(FINDINGS, certificate=replace(FINDINGS.certificate, rest=0.03))
    assert "it may be much less, since the mixture's distance was solved no further than to 0.030" in text_of(loose)
    assert "may be much less" not in text_of(FINDINGS)
    assert "≤\u202f1.3\u202f%" in text_of(loose)


@pytest.mark.parametrize(
    ("percent", "mass", "figure", "says"),
    [
        (1.28, 0.5, "≤\u202f1.3\u202f%", "can beat this one by more than 1.3\u202f%"),
        (0.0, 0.5, "≤\u202f0.10\u202f%", "can beat this one by more than 0.10\u202f%"),
        (0.0, 0.0, "converged", "one step of the gradient, with nothing to bound"),
        (100.0, 0.5, "converged", "the certificate came out empty"),
        (NAN, 0.5, "converged", "was not measured"),
    ],
)
def test_the_certificate_claims_what_it_carries(percent: float, mass: float, figure: str, says: str) -> None:
    found = replace(FINDINGS, mass=mass, certificate=replace(FINDINGS.certificate, percent=percent))
    line = verdicts.answer(found).lines[2]
    assert line.figure == figure
    assert says in line.text
    assert ("Its regularised distance" in text_of(found)) == ("can beat" in says)


@pytest.mark.parametrize(
    ("lower", "upper", "says"),
    [
        (0.974, 0.982, "gapsel's mixture lies nearest to the target, and its interval overlaps with no other method's"),
        (0.974, 1.012, "overlaps with that of round-robin neighbours: this measurement does not tell them apart"),
        (1.016, 1.020, "The mixture of round-robin neighbours lies nearer to the target than gapsel's: 1.01"),
        (1.016, 1.020, "The two intervals overlap, so the difference is not settled."),
        (1.030, 1.036, "The intervals do not overlap: the difference is real in this measure."),
        (1.011, 1.019, "The mixture of gapsel and that of round-robin neighbours come equally near"),
        (NAN, NAN, "gapsel's own distance was not measured"),
    ],
)
def test_the_comparison_tells_what_was_measured(lower: float, upper: float, says: str) -> None:
    found = with_distance(mixture=Interval(lower, upper))
    assert says in standing.comparison(found)
    assert says in text_of(found)


@pytest.mark.parametrize("mass", [0.0, 1.0])
def test_without_a_mixture_the_chosen_alone_are_compared(mass: float) -> None:
    found = at_mass(mass)
    said = standing.comparison(found)
    assert "The choice of round-robin neighbours lies nearer to the target than gapsel's: 0.748 against 0.810" in said
    assert ("one step of the gradient" in said) == (mass == 0)
    assert "0.810 for the chosen alone" in verdicts.answer(found).lines[1].text
    assert standing.alone(found) is None
    assert not intervals.intervals(found).has_alone
    text = text_of(found)
    assert "the chosen alone lie from the target" in text
    assert "mixture of" not in text


@pytest.mark.parametrize(
    ("lower", "upper", "says"),
    [
        (0.802, 0.818, "lies nearer to the target than gapsel's: 0.748 against 0.810 by the middle of the intervals. "),
        (0.802, 0.818, "The intervals do not overlap"),
        (0.745, 0.755, "The two intervals overlap, so the difference is not settled."),
        (0.741, 0.755, None),
        (0.700, 0.710, None),
        (NAN, NAN, None),
    ],
)
def test_who_leads_without_the_pool_is_said(lower: float, upper: float, says: str | None) -> None:
    found = with_distance(alone=Interval(lower, upper))
    said = standing.alone(found)
    assert (said is None) == (says is None)
    if said is not None and says is not None:
        assert "Without the pool, the choice of round-robin neighbours" in said
        assert says in said
        assert said in text_of(found)
    assert "for those who train on nothing else; they should set mass 1" in text_of(found)


@pytest.mark.parametrize(
    ("lower", "upper", "says"),
    [
        (1.29, 1.31, "It is not settled that the OT distance to the target falls"),
        (1.60, 1.62, "The OT distance to the target does not fall, it rises"),
        (0.0, INF, "was not measured against the pool's"),
    ],
)
def test_a_fall_is_claimed_only_past_both_intervals(lower: float, upper: float, says: str) -> None:
    assert says in verdicts.answer(with_distance(mixture=Interval(lower, upper))).lines[1].text


def test_the_fall_is_what_the_worst_ends_leave() -> None:
    moved = verdicts.change(Interval(0.5, 0.6), Interval(0.8, 1.0))
    assert moved is not None
    assert (moved.low, moved.high) == pytest.approx((-50.0, -25.0))
    assert str(moved) == "\N{MINUS SIGN}50 to \N{MINUS SIGN}25\u202f%"


def test_a_part_that_the_solver_read_is_told_with_its_cost() -> None:
    part = text_of(replace(FINDINGS, fitted_rows=200_000, sampling_error=0.0042))
    assert "It read 200,000 random documents of the pool, for which the whole pool's marginals are off by about" in part
    assert "the last marginal error on the random part is" in part
    assert "random document" not in text_of(FINDINGS)


def test_steadiness_says_what_halves_keep_and_warns_of_a_small_target() -> None:
    said = verdicts.steadiness(FINDINGS) or ""
    assert "Half of the examples choose 55\u202f%" in said
    assert "every half chooses 33\u202f%" in said
    assert "too small" not in said
    bars = FINDINGS.error_bars
    assert bars is not None
    warned = verdicts.steadiness(replace(FINDINGS, error_bars=replace(bars, steady=False))) or ""
    assert warned.endswith("where halves agree on so little, more examples mostly choose better.")
    assert verdicts.steadiness(replace(FINDINGS, error_bars=None)) is None


@pytest.mark.parametrize(
    ("lower", "upper", "figure", "says"),
    [
        (
            1.40,
            1.42,
            "+5 to +10\u202f%",
            "what is to be avoided (toxic.jsonl) rises: 1.31 for the pool, 1.41 for the mixture of",
        ),
        (1.20, 1.22, "\u221210 to \u22126\u202f%", "does not rise, it falls: 1.31 for the pool"),
        (1.30, 1.33, UNKNOWN, "It is not settled that the OT distance to what is to be avoided"),
        (NAN, NAN, UNKNOWN, "was not measured"),
    ],
)
def test_the_distance_to_what_is_avoided_is_a_line_of_its_own(
    lower: float, upper: float, figure: str, says: str
) -> None:
    assert len(verdicts.answer(FINDINGS).lines) == 3
    avoided = Distances(FINDINGS.pool_distance, Interval(lower, upper))
    line = verdicts.answer(replace(FINDINGS, avoid=("data/toxic.jsonl",), avoided=avoided)).lines[2]
    assert line.figure == figure
    assert says in line.text
