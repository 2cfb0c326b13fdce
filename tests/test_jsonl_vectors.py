"""Vectors inside the rows of JSON lines: read as a table of the same would be, and every bad row named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gapsel
from faults import DATA, POOL, TARGET, D, N, assert_says, command, flags
from gapsel import store
from gapsel.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

TINY: dict[str, Any] = {"k": 5, "tolerance": 0.05}


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("gapsel.store.given.BLOCK_ROWS", 7)
    monkeypatch.chdir(tmp_path)
    np.save("pool.npy", POOL)
    np.save("target.npy", TARGET)


def rows(x: np.ndarray[Any, Any] = POOL) -> list[dict[str, Any]]:
    return [
        {"id": f"d{at}", "text": f"text {at}", "tags": [], "embedding": vector} for at, vector in enumerate(x.tolist())
    ]


def write(path: str, values: Iterable[object]) -> str:
    Path(path).write_text("".join(f"{json.dumps(value)}\n" for value in values), encoding="utf-8")
    return path


def read(path: str, first: int = 0, column: str | None = None) -> tuple[np.ndarray[Any, Any], list[str]]:
    blocks = list(store.look(path, column).blocks(first))
    ids = [one for block in blocks for one in ([] if block.ids is None else block.ids.to_pylist())]
    return np.concatenate([block.vectors for block in blocks]), ids


def test_rows_are_read_from_any_row_on() -> None:
    found = store.look(write("pool.jsonl", rows()))
    assert (found.rows, found.d, found.dtype.name, found.in_place) == (N, D, "float32", False)
    for first in (0, 1, 7, 20, N - 1):
        vectors, ids = read("pool.jsonl", first)
        np.testing.assert_array_equal(vectors.astype(np.float32), POOL[first:])
        assert ids == [f"d{at}" for at in range(first, N)]


def test_blank_lines_gzip_a_byte_order_mark_and_numbers_as_ids() -> None:
    lines = [json.dumps({"embedding": vector, "id": at}) for at, vector in enumerate(POOL.tolist())]
    lines.insert(3, "  ")
    Path("pool.jsonl.gz").write_bytes(gzip.compress(("\ufeff" + "\r\n".join(lines) + "\n\n").encode()))
    vectors, ids = read("pool.jsonl.gz")
    np.testing.assert_array_equal(vectors.astype(np.float32), POOL)
    assert ids == [str(at) for at in range(N)]


def test_whole_numbers_and_rows_without_ids() -> None:
    write("pool.jsonl", [{"v": [1, 2]}, {"v": [3, 4.5]}])
    vectors, ids = read("pool.jsonl")
    assert vectors.tolist() == [[1, 2], [3, 4.5]]
    assert not ids


def test_ids_of_several_kinds() -> None:
    """Arrow refuses a column of numbers and texts; the rows are then read one by one."""
    write("pool.jsonl", [{"id": 7, "v": [1.0]}, {"id": "eight", "v": [2.0]}])
    vectors, ids = read("pool.jsonl")
    assert vectors.tolist() == [[1], [2]]
    assert ids == ["7", "eight"]


def test_the_field_is_named_where_there_are_several() -> None:
    write("pool.jsonl", [{"a": [1, 2], "b": [3, 4, 5], "c": ["x"]}])
    with pytest.raises(DataError, match="has several fields with lists of numbers: name one, a, b"):
        store.look("pool.jsonl")
    with pytest.raises(DataError, match="'c' is no field with a list of numbers: name one that is, a, b"):
        store.look("pool.jsonl", "c")
    assert store.look("pool.jsonl", "b").d == 3


def test_a_run_is_that_of_the_same_vectors_in_an_array() -> None:
    write("pool.jsonl", rows())
    plain = gapsel.run("plain", pool_vectors="pool.npy", target_vectors="target.npy", **TINY)
    for name, texts in dict[str, dict[str, Any]](alone={}, texts={"pool": "pool.jsonl"}).items():
        given: dict[str, Any] = {
            "pool_vectors": "pool.jsonl",
            "vector_field": "embedding",
            "target_vectors": "target.npy",
        }
        found = gapsel.run(name, **given, **texts, **TINY)
        np.testing.assert_array_equal(found.rows, plain.rows)
        np.testing.assert_array_equal(found.scores, plain.scores)
        assert found.ids == [f"d{row}" for row in found.rows]
    chosen = [json.loads(line) for line in Path("texts/selected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(row["text"] == f"text {row['id'][1:]}" for row in chosen)


def test_a_folder_of_shards_counts_lines_where_it_holds_nothing_else() -> None:
    Path("shards").mkdir()
    for at in range(3):
        write(f"shards/{at}.jsonl", rows(POOL[20 * at : 20 * at + 20]))
    assert store.files(["shards"]) == [f"shards/{at}.jsonl" for at in range(3)]
    np.testing.assert_array_equal(store.from_vectors(store.files(["shards/*"])).shards[2], POOL[40:])
    np.save("shards/x.npy", POOL)
    assert store.files(["shards"]) == ["shards/x.npy"]


LAST = 40
FAULTS: dict[str, tuple[object, tuple[str, ...]]] = {
    "ragged": ([1.0, 2.0], ("is of 2 dimensions, others of 4",)),
    "null": (None, ("is missing",)),
    "a null in it": ([1.0, None, 2.0, 3.0], ("holds null at dimension 1",)),
    "a text in it": ([1.0, "two", 3.0, 4.0], ("holds 'two', which is no number",)),
    "a truth in it": ([1.0, True, 3.0, 4.0], ("holds 'True', which is no number",)),
    "a text": ("1 2 3 4", ("is of type str and not a list",)),
    "NaN": ([1.0, float("nan"), 2.0, 3.0], ("NaN or infinite values",)),
    "beyond float32": ([1.0, 1e300, 2.0, 3.0], ("NaN or infinite values",)),
    "zeros": ([0.0] * D, ("all zeros",)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_vector_is_named(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    value, words = FAULTS[fault]
    write("pool.jsonl", [{**row, "embedding": value} if at == LAST else row for at, row in enumerate(rows())])
    given = flags({"pool_vectors": "pool.jsonl", "target_vectors": "target.npy", **TINY})
    code, said = command(["run", "--quiet", *given, "-o", "out"], capsys)
    assert code == DATA, said
    assert_says(said, ("pool.jsonl row 40", *words, "row"))
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"embedding": [1, 2,', ("is not JSON",)),
        ("[1, 2, 3, 4]", ("is not a JSON object",)),
        ('{"id": "x", "embedding": [1, 2, 3, 4]} {}', ("is not JSON",)),
        ('{"id": "x"}', ("the vector is missing",)),
        ('{"embedding": [1, 2, 3, 4]}', ("its id, in column 'id', is null",)),
    ],
)
def test_a_bad_row_is_named(line: str, words: tuple[str, ...]) -> None:
    lines = [json.dumps(row) for row in rows()]
    Path("pool.jsonl").write_text("\n".join([*lines[:LAST], line, *lines[LAST:]]), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read("pool.jsonl", column="embedding")
    assert_says(str(caught.value), ("pool.jsonl row 40", *words))


def test_files_that_hold_no_vectors() -> None:
    Path("empty.jsonl").write_text("\n\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"empty.jsonl: is empty"):
        store.look("empty.jsonl")
    write("texts.jsonl", [{"text": "none"}])
    with pytest.raises(DataError, match=r"texts\.jsonl row 0: has no field with a list of numbers"):
        store.look("texts.jsonl")
    Path("cut.jsonl.gz").write_bytes(gzip.compress(b'{"v": [1, 2]}\n' * 5000)[:-20])
    with pytest.raises(DataError, match=r"cut.jsonl.gz: cannot be read"):
        store.look("cut.jsonl.gz")


def test_vectors_of_another_d_in_another_file() -> None:
    write("a.jsonl", rows())
    write("b.jsonl", rows(POOL[:, :3]))
    with pytest.raises(DataError, match=r"b.jsonl: has 3 dimensions, .*a.jsonl has 4"):
        gapsel.run("out", pool_vectors=["a.jsonl", "b.jsonl"], target_vectors="target.npy", **TINY)
