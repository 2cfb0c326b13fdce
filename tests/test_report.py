"""The report: the page of one fixed run, letter by letter; hostile and missing input.

After a wanted change of the page, renew the golden file and read the difference:
GAPSEL_RENEW_GOLD=1 python -m pytest tests/test_report.py
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gapsel import report
from gapsel.findings import Composition, Evaluation, Findings, Histogram, Interval, Mixture, Share, made_of
from gapsel.report import charts, intervals
from sample_run import EVALUATION, FINDINGS, INF, MIXTURE, NAN, WHOLE, read, text_of

GOLD = Path(__file__).with_name("gold") / "report.html"


# The page.


def test_the_page_is_the_golden_one() -> None:
    page = report.render(WHOLE, MIXTURE, EVALUATION)
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


def test_what_was_not_asked_for_is_not_on_the_page() -> None:
    titles = ("At other masses", "steady", "Rules of the choice", "Each task by itself", "Does it help?", "How much of")
    bare, whole = text_of(replace(FINDINGS, mass_path=(), error_bars=None)), text_of(WHOLE, MIXTURE, EVALUATION)
    assert not [title for title in titles if title in bare]
    assert all(title in whole for title in titles)


def test_masses_lie_on_one_axis_and_the_own_is_marked() -> None:
    chart = intervals.mass_path(FINDINGS)
    assert chart is not None
    assert [(row.name, row.ours) for row in chart.rows] == [("0", False), ("0.5", True), ("1", False)]
    places = [row.places for row in chart.rows if row.places]
    assert places == sorted(places, reverse=True), "the mixture comes nearer as its mass grows"
    unknown = replace(FINDINGS.mass_path[0], mixture=Interval(NAN, NAN), alone=Interval(NAN, NAN))
    (row,) = (intervals.mass_path(replace(FINDINGS, mass_path=(unknown,))) or chart).rows
    assert (row.places, row.alone) == (None, None)


def test_nothing_comes_from_outside() -> None:
    page = report.render(WHOLE, MIXTURE, EVALUATION)
    assert not re.search(r"""(src|href|srcset|action|data)\s*=|url\(|@import|<script|<link|\bon[a-z]+=""", page)
    assert "http" not in page


def test_the_page_can_be_read_by_everyone() -> None:
    tags = read(report.render(WHOLE, MIXTURE, EVALUATION)).tags
    assert ("html", {"lang": "en"}) in tags
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in tags:
        if tag == "svg" and attrs.get("role") == "img":
            assert set((attrs["aria-labelledby"] or "").split()) <= set(ids)
    names = [tag for tag, _ in tags]
    assert names.count("caption") == names.count("table") == 11
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
    page = report.render(poisoned(WHOLE), poisoned(MIXTURE), poisoned(replace(EVALUATION, mass=0.5)))
    assert "<script" not in page
    assert page.count("</style>") == 1
    assert "<!--" not in page
    assert not {"\x00", "\u202e"} & set(page)
    assert "49" not in re.findall(r"\{\{.{9}", page)
    shown = read(page)
    assert '<script>alert("1")</script>' in shown.text
    assert {tag for tag, _ in shown.tags} <= {tag for tag, _ in read(report.render(WHOLE, MIXTURE, EVALUATION)).tags}


def test_vectors_without_texts_and_labels_make_a_report() -> None:
    bare = tuple(replace(e, text=None, label=None, nearest_text=None) for e in FINDINGS.chosen)
    methods = tuple(replace(m, precision=None) for m in FINDINGS.methods)
    text = text_of(replace(FINDINGS, chosen=bare, barely_rejected=(), methods=methods, compositions=(), mass_path=()))
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
    page = report.render(*(broken(found, number) for found in (WHOLE, MIXTURE, EVALUATION)))
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


@pytest.mark.parametrize("found", [WHOLE, FINDINGS, MIXTURE, EVALUATION], ids=["whole", "plain", "mix", "evaluate"])
def test_what_was_found_can_be_kept_as_json(found: Findings | Mixture | Evaluation) -> None:
    assert made_of(type(found), json.loads(json.dumps(asdict(found)))) == found


def test_what_is_not_there_is_read_as_no_number() -> None:
    assert math.isnan(made_of(Interval, {"lower": None, "upper": 1}).lower)
    assert made_of(Share, {"label": "a", "pool": 0.5, "chosen": 0.5, "target": None, "more": 1}).target is None


@pytest.mark.parametrize("wrong", [{"lower": 0.1}, {"lower": "0.1", "upper": 1.0}, [], None])
def test_what_is_no_record_is_refused(wrong: Any) -> None:  # noqa: ANN401 - any JSON value
    with pytest.raises(TypeError):
        made_of(Interval, wrong)
