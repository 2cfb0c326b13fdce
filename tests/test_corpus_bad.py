"""Rows that cannot be used, set aside with file, line and reason; files that cannot be read."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gapsel import corpus
from gapsel.corpus import Rejects
from gapsel.errors import DataError, UsageError
from texts import FORMS, GOOD, ROWS, as_jsonl, hugging_face, read_all, write

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
    with pytest.raises(DataError, match="999 of the first 1,000 rows"):
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
