"""The chosen rows, written back in the user's own format."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapsel import corpus
from gapsel.corpus import Chosen, text_hash
from gapsel.errors import DataError
from texts import FORMS, GOOD, ODD_TEXT, ROWS, Rows, as_json, hugging_face, read_all, write

if TYPE_CHECKING:
    from pathlib import Path


def choose(paths: list[str], rows: list[int]) -> dict[str, Chosen]:
    """Choose documents by their number in reading order; the first one named has rank 1."""
    batches = list(corpus.read(paths))
    source = [batch.source for batch in batches for _ in batch.ids]
    numbers = np.concatenate([batch.rows for batch in batches])
    hashes = [text_hash(text) for batch in batches for text in batch.texts]
    rank = np.arange(1, len(rows) + 1)
    score = (rank / 10).astype(np.float32)
    nearest = [f"t{at}" for at in rank]
    chosen = Chosen(numbers[rows], score, rank, nearest, [hashes[row] for row in rows])
    return corpus.by_source([source[row] for row in rows], chosen)


@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_selected_json_keeps_the_users_object(tmp_path: Path, form: str) -> None:
    objects = [
        '{"z": 1.10, "text": "caf\\u00e9 \u00fc", "a": [1,  2], "n": 12345678901234567890123}',
        '{"text": "b"}',
        '{"text": "c \U0001f600", "a": null }',
    ]
    data = "[" + ",\n".join(objects) + "]" if form == "json" else "\n".join(objects)
    path = write(tmp_path / f"pool.{form}", data.encode())
    written = corpus.write_selected([path], tmp_path / "run", choose([path], [2, 0]))
    assert written == tmp_path / "run" / "selected.jsonl"
    lines = written.read_text().splitlines()
    tail = ', "gapsel_score": {}, "gapsel_rank": {}, "gapsel_nearest": "t{}"}}'
    assert lines[0] == objects[0][:-1] + tail.format(0.2, 2, 2)
    assert lines[1] == objects[2][:-2] + tail.format(0.1, 1, 1)


def test_selected_from_an_indented_array_is_one_line_a_row(tmp_path: Path) -> None:
    path = write(tmp_path / "pool.json.gz", as_json(ROWS))
    lines = corpus.write_selected([path], tmp_path, choose([path], [3, 2])).read_text().split("\n")
    assert len(lines) == 3
    assert [json.loads(line)["text"] for line in lines[:2]] == [ROWS[2]["text"], ROWS[3]["text"]]
    assert lines[0].startswith('{ "id": "three", "text":')


@pytest.mark.parametrize(("form", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_selected_records(tmp_path: Path, form: str, delimiter: str) -> None:
    paths = [write(tmp_path / f"{name}.{form}", FORMS[form](ROWS)) for name in ("p", "q")]
    written = corpus.write_selected(paths, tmp_path / "run", choose(paths, [7, 2, 1]))
    assert written.name == f"selected.{form}"
    with written.open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter=delimiter))
    added = [("0.3", "3", "t3"), ("0.2", "2", "t2"), ("0.1", "1", "t1")]
    names = ("gapsel_score", "gapsel_rank", "gapsel_nearest")
    expected = [ROWS[at] | dict(zip(names, more, strict=True)) for at, more in zip([1, 2, 3], added, strict=True)]
    assert rows == expected


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(ODD_TEXT, min_size=1, max_size=5), form=st.sampled_from(["jsonl", "json", "csv", "tsv"]))
def test_odd_characters_survive_reading_and_writing(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], form: str
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    path = write(folder / f"pool.{form}", FORMS[form]([{"id": str(at), "text": text} for at, text in enumerate(texts)]))
    written = corpus.write_selected([path], folder / "run", choose([path], list(range(len(texts)))))
    assert read_all([str(written)])[1] == texts


def test_selected_parquet_keeps_columns_and_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "meta": [{"a": at} for at in range(10)],
            "text": [f"text {at}" for at in range(10)],
            "vector": pa.array([[at, 1.0] for at in range(10)], pa.list_(pa.float16(), 2)),
            "when": pa.array(range(10), pa.timestamp("ms", "UTC")),
        }
    )
    path = str(tmp_path / "pool.parquet")
    pq.write_table(table, path, row_group_size=3)
    written = pq.read_table(corpus.write_selected([path], tmp_path / "run", choose([path], [9, 0, 4, 5])))
    assert written.drop_columns(["gapsel_score", "gapsel_rank", "gapsel_nearest"]) == table.take([0, 4, 5, 9])
    assert written["gapsel_rank"].to_pylist() == [2, 3, 4, 1]
    assert written["gapsel_nearest"].to_pylist() == ["t2", "t3", "t4", "t1"]
    assert written.schema.field("gapsel_score").type == pa.float32()


def test_selected_from_hugging_face_is_parquet_with_its_features(tmp_path: Path) -> None:
    folder = hugging_face(tmp_path / "data", ROWS)
    written = corpus.write_selected([folder], tmp_path / "run", choose([folder], [3, 0]))
    table = pq.read_table(written)
    assert written.name == "selected.parquet"
    assert table["id"].to_pylist() == ["one", "four"]
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == table.column_names
    assert features["gapsel_score"] == {"dtype": "float32", "_type": "Value"}


def test_parquet_files_with_different_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "x": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"y": ["why"], "text": ["b"]}), tmp_path / "b.parquet")
    paths = [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    table = pq.read_table(corpus.write_selected(paths, tmp_path / "run", choose(paths, [0, 1])))
    assert table.select(["text", "x", "y"]).to_pylist() == [
        {"text": "a", "x": 1, "y": None},
        {"text": "b", "x": None, "y": "why"},
    ]
    pq.write_table(pa.table({"text": ["b"], "x": ["not a number"]}), tmp_path / "b.parquet")
    written = corpus.write_selected(paths, tmp_path / "run", choose(paths, [0, 1]))
    assert [json.loads(line)["x"] for line in written.read_text().splitlines()] == [1, "not a number"]


def test_selected_text_lines_become_jsonl(tmp_path: Path) -> None:
    path = write(tmp_path / "pool.txt", b"first\n\nthird\n")
    written = corpus.write_selected([path], tmp_path / "run", choose([path], [1]))
    assert json.loads(written.read_text()) == {
        "id": "pool.txt:2",
        "text": "third",
        "gapsel_score": 0.1,
        "gapsel_rank": 1,
        "gapsel_nearest": "t1",
    }


def test_mixed_formats_become_jsonl_in_source_order(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "c.parquet")
    paths = [write(tmp_path / f"p.{form}", FORMS[form](ROWS)) for form in ("csv", "jsonl", "txt")]
    paths.append(str(tmp_path / "c.parquet"))
    written = corpus.write_selected(paths, tmp_path / "run", choose(paths, [15, 8, 4, 0]))
    rows = [json.loads(line) for line in written.read_text().split("\n")[:-1]]
    assert written.name == "selected.jsonl"
    assert [row["id"] for row in rows] == ["one", "one", "p.txt:0", "four"]
    assert [row["gapsel_rank"] for row in rows] == [4, 3, 2, 1]
    assert rows[3]["label"] == "d"


def test_csv_files_with_different_headers_become_jsonl(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.csv", b"text,x\na,1\n"), write(tmp_path / "b.csv", b"text,y\nb,2\n")]
    rows = corpus.write_selected(paths, tmp_path / "run", choose(paths, [0, 1])).read_text().splitlines()
    assert [json.loads(row).get("y") for row in rows] == [None, "2"]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_fields_of_an_earlier_selection_are_replaced(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"pool.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        write(path, FORMS[form](ROWS))
    first = corpus.write_selected([str(path)], tmp_path / "one", choose([str(path)], [3, 2, 1]))
    second = corpus.write_selected([str(first)], tmp_path / "two", choose([str(first)], [0]))
    assert first.suffix == second.suffix == path.suffix
    if form == "parquet":
        (row,) = pq.read_table(second).to_pylist()
    elif form == "csv":
        (row,) = csv.DictReader(io.StringIO(second.read_text(), newline=""))
    else:
        row = json.loads(second.read_text())
    assert list(row) == ["id", "text", "label", "gapsel_score", "gapsel_rank", "gapsel_nearest"]
    assert (row["id"], round(float(row["gapsel_score"]), 6), int(row["gapsel_rank"])) == ("two", 0.1, 1)


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "txt", "parquet"])
@pytest.mark.parametrize("change", ["edited", "shorter"])
def test_source_that_changed_is_noticed_and_nothing_is_written(tmp_path: Path, form: str, change: str) -> None:
    def put(rows: Rows) -> None:
        if form == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            write(path, FORMS[form](rows))

    path = tmp_path / f"pool.{form}"
    put(ROWS)
    chosen = choose([str(path)], [0, 3])
    put([*ROWS[:3], ROWS[0]] if change == "edited" else ROWS[:3])
    with pytest.raises(DataError, match=f"pool.{form} row 3: the text is not the one that was scored, or is gone"):
        corpus.write_selected([str(path)], tmp_path / "run", chosen)
    assert list((tmp_path / "run").iterdir()) == []


def test_chosen_source_that_is_no_input(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, GOOD) for name in ("a.jsonl", "b.jsonl")]
    with pytest.raises(DataError, match="rows of it were chosen but it is not among the inputs"):
        corpus.write_selected(paths[:1], tmp_path / "run", choose(paths, [0, 1]))


def test_nothing_chosen_writes_an_empty_file(tmp_path: Path) -> None:
    path = write(tmp_path / "pool.jsonl", GOOD)
    assert corpus.write_selected([path], tmp_path / "run", {}).read_bytes() == b""


def test_selected_vectors(tmp_path: Path) -> None:
    chosen = Chosen(np.array([5, 2]), np.array([-0.1, 0.25], np.float32), np.array([1, 2]), ["t", "u"])
    lines = corpus.write_selected_vectors(tmp_path, ["five", "two"], chosen).read_text().splitlines()
    assert list(map(json.loads, lines)) == [
        {"id": "two", "row": 2, "gapsel_score": 0.25, "gapsel_rank": 2, "gapsel_nearest": "u"},
        {"id": "five", "row": 5, "gapsel_score": -0.1, "gapsel_rank": 1, "gapsel_nearest": "t"},
    ]
