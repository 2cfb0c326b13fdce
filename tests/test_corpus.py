"""Texts read: every format and compression, in memory that does not grow, and the fingerprint of them all."""

from __future__ import annotations

import importlib
import json
import os
import tracemalloc
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapsel import corpus
from gapsel.corpus import Rejects
from gapsel.errors import DataError
from texts import FORMS, GOOD, ODD_TEXT, ROWS, Rows, as_jsonl, as_txt, hugging_face, read_all, write

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("form", FORMS)
def test_every_text_format_and_compression(tmp_path: Path, form: str, packed: str) -> None:
    path = write(tmp_path / f"pool.{form}{packed}", FORMS[form](ROWS))
    ids, texts, places = read_all([path], batch_rows=3)
    expected = [row["text"].replace("\n", " ") if form == "txt" else row["text"] for row in ROWS]
    assert texts == expected
    assert places == [(path, row) for row in range(4)]
    assert ids == ([f"pool.txt{packed}:{row}" for row in range(4)] if form == "txt" else [row["id"] for row in ROWS])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_string_types(tmp_path: Path, kind: pa.DataType) -> None:
    texts = pa.array([row["text"] for row in ROWS])
    table = pa.table({"n": [1.5] * 4, "text": texts.cast(kind), "id": [7, 8, 9, None]})
    pq.write_table(table, tmp_path / "pool.parquet", row_group_size=3)
    ids, found, places = read_all([str(tmp_path / "pool.parquet")], batch_rows=2)
    assert found == texts.to_pylist()
    assert ids == ["7", "8", "9", "pool.parquet:3"]
    assert [row for _, row in places] == [0, 1, 2, 3]


def test_hugging_face_folder_reads_what_its_state_lists(tmp_path: Path) -> None:
    folder = hugging_face(tmp_path / "data", ROWS)
    ids, _, places = read_all([folder])
    assert ids == ["one", "three", "two", "four"]
    assert [row for _, row in places] == [0, 1, 0, 1]


def test_dataset_dict_with_one_split_is_read_and_with_two_is_refused(tmp_path: Path) -> None:
    hugging_face(tmp_path / "all" / "train", ROWS)
    (tmp_path / "all" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert len(read_all([str(tmp_path / "all")])[0]) == len(ROWS)
    (tmp_path / "all" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(DataError, match="2 splits: name one of them"):
        corpus.sources([str(tmp_path / "all")])
    assert len(read_all([str(tmp_path / "all" / "train")])[0]) == len(ROWS)


def test_arrow_file_format(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    assert read_all([str(tmp_path / "x.arrow")])[0] == [row["id"] for row in ROWS]


def test_folder_is_read_recursively_in_order_without_hidden_and_unknown_files(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.txt", "deep/c.csv.gz", ".hidden/x.txt", "README.md", ".a.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        write(path, FORMS[name.removesuffix(".gz").rsplit(".", 1)[-1].replace("md", "txt")](ROWS))
    hugging_face(tmp_path / "hf", ROWS, files=1)
    names = [os.path.relpath(source, tmp_path) for source in corpus.sources([str(tmp_path)])]
    assert names == ["a.txt", "b.jsonl", "deep/c.csv.gz", "hf/data-00000-of-00001.arrow"]
    assert corpus.sources([str(tmp_path / "*.*")])[:2] == [str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl")]
    assert corpus.sources([str(tmp_path / "**/*.gz")]) == [str(tmp_path / "deep/c.csv.gz")]
    assert corpus.sources([str(tmp_path / "a.txt")] * 2) == [str(tmp_path / "a.txt")]


def test_a_link_to_a_folder_it_lies_in_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    path = write(tmp_path / "deep" / "a.txt", as_txt(ROWS))
    (tmp_path / "deep" / "up").symlink_to("..")
    (tmp_path / "itself").symlink_to(".")
    (tmp_path / "other").symlink_to("deep")
    assert corpus.sources([str(tmp_path)]) == [path, str(tmp_path / "other" / "a.txt")]


def test_blank_lines_keep_their_number_and_are_no_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "pool.jsonl", b'\xef\xbb\xbf{"text": "a"}\r\n\n  \n{"text": "b", "id": 5}')
    rejects = Rejects()
    ids, texts, places = read_all([path], rejects=rejects)
    assert (ids, texts) == (["pool.jsonl:0", "5"], ["a", "b"])
    assert [row for _, row in places] == [0, 3]
    assert (rejects.seen, rejects.count) == (2, 0)


@pytest.mark.parametrize("form", FORMS)
def test_texts_of_a_few_rows(tmp_path: Path, form: str) -> None:
    path = write(tmp_path / f"pool.{form}", FORMS[form](ROWS))
    _, texts, _ = read_all([path])
    assert corpus.texts_at(path, [3, 1]) == {1: texts[1], 3: texts[3]}
    assert corpus.texts_at(path, []) == {}


def test_json_lines_that_are_not_wanted_are_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["{broken", '{"text": "one"}', "", '{"text": ""}', '{"text": "four"}', '{"text": "five"}', "["]
    path = write(tmp_path / "pool.jsonl", "\n".join(lines).encode())
    parsed, parse = list[str](), json.loads

    def counted(raw: str) -> object:
        parsed.append(raw)
        return parse(raw)

    monkeypatch.setattr("gapsel.corpus.jsons.json.loads", counted)
    assert corpus.texts_at(path, [1, 3, 4, 5]) == {1: "one", 4: "four", 5: "five"}
    assert parsed == [lines[1], lines[3], lines[4], lines[5]]


def test_json_may_hold_one_object_a_line(tmp_path: Path) -> None:
    path = write(tmp_path / "pool.json", as_jsonl(ROWS))
    assert read_all([path])[0] == [row["id"] for row in ROWS]


def test_json_array_of_long_elements_crosses_the_window(tmp_path: Path) -> None:
    texts = ["\u00e9" * 700_000, "x" * 3_000_000, "short", "y" * 1_048_570]
    path = write(tmp_path / "pool.json", json.dumps([{"text": text} for text in texts], ensure_ascii=False).encode())
    assert read_all([path])[1] == texts


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(ODD_TEXT, min_size=1, max_size=8), form=st.sampled_from(["jsonl", "json", "csv", "tsv"]))
def test_odd_characters_survive_reading(tmp_path_factory: pytest.TempPathFactory, texts: list[str], form: str) -> None:
    folder = tmp_path_factory.mktemp("odd")
    rows = [{"id": str(at), "text": text} for at, text in enumerate(texts)]
    path = write(folder / f"pool.{form}", FORMS[form](rows))
    assert read_all([path])[1] == texts


# ---- memory and fingerprint


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "txt", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, form: str) -> None:
    rows: Rows = [{"id": str(at), "text": f"{at} " + "some words " * 200} for at in range(500)]
    path = tmp_path / f"pool.{form}"
    if form == "parquet":
        table = pa.Table.from_pylist(rows)
        with pq.ParquetWriter(path, table.schema) as writer:
            for _ in range(30):
                writer.write_table(table)
    else:
        data = FORMS[form](rows * 30)
        path.write_bytes(data)
        del data
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    documents, arrow = 0, 0
    for batch in corpus.read([str(path)], batch_rows=64):
        documents += len(batch.ids)
        arrow = max(arrow, pa.total_allocated_bytes() - before)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert documents == 15_000
    assert peak < 12 << 20
    assert arrow < 12 << 20


def test_a_line_too_long_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gapsel.corpus.rows.MAX_ROW", 1 << 20)
    long = b'{"text": "' + b"x" * (3 << 20) + b'"}'
    rejects = Rejects()
    _, _, places = read_all([write(tmp_path / "pool.jsonl", b"\n".join([GOOD, long, GOOD]))], rejects=rejects)
    assert [row for _, row in places] == [0, 2]
    assert dict(rejects.by_reason) == {"the line is longer than 1 MiB": 1}


def test_fingerprint_is_of_contents_and_names_not_places(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / "deep").mkdir(parents=True)
        write(tmp_path / folder / "x.jsonl", GOOD)
        write(tmp_path / folder / "deep" / "y.jsonl", GOOD)
    first, second = (corpus.fingerprint([str(tmp_path / folder)]) for folder in "ab")
    assert first == second
    write(tmp_path / "b" / "deep" / "y.jsonl", GOOD + b"\n")
    assert corpus.fingerprint([str(tmp_path / "b")]) != first
    (tmp_path / "a" / "x.jsonl").rename(tmp_path / "a" / "z.jsonl")
    assert corpus.fingerprint([str(tmp_path / "a")]) != first


def test_long_texts_come_in_smaller_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("gapsel.corpus.read"), "BATCH_CHARACTERS", 100)
    path = write(tmp_path / "pool.txt", b"".join(b"x" * length + b"\n" for length in (30, 30, 50, 200, 1, 1, 1)))
    assert [len(batch.texts) for batch in corpus.read([path], batch_rows=3)] == [3, 1, 3]
    assert [len(batch.texts) for batch in corpus.read([path], batch_rows=2)] == [2, 2, 2, 1]
