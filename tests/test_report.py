"""The report: the page of one fixed run, letter by letter; honesty where the run is bad; hostile and missing input.

After a wanted change of the page, renew the golden file and read the difference:
GAPSEL_RENEW_GOLD=1 python -m pytest tests/test_report.py
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gapsel import report
from gapsel.findings import (
    Certificate,
    Composition,
    Example,
    Findings,
    Histogram,
    Interval,
    MethodResult,
    Share,
    Step,
)
from gapsel.report import axes, charts, numbers, verdicts

GOLD = Path(__file__).with_name("gold") / "report.html"
VOID = {"meta", "br", "hr", "img", "input", "link"}
NAN, INF = math.nan, math.inf


def example(rank: int, text: str, label: str, nearest: str) -> Example:
    score = -0.4121 + 0.0000153 * rank
    return Example(
        f"{label}-{rank:05d}", "data/pool/part-03.jsonl", 41 * rank, rank, score, label, text, "emma-17", nearest
    )


def histogram() -> Histogram:
    edges = tuple(round(-0.42 + 0.012 * i, 3) for i in range(61))
    bell = [math.exp(-0.5 * ((i - 38) / 8.5) ** 2) + 0.004 * math.exp(-0.5 * ((i - 7) / 4) ** 2) for i in range(60)]
    counts = tuple(round(47_000 * height) for height in bell)
    return Histogram(
        edges, counts, tuple(count if i < 13 else count // 3 if i == 13 else 0 for i, count in enumerate(counts))
    )


def steps() -> tuple[Step, ...]:
    found = []
    for rows, first, last in ((1_200, 0.9, 0.11), (4_800, 0.4, 0.055), (19_200, 0.13, 0.024)):
        found += [
            Step("sample", rows, 0.09, 0.0, first * (last / first) ** (i / 4), 0.02 * rows / 1e3) for i in range(5)
        ]
    found += [Step("pool", 1_000_000, 0.0475, 0.0, error, 21.4) for error in (0.031, 0.0021)]
    found += [Step("shortlist", 104_000, 0.0475, 0.5, 0.62 * 0.47**i, 2.3) for i in range(9)]
    found += [Step("pool", 1_000_000, 0.0475, 0.5, error, 21.6) for error in (0.014, 0.0012, 0.00031)]
    return tuple(found)


FICTION = (
    "She was then, to her own great astonishment, obliged to own that the visit had given her pleasure; and though "
    "nothing could be more unlike what she had expected, the evening closed upon a party of whom every one was "
    "persuaded that the others had been the most entertained."
)
NEAREST = "Emma Woodhouse, handsome, clever, and rich, with a comfortable home and happy disposition."
SCRIPTURE = "But they shook off the dust of their feet against them, and came unto Iconium."

FINDINGS = Findings(
    version="0.1.0",
    pool=("data/pool/part-01.jsonl", "data/pool/part-02.jsonl", "data/pool/part-03.jsonl"),
    target=("data/target_emma.jsonl.gz",),
    embedder="sentence-transformers/all-MiniLM-L6-v2 (mean pooling, 256 tokens)",
    n=1_000_000,
    m=300,
    k=10_000,
    rejected_rows=132,
    mass=0.5,
    cost="sqeuclidean",
    eps=0.0475,
    eps_of_row_std=0.5,
    eps_of_mean=0.0312,
    perplexity=41.3,
    converged=True,
    marginal_error=0.00031,
    tolerance=0.001,
    full_sweeps=5,
    pool_distance=Interval(1.302, 1.321),
    methods=(
        MethodResult("random", Interval(1.301, 1.323), Interval(1.306, 1.327), 0.0101, 0.172),
        MethodResult("nearest neighbours", Interval(1.041, 1.049), Interval(0.931, 0.946), 0.583, 0.912),
        MethodResult("round-robin neighbours", Interval(1.011, 1.019), Interval(0.741, 0.755), 0.741, 0.954),
        MethodResult("gapsel", Interval(0.974, 0.982), Interval(0.802, 0.818), 1.0, 0.981),
    ),
    certificate=Certificate(1.1874, 0.9021, 0.0037, 1.28, 0.00044),
    histogram=histogram(),
    cut=-0.2591,
    compositions=(
        Composition(
            "source",
            (
                Share("novels.jsonl.gz", 0.214, 0.9321, None),
                Share("bible.jsonl.gz", 0.198, 0.0508, None),
                Share("metamath.jsonl", 0.402, 0.0004, None),
                Share("web/crawl-2024-18/en-head-00017-of-00120.parquet", 0.186, 0.0167, None),
            ),
        ),
        Composition(
            "domain",
            (
                Share("fiction", 0.2144, 0.931, 0.8125),
                Share("scripture", 0.1981, 0.048, 0.175),
                *(Share(f"web topic {i}", 0.0391 - 0.001 * i, 0.0052 - 0.0003 * i, 0.0) for i in range(14)),
                Share("mathematics", 0.1310, 0.00005, 0.0125),
            ),
        ),
    ),
    chosen=(
        example(1, FICTION, "fiction", NEAREST),
        example(
            4_127,
            "I cannot make speeches. " * 20,
            "fiction",
            "If I loved you less, I might be able to talk about it more.",
        ),
        example(10_000, SCRIPTURE, "scripture", NEAREST),
    ),
    barely_rejected=(example(10_001, "The visit was returned in due form. " * 3, "fiction", NEAREST),),
    steps=steps(),
    seconds={"read": 31.2, "embed": 3_314.0, "solve": 128.3, "select": 4.41, "compare": 96.0, "write": 0.8},
    peak_memory_bytes=3_412_000_000,
)


class Balance(HTMLParser):
    """Collects what is wrong with the nesting of tags, every start tag, and the visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def read(page: str) -> Balance:
    parser = Balance()
    parser.feed(page)
    parser.close()
    assert parser.wrong == []
    assert parser.open == []
    return parser


def text_of(found: Findings) -> str:
    return re.sub(r"[ \n]+", " ", read(report.render(found)).text)


def at_mass(mass: float) -> Findings:
    """Return the findings at mass 0, where every mixture is the pool, or at mass 1, where it is the chosen alone."""
    methods = (replace(m, mixture=m.alone if mass == 1 else FINDINGS.pool_distance) for m in FINDINGS.methods)
    return replace(FINDINGS, mass=mass, methods=tuple(methods))


def with_distance(*, mixture: Interval | None = None, alone: Interval | None = None) -> Findings:
    """Return the findings with other intervals for gapsel's own choice."""
    ours = FINDINGS.methods[-1]
    ours = replace(ours, mixture=mixture or ours.mixture, alone=alone or ours.alone)
    return replace(FINDINGS, methods=(*FINDINGS.methods[:-1], ours))


# The page.


def test_the_page_is_the_golden_one() -> None:
    page = report.render(FINDINGS)
    if os.environ.get("GAPSEL_RENEW_GOLD"):
        GOLD.write_text(page, encoding="utf-8")
    how = "GAPSEL_RENEW_GOLD=1 renews tests/gold/report.html, if the change is wanted"
    assert page.splitlines() == GOLD.read_text(encoding="utf-8").splitlines(), how


def test_write_makes_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "run" / "report.html"
    report.write(FINDINGS, path)
    assert path.read_text(encoding="utf-8") == report.render(FINDINGS)
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_half_characters_do_not_stop_the_writing(tmp_path: Path) -> None:
    report.write(replace(FINDINGS, cost="model \ud800"), tmp_path / "report.html")
    assert "model \N{REPLACEMENT CHARACTER}" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_nothing_comes_from_outside() -> None:
    page = report.render(FINDINGS)
    assert not re.search(r"""(src|href|srcset|action|data)\s*=|url\(|@import|<script|<link|\bon[a-z]+=""", page)
    assert "http" not in page


def test_the_page_can_be_read_by_everyone() -> None:
    tags = read(report.render(FINDINGS)).tags
    assert ("html", {"lang": "en"}) in tags
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in tags:
        if tag == "svg" and attrs.get("role") == "img":
            assert set((attrs["aria-labelledby"] or "").split()) <= set(ids)
    names = [tag for tag, _ in tags]
    assert names.count("caption") == names.count("table") == 4
    assert names.count("title") == 1 + names.count("desc")


def test_the_answer_stands_first() -> None:
    text = text_of(FINDINGS)
    for piece in (
        "10,000 of 1,000,000 documents were chosen for the target target_emma.jsonl.gz (300 examples).",
        "falls by at least 24\u202f% and at most 27\u202f%: 1.31 for the pool, 0.978 for the mixture of",
        "the mixture of 50\u202f% pool and 50\u202f% chosen.",
        "Beside it: random \N{MINUS SIGN}2 to +2\u202f%, nearest neighbours \N{MINUS SIGN}22 to",
        "The solver converged (marginal error 3.1\u202f×\u202f10⁻⁴, tolerance 0.001).",
        "No other choice of 10,000 can beat this one by more than 1.3\u202f% of what is attainable at mass 0.5.",
        "132 rows could not be used; rejected.jsonl",
    ):
        assert piece in text
    assert "NOT CONVERGED" not in text


# Honesty.


def test_a_run_that_did_not_converge_says_so_first() -> None:
    text = text_of(replace(FINDINGS, converged=False, marginal_error=0.02))
    assert text.index("NOT CONVERGED") < text.index("of 1,000,000 documents were")
    assert "The solver did not converge (marginal error 0.020" in text


def test_a_certificate_at_an_unsolved_mixture_is_an_estimate() -> None:
    doubtful = replace(FINDINGS, certificate=replace(FINDINGS.certificate, marginal_error=0.03))
    assert "an estimate only, since the mixture was solved to a marginal error of 0.030" in text_of(doubtful)
    assert "an estimate only" not in text_of(FINDINGS)
    assert "≈\u202f1.3\u202f%" in text_of(doubtful)


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
    assert says in verdicts.comparison(found)
    assert says in text_of(found)


@pytest.mark.parametrize("mass", [0.0, 1.0])
def test_without_a_mixture_the_chosen_alone_are_compared(mass: float) -> None:
    found = at_mass(mass)
    said = verdicts.comparison(found)
    assert "The choice of round-robin neighbours lies nearer to the target than gapsel's: 0.748 against 0.810" in said
    assert ("one step of the gradient" in said) == (mass == 0)
    assert "0.810 for the chosen alone" in verdicts.answer(found).lines[1].text
    assert verdicts.alone(found) is None
    assert not charts.intervals(found).has_alone
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
    said = verdicts.alone(found)
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


# Hostile and missing input.

HOSTILE = '<script>alert("1")</script>"\'&{{ 7*7 }}</style><!--\x00\u202e'


def poisoned(value: Any) -> Any:  # noqa: ANN401 - any field of the findings
    """Return the record with every string replaced by a hostile one, method names aside."""
    if isinstance(value, str):
        return value if value == "gapsel" else HOSTILE
    if isinstance(value, tuple):
        return tuple(map(poisoned, value))
    if isinstance(value, dict):
        return {f"{HOSTILE}{key}": poisoned(entry) for key, entry in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: poisoned(getattr(value, f.name)) for f in fields(value)})
    return value


def test_hostile_text_stays_text() -> None:
    page = report.render(poisoned(FINDINGS))
    assert "<script" not in page
    assert page.count("</style>") == 1
    assert "<!--" not in page
    assert not {"\x00", "\u202e"} & set(page)
    assert "49" not in re.findall(r"\{\{.{9}", page)
    shown = read(page)
    assert '<script>alert("1")</script>' in shown.text
    assert {tag for tag, _ in shown.tags} <= {tag for tag, _ in read(report.render(FINDINGS)).tags}


def test_vectors_without_texts_and_labels_make_a_report() -> None:
    bare = tuple(replace(e, text=None, label=None, nearest_text=None) for e in FINDINGS.chosen)
    methods = tuple(replace(m, precision=None) for m in FINDINGS.methods)
    text = text_of(replace(FINDINGS, chosen=bare, barely_rejected=(), methods=methods, compositions=()))
    assert "The pool came as vectors, without texts." in text
    assert "None" not in text
    assert "recision" not in text.replace("imprecision", "")


def test_choosing_the_whole_pool_proves_nothing_and_says_so() -> None:
    text = text_of(replace(FINDINGS, k=1_000_000, barely_rejected=()))
    assert "All 1,000,000 documents were chosen" in text
    assert "there is no other choice to compare with" in text
    assert "so none was rejected" in text


def test_sources_are_named_from_where_they_part() -> None:
    labels = ("/data/pool/web/1.jsonl", "/data/pool/web/2.jsonl", "/data/pool/books.jsonl")
    composition = Composition("source", tuple(Share(label, 0.3, 0.3, None) for label in labels))
    assert {share.label for share in charts.shortened(composition).shares} == {
        "web/1.jsonl",
        "web/2.jsonl",
        "books.jsonl",
    }


def test_a_single_source_needs_no_picture() -> None:
    one = Composition("source", (Share("/data/all.jsonl", 1.0, 1.0, None),))
    assert "There is one source only: all.jsonl." in text_of(replace(FINDINGS, compositions=(one,)))


def test_a_billion_documents_fit() -> None:
    huge = replace(
        FINDINGS,
        n=10**9,
        histogram=replace(FINDINGS.histogram, counts=tuple(c * 1000 for c in FINDINGS.histogram.counts)),
    )
    assert "of 1,000,000,000 documents" in text_of(huge)


def broken(value: Any, number: float) -> Any:  # noqa: ANN401 - any field of the findings
    """Return the record with every float replaced."""
    if isinstance(value, float):
        return number
    if isinstance(value, tuple):
        return tuple(broken(entry, number) for entry in value)
    if isinstance(value, dict):
        return {key: broken(entry, number) for key, entry in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: broken(getattr(value, f.name), number) for f in fields(value)})
    return value


@pytest.mark.parametrize("number", [NAN, INF, -INF, 0.0, -1.0, 1e300, 1e-300])
def test_no_float_can_break_the_page(number: float) -> None:
    page = report.render(broken(FINDINGS, number))
    read(page)
    assert not re.search(r"\b(nan|inf)\b", page, re.IGNORECASE)


def test_an_empty_run_makes_a_page() -> None:
    empty = replace(
        FINDINGS, steps=(), methods=(), compositions=(), chosen=(), barely_rejected=(), seconds={}, target=(), pool=(),
        histogram=Histogram((), (), ()), rejected_rows=0,
    )  # fmt: skip
    text = text_of(empty)
    assert "No other method" in text or "not measured" in text
    assert "none: every row could be used" in text


def test_findings_can_be_kept_as_json() -> None:
    assert json.loads(json.dumps(FINDINGS.to_json()))["certificate"]["percent"] == 1.28


# Geometry.


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
    chart = charts.intervals(FINDINGS)
    assert [row.name for row in chart.rows] == ["pool", *(m.name for m in FINDINGS.methods)]
    assert [row.name for row in chart.rows if row.ours] == ["gapsel"]
    scale = 100 / float(chart.across[-1].label)
    for row in chart.rows:
        assert row.places is not None
        expected = [scale * v for v in (row.distance.lower, row.distance.middle, row.distance.upper)]
        assert row.places == pytest.approx(expected)


# Digits.


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
