"""The geometry of the charts: to scale, in order, inside their frames."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from gapsel.findings import Histogram
from gapsel.report import axes, charts, intervals, verdicts
from sample_run import FINDINGS, NAN, text_of


def inside(bar: charts.Bar, height: float) -> bool:
    return bar.x >= 0 and bar.x + bar.width <= 100 and bar.y >= 0 and bar.y + bar.height <= height + 1e-9


def test_straight_bars_are_as_high_as_their_counts() -> None:
    chart = charts.histogram(
        replace(FINDINGS, histogram=Histogram((0.0, 1.0, 2.0, 4.0), (50, 100, 0), (50, 10, 0)), cut=1.2)
    )
    assert chart is not None
    assert not chart.log
    assert [bar.height for bar in chart.pool] == pytest.approx([110.0, 220.0])
    assert [bar.height for bar in chart.chosen] == pytest.approx([110.0, 22.0])
    assert [bar.width for bar in chart.pool] == pytest.approx([22.5, 22.5])
    assert chart.cut == pytest.approx(8 + 90 * 0.3)
    assert [tick.label for tick in chart.up] == ["0", "50", "100"]


def test_a_tail_that_would_vanish_gets_a_logarithmic_axis() -> None:
    chart = charts.histogram(FINDINGS)
    assert chart is not None
    assert chart.log
    assert "logarithmic axis" in text_of(FINDINGS)
    assert all(inside(bar, chart.height) for bar in (*chart.pool, *chart.chosen))
    assert min(bar.height for bar in chart.chosen) > 5
    up = axes.Axis(0.5, 1e5, charts.HEIGHT, 0.0, log=True)
    assert [tick.at for tick in up.ticks()] == [pytest.approx(up.at(10.0**e)) for e in range(6)]
    gaps = [low.at - high.at for low, high in pairwise(up.ticks())]
    assert gaps == pytest.approx([gaps[0]] * 5)
    assert [tick.label for tick in up.ticks()] == ["1", "10", "100", "1k", "10k", "100k"]


def test_equal_scores_have_no_histogram() -> None:
    assert charts.histogram(replace(FINDINGS, histogram=Histogram((1.0, 1.0), (9,), (3,)))) is None


def test_sweeps_lie_in_order_on_a_logarithmic_axis() -> None:
    chart = charts.convergence(FINDINGS)
    assert chart is not None
    assert [tick.label for tick in chart.up] == ["10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "1"]
    assert all(0 <= dot.x <= 100 and 0 <= dot.y <= chart.height for dot in chart.dots)
    assert all(left.x < right.x for left, right in pairwise(chart.dots))
    assert chart.tolerance == pytest.approx(chart.height * 0.75)
    assert chart.dots[-1].y > 0.75 * chart.height
    assert [(key.stage, key.sweeps) for key in chart.stages] == [("sample", 15), ("shortlist", 9), ("pool", 5)]
    assert [len(thread) for thread in chart.threads] == [5, 5, 5, 2, 9, 3]


def test_sweeps_without_an_error_are_left_out_and_counted() -> None:
    first = replace(FINDINGS.steps[0], marginal_error=NAN)
    found = replace(FINDINGS, steps=(first, *FINDINGS.steps[1:]))
    chart = charts.convergence(found)
    assert chart is not None
    assert chart.left_out == 1
    assert "1 sweep measured no error" in text_of(found)


def test_compositions_are_sorted_folded_and_to_scale() -> None:
    chart = charts.shares(FINDINGS.compositions[1])
    assert len(chart.rows) == charts.ROWS + 1
    assert chart.rows[-1].label == "others (5)"
    assert sum(row.pool for row in chart.rows) == pytest.approx(sum(s.pool for s in FINDINGS.compositions[1].shares))
    assert [row.chosen for row in chart.rows[:-1]] == sorted((row.chosen for row in chart.rows[:-1]), reverse=True)
    assert chart.rows[0].chosen_at == pytest.approx(93.1)
    assert chart.rows[0].target_at == pytest.approx(81.25)
    assert verdicts.shift(FINDINGS.compositions[1]) == [
        "fiction grows most: from 21\u202f% of the pool to 93\u202f% of the chosen.",
        "scripture is 18\u202f% of the target but only 4.8\u202f% of the chosen.",
    ]


def test_intervals_share_one_axis_from_zero() -> None:
    chart = intervals.intervals(FINDINGS)
    assert [row.name for row in chart.rows] == ["pool", *(m.name for m in FINDINGS.methods)]
    assert [row.name for row in chart.rows if row.ours] == ["gapsel"]
    scale = 100 / float(chart.across[-1].label)
    for row in chart.rows:
        assert row.places is not None
        expected = [scale * v for v in (row.distance.lower, row.distance.middle, row.distance.upper)]
        assert row.places == pytest.approx(expected)
