"""Streams of vectors: the run's own scores, bad rows set aside, thresholds kept."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gapsel
from streams import FLAT, POOL, Score, arrow, as_jsonl, own_scores, parsed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("offline")


def vector_files(pool: NDArray[np.float32]) -> Iterator[tuple[str, list[str]]]:
    np.save("some.npy", pool)
    np.save("wide.npy", pool.astype(np.float64))
    table = {"id": [f"v{at}" for at in range(len(pool))], "vector": list(pool)}
    pq.write_table(pa.table(table), "some.parquet")
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(pool.ravel()), pool.shape[1])
    pq.write_table(pa.table({"other": list(pool[:, :2]), "vector": fixed}), "two.parquet")
    yield "some.npy", []
    yield "wide.npy", []
    yield "some.parquet", []
    lines = [{"at": at, "vector": vector, "tags": [at]} for at, vector in enumerate(pool.tolist())]
    Path("two.jsonl").write_bytes(as_jsonl(lines))
    Path("some.jsonl.gz").write_bytes(gzip.compress(as_jsonl([row | {"tags": []} for row in lines])))
    yield "two.jsonl", ["--vector-field=vector"]
    yield "some.jsonl.gz", []
    yield "two.parquet", ["--vector-field=vector"]


def test_vectors_have_the_runs_own_scores_bit_for_bit(with_vectors: Path, score: Score) -> None:
    own = list(own_scores(with_vectors).values())
    for file, flags in vector_files(np.load(with_vectors / "pool.npy")):
        code, out, _ = score(b"", "--model", str(with_vectors / "out"), file, *flags, "--batch-rows=99")
        assert code == 0, file
        assert [row["gapsel_score"] for row in parsed(out)] == own, file


def test_vectors_in_an_arrow_stream(with_vectors: Path, score: Score) -> None:
    pool = np.load(with_vectors / "pool.npy")[:9].astype(object)
    vectors: list[Any] = [list(map(float, row)) for row in pool]
    vectors[1], vectors[3], vectors[5], vectors[7] = None, [1.0, 2.0], [0.0] * 6, [float("nan")] * 6
    rows = [{"name": at, "vector": vector} for at, vector in enumerate(vectors)]
    code, out, err = score(arrow(rows), "--model", str(with_vectors / "out"), "--format=arrow", "--rejects=aside.jsonl")
    assert code == 0, err
    found = pa.ipc.open_stream(out).read_all()
    own = list(own_scores(with_vectors).values())
    assert found["name"].to_pylist() == [0, 2, 4, 6, 8]
    assert found["gapsel_score"].to_pylist() == [own[at] for at in (0, 2, 4, 6, 8)]
    aside = parsed(Path("aside.jsonl").read_bytes())
    assert [(row["line"], row["reason"]) for row in aside] == [
        (2, "no vector of 6 numbers"),
        (4, "no vector of 6 numbers"),
        (6, "all zeros, which is no direction"),
        (8, "NaN or infinite values"),
    ]


BAD_VECTORS: dict[str, tuple[bytes, str]] = {
    "of another d": (b'{"v": [1, 2, 3]}', "no vector of 6 numbers"),
    "null": (b'{"v": null}', "no vector of 6 numbers"),
    "not a list": (b'{"v": "1 2 3 4 5 6"}', "no vector of 6 numbers"),
    "a truth in it": (b'{"v": [1, 2, 3, 4, 5, true]}', "no vector of 6 numbers"),
    "missing": (b'{"w": [1, 2, 3, 4, 5, 6]}', "no field 'v'"),
    "NaN": (b'{"v": [1, 2, 3, 4, 5, NaN]}', "NaN or infinite values"),
    "beyond float32": (b'{"v": [1, 2, 3, 4, 5, 1e300]}', "NaN or infinite values"),
    "beyond float64": (b'{"v": [1, 2, 3, 4, 5, 1' + 400 * b"0" + b"]}", "NaN or infinite values"),
    "zeros": (b'{"v": [0, 0, 0, 0, 0, 0]}', "all zeros, which is no direction"),
    "no object": (b"[1, 2, 3, 4, 5, 6]", "not a JSON object"),
    "broken": (b'{"v": [1, 2', "not JSON (Expecting ',' delimiter)"),
}


@pytest.mark.parametrize("form", ["jsonl", "arrow"])
def test_bad_vectors_in_a_stream_of_lines_are_set_aside_by_line(with_vectors: Path, score: Score, form: str) -> None:
    """The others keep their characters, and a blank line its number."""
    pool = np.load(with_vectors / "pool.npy")[:12]
    good = [f'{{"id": {at},  "v": {vector}, "w": "x"}}'.encode() for at, vector in enumerate(pool.tolist())]
    bad = [line for line, _ in BAD_VECTORS.values()]
    lines = [good[0], b"", *(line for pair in zip(bad, good[1:], strict=True) for line in pair)]
    flags = ["--model", str(with_vectors / "out"), "--batch-rows=5", "--rejects=aside.jsonl"]
    if form == "jsonl":
        code, out, err = score(b"\n".join(lines), *flags)
        found = [
            (line.rpartition(b', "gapsel_score":')[0] + b"}", json.loads(line)["gapsel_score"])
            for line in out.splitlines()
        ]
        assert [line for line, _ in found] == good
    else:
        Path("lines.jsonl").write_bytes(b"\n".join(lines))
        code, out, err = score(b"", *flags, "--format=arrow", "lines.jsonl")
        table = pa.ipc.open_stream(out).read_all()
        assert table.column_names == ["id", "source", "row", "gapsel_score"]
        assert table["row"].to_pylist() == [0, *range(3, 25, 2)]
        found = list(zip(table["id"].to_pylist(), table["gapsel_score"].to_pylist(), strict=True))
    assert code == 0, err
    assert [one for _, one in found] == list(own_scores(with_vectors).values())[:12]
    aside = parsed(Path("aside.jsonl").read_bytes())
    reasons = zip(range(3, 25, 2), [reason for _, reason in BAD_VECTORS.values()], strict=True)
    assert sorted((row["line"], row["reason"]) for row in aside) == list(reasons)


def test_the_field_of_vectors_in_lines_is_found_or_named(with_vectors: Path, score: Score) -> None:
    two = as_jsonl([{"a": [1.0] * 6, "b": [2.0] * 6}])
    for rows, flags, words in (
        (two, [], "line 1: has several fields with lists of numbers: name one, a, b"),
        (as_jsonl(POOL[:2]), [], "line 1: has no field with a list of numbers: give a file with vectors"),
        (two, ["--vector-field=c"], "line 1: 'c' is no field with a list of numbers: name one that is, a, b"),
    ):
        code, _, err = score(rows, "--model", str(with_vectors / "out"), *flags)
        assert code == 3
        assert f"standard input {words}" in err
    assert score(two, "--model", str(with_vectors / "out"), "--vector-field=b")[0] == 0


def test_vectors_of_another_width_and_texts_without_an_encoder_are_refused(with_vectors: Path, score: Score) -> None:
    np.save("wide.npy", np.ones((3, 7), np.float32))
    code, _, err = score(b"", "--model", str(with_vectors / "out"), "wide.npy")
    assert code == 3
    assert "wide.npy: the vectors have 7 dimensions, the model 6" in err
    Path("texts.txt").write_text("king lord\n")
    code, _, err = score(b"", "--model", str(with_vectors / "out"), "texts.txt")
    assert code == 2
    assert "was fitted with ready-made vectors, so that no encoder of texts is known: give vectors" in err


def test_a_store_of_another_embedder_is_refused(fitted: Path, score: Score) -> None:
    """Vectors that a run wrote say what made them as long as they lie there."""
    shutil.copytree(fitted / "out" / "vectors" / "pool", "vectors")
    flags = ["--model", str(fitted / "out"), "vectors/00000.npy"]
    code, out, _ = score(b"", *flags)
    own = list(own_scores(fitted).values())
    assert code == 0
    assert [row["gapsel_score"] for row in parsed(out)] == own
    index = Path("vectors/store.json")
    made = json.loads(index.read_text())
    made["fingerprint"]["embedder"]["hash"] = "another"
    index.write_text(json.dumps(made))
    code, out, err = score(b"", *flags)
    assert (code, out) == (3, b"")
    assert "vectors/00000.npy: its vectors were made by another embedder" in err
    index.unlink()
    assert score(b"", *flags)[0] == 0


def test_damaged_tables_and_mostly_bad_vectors_are_named(with_vectors: Path, fitted: Path, score: Score) -> None:
    pq.write_table(pa.Table.from_pylist(FLAT), "cut.parquet", compression="none")
    raw = Path("cut.parquet").read_bytes()
    Path("cut.parquet").write_bytes(b"PAR1" + bytes(2000) + raw[2004:])
    code, _, err = score(b"", "--model", str(fitted / "out"), "cut.parquet")
    assert code == 3
    assert "cut.parquet: cannot be read" in err
    np.save("large.npy", np.full((3, 6), 1e300))
    code, out, err = score(b"", "--model", str(with_vectors / "out"), "large.npy")
    assert (code, out) == (3, b"")
    assert "the most frequent reason is: NaN or infinite values (3 rows), for example large.npy line 1" in err


def test_keep_passes_on_the_best_and_says_what_it_keeps(with_vectors: Path, score: Score) -> None:
    own = np.array(list(own_scores(with_vectors).values()))
    flags = ["--model", str(with_vectors / "out"), str(with_vectors / "pool.npy")]
    code, out, err = score(b"", *flags, "--keep", "10%")
    assert code == 0
    assert [row["row"] for row in parsed(out)] == np.flatnonzero(own <= np.sort(own)[49]).tolist()
    said = re.search(r"up to (\S+)\n.* that is ([\d.]+)%, with 95% confidence ([\d.]+)% to ([\d.]+)% ", err)
    assert said
    assert float(said[1]) == np.sort(own)[49]
    assert float(said[3]) < 10 < float(said[4])
    assert "the solver has seen these" in err
    assert "kept 50 (10.000%)" in err
    assert score(b"", *flags, "--threshold", said[1])[1] == out


def test_a_part_of_the_pool_that_the_solver_has_not_seen_is_said(with_vectors: Path, score: Score) -> None:
    x, y = (np.load(with_vectors / f"{side}.npy") for side in ("pool", "target"))
    gapsel.Selector(k="10%", fit_rows=300).fit(y, x).save("part.safetensors")
    _, _, err = score(b"", "--model", "part.safetensors", str(with_vectors / "pool.npy"), "--keep=20%")
    assert "40 of 200 that the solver has not seen)" in err


def test_batches_of_vectors_from_python(with_vectors: Path) -> None:
    pool = np.load(with_vectors / "pool.npy")
    loaded = gapsel.load(with_vectors / "out")
    batch = pa.RecordBatch.from_pydict({"a": list(pool[:5]), "b": list(pool[5:10])})
    (found,) = loaded.score_batches([batch], vector_field="b")
    assert found.column("gapsel_score").to_pylist() == loaded.score(pool[5:10]).tolist()
    with pytest.raises(gapsel.DataError, match="lists of floats: name one, a, b"):
        list(loaded.score_batches([batch]))
    with pytest.raises(gapsel.UsageError, match="ready-made vectors"):
        loaded.score_texts(["king"])
