"""Labels: every format, beside exactly the rows that `corpus.read` gives, and the error that names the fields."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapsel import corpus
from gapsel.errors import DataError, UsageError
from texts import Rows, hugging_face

if TYPE_CHECKING:
    from pathlib import Path

ROWS: Rows = [{"id": f"i{at}", "text": f"text {at}", "topic": topic} for at, topic in enumerate("abcab")]


def jsonl(path: Path, rows: list[Any]) -> str:
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    return str(path)


def parquet(path: Path, table: pa.Table | Rows) -> str:
    pq.write_table(pa.Table.from_pylist(table) if isinstance(table, list) else table, path, row_group_size=3)
    return str(path)


def labelled(
    paths: list[str], field: str = "topic", batch_rows: int = 1024, text_field: str = "text"
) -> list[str | None]:
    """Return the labels, once rows and batches are known to be those of `corpus.read`."""
    found = list(corpus.labels(paths, field, batch_rows=batch_rows, text_field=text_field))
    batches = list(corpus.read(paths, batch_rows=batch_rows, text_field=text_field))
    assert [(source, rows.tolist()) for source, rows, _ in found] == [(b.source, b.rows.tolist()) for b in batches]
    assert all(rows.dtype == "int64" and len(rows) == len(own) for _, rows, own in found)
    return [label for _, _, own in found for label in own]


@pytest.mark.parametrize("batch_rows", [2, 1024])
@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "tsv", "parquet", "hf", "jsonl.gz"])
def test_every_format(tmp_path: Path, form: str, batch_rows: int) -> None:
    path = tmp_path / f"pool.{form}"
    if form == "parquet":
        parquet(path, ROWS)
    elif form == "hf":
        hugging_face(path, ROWS)
    elif form == "json":
        path.write_text(json.dumps(ROWS, indent=2))
    elif form in ("csv", "tsv"):
        separator = {"csv": ",", "tsv": "\t"}[form]
        path.write_text("".join(separator.join(line) + "\n" for line in [list(ROWS[0]), *(r.values() for r in ROWS)]))
    else:
        jsonl(path, ROWS)
        path.write_bytes(gzip.compress(path.read_bytes()) if form.endswith(".gz") else path.read_bytes())
    expected = ["a", "c", "b", "b", "a"] if form == "hf" else list("abcab")
    assert labelled([str(path)], batch_rows=batch_rows) == expected
    assert labelled([str(path)], "text", batch_rows)[0] == "text 0"
    assert labelled([str(path)], "id", batch_rows)[0] == "i0"


def test_rows_set_aside_have_no_label(tmp_path: Path) -> None:
    good = {"text": "x", "topic": "good"}
    bad: list[Any] = [{"text": "", "topic": "bad"}, {"topic": "bad"}, ["no object"], {"text": None, "topic": "bad"}]
    path = jsonl(tmp_path / "pool.jsonl", [good, *bad, good, good, good, good])
    with (tmp_path / "pool.jsonl").open("ab") as out:
        out.write(b'\n\n{"text": "last", "topic": "good"}')
    assert labelled([path], batch_rows=2) == ["good"] * 6
    (tmp_path / "pool.csv").write_text("text,topic\na,1\n,2\nb\n\nc,4\nd,5\n")
    assert labelled([str(tmp_path / "pool.csv")]) == ["1", "4", "5"]
    table = pa.table({"topic": ["1", "2", "3"], "text": ["a", None, "c"]})
    assert labelled([parquet(tmp_path / "pool.parquet", table)]) == ["1", "3"]


def test_kinds_of_values(tmp_path: Path) -> None:
    values = ["a", "", 7, -1.5, True, False, None, ["p", "\u00fc"], {"q": 1}, "\ud800", 10**30]
    strings = ["a", "", "7", "-1.5", "true", "false", None, '["p", "\u00fc"]', '{"q": 1}', "\\ud800", str(10**30)]
    rows: Rows = [{"text": "t", "topic": value} for value in values]
    assert labelled([jsonl(tmp_path / "pool.jsonl", [*rows, {"text": "t"}])]) == [*strings, None]


def test_kinds_of_columns(tmp_path: Path) -> None:
    columns = {
        "large": (pa.array(["p", None], pa.large_string()), ["p", None]),
        "dictionary": (pa.array(["p", None]).dictionary_encode(), ["p", None]),
        "bytes": (pa.array([b"p", b"\xff"]), ["p", "\\xff"]),
        "whole": (pa.array([3, None], pa.int8()), ["3", None]),
        "real": (pa.array([0.25, None]), ["0.25", None]),
        "bool": (pa.array([True, None]), ["true", None]),
        "list": (pa.array([["p"], None]), ['["p"]', None]),
        "null": (pa.nulls(2), [None, None]),
    }
    table = pa.table({"text": ["a", "b"]} | {name: column for name, (column, _) in columns.items()})
    path = parquet(tmp_path / "pool.parquet", table)
    assert {name: labelled([path], name) for name in columns} == {name: own for name, (_, own) in columns.items()}


def test_some_sources_without_the_field(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.csv").write_text("text\nthree\n")
    paths = [str(tmp_path / "a.txt"), str(tmp_path / "b.csv"), jsonl(tmp_path / "c.jsonl", ROWS[:2])]
    paths.append(parquet(tmp_path / "d.parquet", [{"text": "x"}]))
    assert labelled(paths) == [None, None, None, "a", "b", None]


def test_a_field_that_no_row_has_names_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "b.csv").write_text("text,first\nx,y\n")
    jsonl(tmp_path / "c.jsonl", [{"text": "", "skipped": 1}, {"text": "x", "second": 1}, {"text": "y"}])
    parquet(tmp_path / "d.parquet", [{"text": "x", "third": 1}])
    fields = {
        "a.txt": "none",
        "b.csv": "'text', 'first'",
        "c.jsonl": "'text', 'second'",
        "d.parquet": "'text', 'third'",
    }
    for name, there in fields.items():
        message = (
            rf"{name}: has no field 'topic'; its fields are {there}: name the right one \(label_field, --label-field"
        )
        with pytest.raises(corpus.MissingLabelError, match=message):
            list(corpus.labels([str(tmp_path / name)], "topic"))
    with pytest.raises(DataError, match=r"a\.txt and 3 more: .* are 'text', 'first', 'second', 'third': name"):
        list(corpus.labels([str(tmp_path)], "topic"))


def test_raises_as_read_does(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        corpus.labels([str(tmp_path / "none.jsonl")], "topic")
    path = jsonl(tmp_path / "pool.jsonl", ROWS)
    with pytest.raises(UsageError, match="batch_rows is 0"):
        corpus.labels([path], "topic", batch_rows=0)
    with pytest.raises(DataError, match="no field 'body'"):
        list(corpus.labels([path], "topic", text_field="body"))


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.sampled_from(["words", "", None, 3]), min_size=1, max_size=12),
    batch_rows=st.integers(1, 5),
    form=st.sampled_from(["jsonl", "json", "parquet"]),
)
def test_labels_lie_beside_their_rows(
    tmp_path_factory: pytest.TempPathFactory, texts: list[Any], batch_rows: int, form: str
) -> None:
    rows = [{"text": text, "topic": at} for at, text in enumerate([*texts, *["enough"] * len(texts)])]
    path = tmp_path_factory.mktemp("labels") / f"pool.{form}"
    if form == "parquet":
        parquet(path, [row | {"text": None if row["text"] == 3 else row["text"]} for row in rows])
    elif form == "json":
        path.write_text(json.dumps(rows))
    else:
        jsonl(path, rows)
    places = [row for batch in corpus.read([path]) for row in batch.rows]
    assert labelled([str(path)], batch_rows=batch_rows) == [str(row) for row in places]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "pool.jsonl", [{"text": "some words " * 200, "topic": at} for at in range(10_000)])
    tracemalloc.start()
    rows = sum(len(own) for _, _, own in corpus.labels([path], "topic", batch_rows=64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 10_000
    assert peak < 8 << 20
