"""Documents scored by a model file while they pass: the run's own scores, and every row accounted for."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gapsel import corpus
from streams import FLAT, POOL, Score, arrow, as_jsonl, own_scores, parsed
from texts import FORMS, write

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("offline")


def test_a_stream_of_the_pool_has_the_runs_own_scores_bit_for_bit(fitted: Path, score: Score) -> None:
    code, out, err = score(as_jsonl(POOL), "--model", str(fitted / "out"))
    assert code == 0
    rows = parsed(out)
    assert [{name: row[name] for name in POOL[0]} for row in rows] == POOL
    assert {row["id"]: row["gapsel_score"] for row in rows} == own_scores(fitted)
    assert "scored 300 documents; set aside 0" in err
    assert score(b"", "--model", str(fitted / "out"), str(fitted / "pool.jsonl"))[1] == out


def test_rows_keep_their_characters(fitted: Path, score: Score) -> None:
    line = b'{ "text":"cell  gene", "x": 1.50, "gapsel_scores": [1] }'
    code, out, _ = score(line + b"\n\n" + line, "--model", str(fitted / "out"))
    assert code == 0
    assert [found.rpartition(b', "gapsel_score":')[0] for found in out.splitlines()] == [line[:-2]] * 2
    again = score(out, "--model", str(fitted / "out"))[1]
    assert parsed(again) == parsed(out), "a score that was there is replaced"


@pytest.mark.parametrize("batch_rows", ["1", "7", "64"])
def test_the_size_of_parts_moves_no_score_by_more_than_rounding(fitted: Path, score: Score, batch_rows: str) -> None:
    own = own_scores(fitted)
    out = score(as_jsonl(POOL[:80]), "--model", str(fitted / "out"), "--batch-rows", batch_rows)[1]
    found = {row["id"]: row["gapsel_score"] for row in parsed(out)}
    assert list(found) == list(own)[:80]
    assert max(abs(found[name] - own[name]) for name in found) < 1e-3 * np.std(list(own.values()))


@pytest.mark.parametrize("kind", [*FORMS, "jsonl.gz", "parquet", "arrow"])
def test_files_of_every_format_are_scored(fitted: Path, score: Score, kind: str) -> None:
    rows = [{"id": row["id"], "text": row["text"]} for row in POOL[:40]]
    file = Path(f"some.{kind}")
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif kind == "arrow":
        file.write_bytes(arrow(rows))
    else:
        write(file, FORMS[kind.removesuffix(".gz")](rows))
    code, out, _ = score(b"", "--model", str(fitted / "out/model.safetensors"), str(file))
    assert code == 0
    found = parsed(out)
    assert [row["text"] for row in found] == [row["text"] for row in rows]
    assert [row["id"] for row in found] == [f"some.txt:{at}" if kind == "txt" else f"d{at}" for at in range(40)]
    own = own_scores(fitted)
    assert [row["gapsel_score"] for row in found] == pytest.approx([own[f"d{at}"] for at in range(40)], abs=1e-4)


def test_inputs_are_scored_in_their_order(fitted: Path, score: Score) -> None:
    Path("a.jsonl").write_bytes(as_jsonl(POOL[:3]))
    Path("b.txt").write_text("king lord\n")
    flags = ["--model", str(fitted / "out"), "b.txt", "-", "a.jsonl"]
    found = parsed(score(as_jsonl(POOL[5:7]), *flags)[1])
    assert [row["id"] for row in found] == ["b.txt:0", "d5", "d6", "d0", "d1", "d2"]


BAD = b'{"text": "cell gene"}\n{broken\n{"text": " "}\n{"text": null}\n{"no": 1}\n' + b'{"text": "king"}\n' * 5


def test_rows_that_cannot_be_used_are_set_aside_and_told(fitted: Path, score: Score) -> None:
    code, out, err = score(BAD, "--model", str(fitted / "out"), "--quiet")
    assert (code, len(out.splitlines())) == (0, 6)
    assert "scored 6 documents; set aside 4" in err
    assert "1 x the text is empty, for example standard input row 3" in err
    code, _, err = score(BAD, "--model", str(fitted / "out"), "--rejects", "aside.jsonl")
    assert code == 0
    assert "see aside.jsonl" in err
    assert [row["line"] for row in parsed(Path("aside.jsonl").read_bytes())] == [2, 3, 4, 5]


def test_rows_that_are_only_counted_fill_no_disk() -> None:
    rejects = corpus.Rejects(listed=False)
    rejects.add("a", 1, "empty", "")
    assert (rejects.count, rejects.example["empty"].line) == (1, 1)
    assert rejects.finish("none.jsonl").read_bytes() == b""


def test_a_stream_that_is_mostly_bad_ends_with_an_error_and_its_rejects(fitted: Path, score: Score) -> None:
    code, _, err = score(b"{\n" * 3 + as_jsonl(POOL[:2]), "--model", str(fitted / "out"), "--rejects", "aside.jsonl")
    assert code == 3
    assert "3 of the first 5 rows cannot be used" in err
    assert len(Path("aside.jsonl").read_bytes().splitlines()) == 3


def test_an_empty_stream_is_no_error(fitted: Path, score: Score) -> None:
    assert score(b"", "--model", str(fitted / "out"))[:2] == (0, b"")
    code, out, _ = score(arrow_of_none(), "--model", str(fitted / "out"), "--format=arrow")
    assert code == 0
    assert pa.ipc.open_stream(out).read_all().num_rows == 0


def arrow_of_none() -> bytes:
    out = io.BytesIO()
    with pa.ipc.new_stream(out, pa.schema([("text", pa.string())])):
        pass
    return out.getvalue()


def test_arrow_goes_through_with_all_its_columns(fitted: Path, score: Score) -> None:
    rows = [row | {"text": None if at % 50 == 3 else row["text"]} for at, row in enumerate(FLAT)]
    code, out, err = score(arrow(rows), "--model", str(fitted / "out"), "--format", "arrow")
    assert code == 0
    assert "set aside 6" in err
    found = pa.ipc.open_stream(out).read_all()
    good = [row for row in rows if row["text"]]
    assert found.drop_columns(["gapsel_score"]).to_pylist() == good
    own = own_scores(fitted)
    assert found["gapsel_score"].to_pylist() == pytest.approx([own[row["id"]] for row in good], abs=1e-4)


def test_texts_of_a_file_become_arrow_and_other_columns_are_refused(fitted: Path, score: Score) -> None:
    Path("a.txt").write_text("king lord\npsalm\n")
    code, out, _ = score(b"", "--model", str(fitted / "out"), "--format=arrow", "a.txt")
    assert code == 0
    found = pa.ipc.open_stream(out).read_all()
    assert found.column_names == ["id", "source", "row", "text", "gapsel_score"]
    assert found["id"].to_pylist() == ["a.txt:0", "a.txt:1"]
    pq.write_table(pa.Table.from_pylist(FLAT[:3]), "b.parquet")
    code, _, err = score(b"", "--model", str(fitted / "out"), "--format=arrow", "a.txt", "b.parquet")
    assert code == 3
    assert "b.parquet: its columns (id, text, more, gapsel_score) are not those of the inputs before" in err


def test_an_arrow_stream_that_is_damaged_is_named(fitted: Path, score: Score) -> None:
    for data in (b"no arrow at all, but long enough for a header", arrow(FLAT)[:-2000]):
        code, _, err = score(data, "--model", str(fitted / "out"), "--format", "arrow")
        assert code == 3
        assert "standard input: cannot be read" in err
    code, _, err = score(arrow([{"words": "x"}]), "--model", str(fitted / "out"), "--format", "arrow")
    assert code == 3
    assert "standard input: has no field 'text'; its fields are 'words'" in err


def test_compressed_files_and_folders(fitted: Path, score: Score) -> None:
    Path("in").mkdir()
    Path("in/a.jsonl.gz").write_bytes(gzip.compress(as_jsonl(POOL[:2])))
    Path("in/b.csv").write_text("id,text\nx,king lord\n")
    found = parsed(score(b"", "--model", str(fitted / "out"), "in")[1])
    assert [row["id"] for row in found] == ["d0", "d1", "x"]
