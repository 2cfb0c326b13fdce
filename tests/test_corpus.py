"""Texts read and written: every format and compression, bad rows, damaged files, and the chosen rows written back."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapsel import corpus
from gapsel.corpus import Chosen, Rejects, text_hash
from gapsel.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

Rows = list[dict[str, Any]]

ROWS: Rows = [
    {"id": "one", "text": "plain words", "label": "a"},
    {"id": "two", "text": 'a "quoted", comma\tand tab', "label": "b"},
    {"id": "three", "text": "two\nlines, \u00fcml\u00e4ut \u2028 and \U0001f600", "label": ""},
    {"id": "four", "text": "nul \x00 and return \r inside", "label": "d"},
]


def as_jsonl(rows: Rows) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def as_json(rows: Rows) -> bytes:
    return json.dumps(rows, indent=2).encode()


def as_csv(rows: Rows, delimiter: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def as_tsv(rows: Rows) -> bytes:
    return as_csv(rows, "\t")


def as_txt(rows: Rows) -> bytes:
    return b"".join(row["text"].replace("\n", " ").encode() + b"\n" for row in rows)


FORMS: dict[str, Callable[[Rows], bytes]] = {
    "jsonl": as_jsonl,
    "json": as_json,
    "csv": as_csv,
    "tsv": as_tsv,
    "txt": as_txt,
}


def write(path: Path, data: bytes) -> str:
    """Write a file, compressed as its name says, and return its path."""
    if path.suffix == ".zst":
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(data)
    else:
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def hugging_face(folder: Path, rows: Rows, files: int = 2) -> str:
    """Write a folder as `datasets.Dataset.save_to_disk` does."""
    folder.mkdir(parents=True)
    names = [f"data-{at:05d}-of-{files:05d}.arrow" for at in range(files)]
    features = {name: {"dtype": "string", "_type": "Value"} for name in rows[0]}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    for at, name in enumerate(names):
        table = pa.Table.from_pylist(rows[at::files]).replace_schema_metadata(metadata)
        with pa.OSFile(str(folder / name), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
            writer.write_table(table, max_chunksize=1)
    (folder / "cache-0123.arrow").write_bytes(b"a cache that must not be read")
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return str(folder)


def read_all(
    paths: list[str], batch_rows: int = 1024, text_field: str = "text", rejects: Rejects | None = None
) -> tuple[list[str], list[str], list[tuple[str, int]]]:
    ids, texts, places = [], [], []
    for batch in corpus.read(paths, batch_rows=batch_rows, text_field=text_field, rejects=rejects):
        assert len(batch.ids) == len(batch.texts) == len(batch.rows) > 0
        assert batch.rows.dtype == np.int64
        ids += batch.ids
        texts += batch.texts
        places += [(batch.source, int(row)) for row in batch.rows]
    return ids, texts, places


# ---- reading


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


def test_json_may_hold_one_object_a_line(tmp_path: Path) -> None:
    path = write(tmp_path / "pool.json", as_jsonl(ROWS))
    assert read_all([path])[0] == [row["id"] for row in ROWS]


def test_json_array_of_long_elements_crosses_the_window(tmp_path: Path) -> None:
    texts = ["\u00e9" * 700_000, "x" * 3_000_000, "short", "y" * 1_048_570]
    path = write(tmp_path / "pool.json", json.dumps([{"text": text} for text in texts], ensure_ascii=False).encode())
    assert read_all([path])[1] == texts


ODD_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: bool(text.strip()))


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(ODD_TEXT, min_size=1, max_size=8), form=st.sampled_from(["jsonl", "json", "csv", "tsv"]))
def test_odd_characters_survive_reading(tmp_path_factory: pytest.TempPathFactory, texts: list[str], form: str) -> None:
    folder = tmp_path_factory.mktemp("odd")
    rows = [{"id": str(at), "text": text} for at, text in enumerate(texts)]
    path = write(folder / f"pool.{form}", FORMS[form](rows))
    assert read_all([path])[1] == texts


# ---- bad rows


GOOD = b'{"text": "good"}'
BAD_LINES = [
    (b"{", "not JSON (Expecting property name enclosed in double quotes)"),
    (b'{"text": "a\x01b"}', "not JSON (Invalid control character at)"),
    (b"[1, 2]", "not a JSON object"),
    (b'{"body": "x", "id": 1}', "no field 'text'"),
    (b'{"text": 3}', "the text is of type int and not a string"),
    (b'{"text": ["x"]}', "the text is of type list and not a string"),
    (b'{"text": null}', "the text is null"),
    (b'{"text": ""}', "the text is empty"),
    (b'{"text": " \\n\\t\\u3000"}', "the text is empty"),
    (b'{"text": "caf\xe9"}', "not UTF-8"),
    (b'{"text": "\\ud800"}', "not UTF-8"),
    (b"[" * 100_000, "not JSON (RecursionError)"),
    (b'{"n": ' + b"9" * 5000 + b', "text": "x"}', "not JSON (ValueError)"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_bad_line_is_set_aside_with_its_reason(tmp_path: Path, line: bytes, reason: str) -> None:
    path = write(tmp_path / "pool.jsonl", b"\n".join([GOOD, line, b"", GOOD]))
    with Rejects(tmp_path / "rejected.jsonl") as rejects:
        _, _, places = read_all([path], rejects=rejects)
    assert [row for _, row in places] == [0, 3]
    assert (rejects.count, rejects.seen, dict(rejects.by_reason)) == (1, 3, {reason: 1})
    (entry,) = map(json.loads, (tmp_path / "rejected.jsonl").read_text().splitlines())
    assert (entry["file"], entry["line"], entry["reason"]) == (path, 2, reason)
    assert len(entry["value"].encode()) <= 4 * 80


BAD_RECORDS = [
    (b"a,b,c", "3 fields where the header has 2"),
    (b"a", "1 fields where the header has 2"),
    (b'a,"x"y', "not CSV (',' expected after '\"')"),
    (b"a,", "the text is empty"),
    (b"a,caf\xe9", "not UTF-8"),
]


@pytest.mark.parametrize(("record", "reason"), BAD_RECORDS)
def test_bad_record_is_set_aside_with_its_reason(tmp_path: Path, record: bytes, reason: str) -> None:
    path = write(tmp_path / "pool.csv", b'id,text\n1,"good\nand long"\n' + record + b"\n3,good\n4,good\n")
    rejects = Rejects()
    ids, _, places = read_all([path], rejects=rejects)
    assert ids == ["1", "3", "4"]
    assert [row for _, row in places] == [0, 2, 3]
    assert list(rejects.by_reason) == [reason]
    assert rejects.example[reason].line == 4


def test_bad_rows_of_a_table_are_set_aside(tmp_path: Path) -> None:
    texts = pa.array([b"good", None, b"", b"caf\xe9", b"good", b"good", b"good"], pa.binary())
    broken = pa.StringArray.from_buffers(len(texts), *texts.buffers()[1:], texts.buffers()[0])
    pq.write_table(pa.table({"text": broken}), tmp_path / "pool.parquet")
    rejects = Rejects()
    _, _, places = read_all([str(tmp_path / "pool.parquet")], rejects=rejects)
    assert [row for _, row in places] == [0, 4, 5, 6]
    assert dict(rejects.by_reason) == {"the text is null": 1, "the text is empty": 1, "not UTF-8": 1}


def test_rejects_are_written_even_after_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "pool.jsonl", b"\n".join([GOOD, b"{", b"{"]))
    with pytest.raises(DataError) as raised, Rejects(tmp_path / "rejected.jsonl") as rejects:
        read_all([path], rejects=rejects)
    message = str(raised.value)
    assert "2 of the first 3 rows cannot be used" in message
    assert "not JSON" in message
    assert f"{path} line 2: '{{'" in message
    assert raised.value.exit_code == 3
    assert len((tmp_path / "rejected.jsonl").read_text().splitlines()) == 2


def test_exactly_half_bad_goes_on(tmp_path: Path) -> None:
    path = write(tmp_path / "pool.jsonl", b"\n".join([GOOD, b"{"]))
    assert read_all([path])[1] == ["good"]


def test_mostly_bad_corpus_stops_after_a_thousand_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "pool.jsonl", GOOD + b"\n" + b"{\n" * 5000)
    with pytest.raises(DataError, match="999 of the first 1000 rows"):
        read_all([path])


def test_wrong_field_names_those_that_are_there(tmp_path: Path) -> None:
    path = write(tmp_path / "pool.jsonl", b'{"body": "x", "title": "y"}\n' * 200)
    with pytest.raises(DataError, match=r"has no field 'text'; its fields are 'body', 'title'.*--text-field"):
        read_all([path])
    assert len(read_all([path], text_field="body")[0]) == 200
    for form in ("csv", "tsv"):
        path = write(tmp_path / f"pool.{form}", FORMS[form](ROWS))
        with pytest.raises(DataError, match="has no field 'body'; its fields are 'id', 'text', 'label'"):
            read_all([path], text_field="body")
    pq.write_table(pa.table({"n": [1], "body": ["x"]}), tmp_path / "pool.parquet")
    with pytest.raises(DataError, match="has no field 'text'; its fields are 'n', 'body'"):
        read_all([str(tmp_path / "pool.parquet")])
    with pytest.raises(DataError, match="column 'n' is of type int64 and not a string; columns of strings: body"):
        read_all([str(tmp_path / "pool.parquet")], text_field="n")


# ---- inputs that cannot be read


def test_inputs_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "empty").mkdir()
    cases = {
        "nowhere.jsonl": "there is no such file or folder",
        "*.jsonl": "nothing matches",
        "notes.md": "the extension is unknown: gapsel reads .jsonl",
        "empty": "holds no file that gapsel reads",
        "*.md": "holds no file that gapsel reads",
    }
    for name, message in cases.items():
        with pytest.raises(DataError, match=message):
            corpus.read([str(tmp_path / name)])
    with pytest.raises(DataError, match="no input"):
        corpus.sources([])
    with pytest.raises(UsageError, match="batch_rows is 0"):
        corpus.read([str(tmp_path)], batch_rows=0)


def test_packed_parquet_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="extension is unknown"):
        corpus.sources([write(tmp_path / "pool.parquet.gz", b"x")])


@pytest.mark.parametrize("name", ["pool.jsonl", "pool.json", "pool.csv", "pool.txt", "pool.jsonl.gz", "pool.csv.zst"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"pool.* holds no documents"):
        read_all([write(tmp_path / name, b"")])


def test_empty_array(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no documents"):
        read_all([write(tmp_path / "pool.json", b" [ ]\n")])


def test_damaged_files_are_named(tmp_path: Path) -> None:
    whole = as_jsonl(ROWS * 1000)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "whole.parquet")
    hugging_face(tmp_path / "hf", ROWS, files=1)
    arrow = (tmp_path / "hf" / "data-00000-of-00001.arrow").read_bytes()
    damaged = {
        "cut.jsonl.gz": gzip.compress(whole)[:-20],
        "none.jsonl.gz": b"this is no gzip",
        "none.jsonl.zst": b"this is no zstd",
        "cut.parquet": (tmp_path / "whole.parquet").read_bytes()[:-20],
        "cut.arrow": arrow[: len(arrow) // 2],
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=f"{name}: cannot be read .*damaged or cut short"):
            read_all([str(tmp_path / name)])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = write(tmp_path / "pool.jsonl", GOOD)
    Path(path).chmod(0)
    with pytest.raises(DataError, match="permission to read it is denied"):
        read_all([path])


@pytest.mark.parametrize("data", [b'[{"text": "a"}, {"text": ]', b'[{"text": "a"}', b'[{"text": "a"}] x', b"[", b"[,]"])
def test_broken_array_names_the_element(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DataError, match=r"JSON array breaks off at element [12] .*jq"):
        read_all([write(tmp_path / "pool.json", data)])


def test_csv_header_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 1: the header is not CSV"):
        read_all([write(tmp_path / "pool.csv", b'"id"x,text\n1,a\n')])


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


# ---- the chosen rows, written back


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
