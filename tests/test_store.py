"""Vectors on disk: whole stores, interrupted ones and damaged ones."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

from gapsel import files, store
from gapsel.corpus import text_hash
from gapsel.errors import DataError, ResourceError, UsageError

D = 8
MADE = {"embedder": "test", "pooling": "mean", "max_tokens": 256, "input": "abc"}


def vectors(n: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, D)).astype(np.float32)


def hashes(n: int) -> list[bytes]:
    return [text_hash(f"text {at}") for at in range(n)]


def append(writer: store.Writer, start: int, stop: int, batch: int = 3) -> None:
    """Append documents start..stop of the test corpus, in batches."""
    for low in range(start, stop, batch):
        high = min(low + batch, stop)
        rows = np.arange(low, high)
        ids = [f"id{row}" for row in rows]
        writer.append(vectors(stop)[low:high], ids, "pool.jsonl", rows, hashes(stop)[low:high], rows + 1)


def write(folder: Path, n: int = 10, shard_rows: int = 4) -> store.Store:
    writer = store.Writer(folder, fingerprint=MADE, shard_rows=shard_rows)
    append(writer, 0, n)
    return writer.finish()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# ---- whole stores


def test_what_is_written_is_found_again(tmp_path: Path) -> None:
    write(tmp_path)
    found = store.open(tmp_path, verify=True)
    assert (found.n, found.d, found.folder, found.fingerprint) == (10, D, tmp_path, MADE)
    assert [shard.shape for shard in found.shards] == [(4, D), (4, D), (2, D)]
    np.testing.assert_array_equal(np.concatenate(found.shards), vectors(10).astype(np.float16))
    np.testing.assert_array_equal(found.starts, [0, 4, 8, 10])
    for shard in found.shards:
        assert isinstance(shard, np.memmap)
        assert shard.dtype == np.float16
        assert shard.flags.c_contiguous
        assert not shard.flags.writeable


def test_provenance_of_a_few_rows_in_any_order(tmp_path: Path) -> None:
    found = write(tmp_path)
    rows = np.array([9, 0, 5, 5])
    assert found.ids(rows) == ["id9", "id0", "id5", "id5"]
    assert found.sources(rows) == ["pool.jsonl"] * 4
    assert found.text_hashes(rows) == [hashes(10)[row] for row in rows]
    np.testing.assert_array_equal(found.row_numbers(rows), rows)
    assert found.tokens() == sum(range(1, 11))
    assert found.table(3, 7).column("id").to_pylist() == ["id3", "id4", "id5", "id6"]
    assert found.table(4, 4).num_rows == 0
    assert found.ids(np.array([], np.int64)) == []
    for row in (10, -1):
        with pytest.raises(DataError, match=f"row {row} is out of range: the store has 10 rows"):
            found.ids(np.array([0, row]))


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 40), shard_rows=st.integers(1, 50), batch=st.integers(1, 50))
def test_batches_and_shards_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, n: int, shard_rows: int, batch: int
) -> None:
    writer = store.Writer(tmp_path_factory.mktemp("store"), fingerprint=MADE, shard_rows=shard_rows, dtype=np.float32)
    append(writer, 0, n, batch)
    found = writer.finish()
    np.testing.assert_array_equal(np.concatenate(found.shards), vectors(n))
    assert found.ids(np.arange(n)) == [f"id{row}" for row in range(n)]


def test_same_vectors_same_fingerprint(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    assert first.fingerprint_hex == second.fingerprint_hex
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert write(tmp_path / "c", n=9).fingerprint_hex != first.fingerprint_hex


# ---- interrupted and resumed


def test_resumed_store_is_the_same_as_one_written_at_once(tmp_path: Path) -> None:
    write(tmp_path / "once")
    append(store.Writer(tmp_path / "cut", fingerprint=MADE, shard_rows=4), 0, 7)
    with pytest.raises(DataError, match="the store is not finished"):
        store.open(tmp_path / "cut")
    writer = store.Writer(tmp_path / "cut", fingerprint=MADE, shard_rows=4)
    assert writer.finished_rows == 4
    assert writer.keep(iter(hashes(10))) == 4
    append(writer, 4, 10)
    writer.finish()
    assert contents(tmp_path / "cut") == contents(tmp_path / "once")


def test_finished_store_is_kept_as_it_is(tmp_path: Path) -> None:
    write(tmp_path)
    before = contents(tmp_path)
    writer = store.Writer(tmp_path, fingerprint=MADE, shard_rows=4)
    assert writer.keep(hashes(10)) == 10
    assert writer.finish().n == 10
    assert contents(tmp_path) == before


def test_shards_from_the_first_changed_text_on_are_redone(tmp_path: Path) -> None:
    write(tmp_path)
    changed = hashes(10)
    changed[6] = text_hash("edited")
    writer = store.Writer(tmp_path, fingerprint=MADE, shard_rows=4)
    assert writer.keep(changed) == 4
    assert sorted(contents(tmp_path)) == ["00000.npy", "00000.parquet", "store.json"]
    append(writer, 4, 10)
    writer.finish()
    assert store.open(tmp_path, verify=True).n == 10


@pytest.mark.parametrize(("documents", "kept"), [(9, 8), (8, 8), (7, 4), (0, 0)])
def test_fewer_documents_than_before(tmp_path: Path, documents: int, kept: int) -> None:
    write(tmp_path)
    writer = store.Writer(tmp_path, fingerprint=MADE, shard_rows=4)
    assert writer.keep(hashes(documents)) == kept == writer.finished_rows


def test_lost_or_cut_shard_is_redone(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "00001.npy").write_bytes((tmp_path / "00001.npy").read_bytes()[:-1])
    assert store.Writer(tmp_path, fingerprint=MADE, shard_rows=4).finished_rows == 4
    (tmp_path / "00000.parquet").unlink()
    writer = store.Writer(tmp_path, fingerprint=MADE, shard_rows=4)
    assert writer.keep(hashes(10)) == 0
    append(writer, 0, 10)
    assert writer.finish().n == store.open(tmp_path, verify=True).n == 10


def test_nothing_is_added_to_unchecked_shards(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(UsageError, match=r"check them with keep\(\)"):
        append(store.Writer(tmp_path, fingerprint=MADE, shard_rows=4), 0, 1)


def test_vectors_made_otherwise_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(
        DataError, match=r"made otherwise \(pooling 'mean' there and 'cls' now\): choose another folder"
    ):
        store.Writer(tmp_path, fingerprint={**MADE, "pooling": "cls"})
    with pytest.raises(DataError, match="dtype 'float16' there and 'float32' now"):
        store.Writer(tmp_path, fingerprint=MADE, dtype=np.float32)


# ---- what cannot be written


def test_wrong_batches_are_refused(tmp_path: Path) -> None:
    writer = store.Writer(tmp_path, fingerprint=MADE)
    append(writer, 0, 3)
    row = np.zeros(1, np.int64)
    with pytest.raises(DataError, match="the vectors have 3 dimensions, those before 8"):
        writer.append(np.ones((1, 3), np.float32), ["a"], "s", row, hashes(1), row)
    with pytest.raises(UsageError, match=r"shape \(2, 8\) do not go with \[1, 1, 1, 1, 1\]"):
        writer.append(vectors(2), ["a"], "s", row, hashes(1), row)
    for value in (np.nan, np.inf, 1e6):
        bad = vectors(2)
        bad[1, 2] = value
        with pytest.raises(DataError, match=r"document 'b': .* not finite in float16 \(1 of 2 documents\)"):
            writer.append(bad, ["a", "b"], "s", np.arange(2), hashes(2), np.arange(2))
    with pytest.raises(DataError, match="no document was embedded"):
        store.Writer(tmp_path / "empty", fingerprint=MADE).finish()
    with pytest.raises(UsageError, match="shard_rows is 0"):
        store.Writer(tmp_path, fingerprint=MADE, shard_rows=0)
    with pytest.raises(UsageError, match="dtype float64"):
        store.Writer(tmp_path, fingerprint=MADE, dtype=np.float64)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    writer = store.Writer(tmp_path / "file" / "store", fingerprint=MADE, shard_rows=1)
    with pytest.raises(ResourceError, match="cannot be written"):
        append(writer, 0, 1)


def test_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, {"old": 1})

    def write_half() -> None:
        with files.whole(path) as out:
            out.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ResourceError, match=r"x.json: cannot be written \(No space left on device\)"):
        write_half()
    assert contents(tmp_path) == {"x.json": b'{\n  "old": 1\n}\n'}


# ---- damaged stores


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not a store of vectors \(it has no store.json\)"):
        store.open(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"format": 1}', b'{"format": 1, "shards": [1]}'])
def test_damaged_index(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "store.json").write_bytes(data)
    with pytest.raises(DataError, match=r"store.json: is damaged"):
        store.open(tmp_path)


def test_other_version(tmp_path: Path) -> None:
    write(tmp_path)
    index = json.loads((tmp_path / "store.json").read_text())
    (tmp_path / "store.json").write_text(json.dumps({**index, "format": 2}))
    with pytest.raises(DataError, match="format version 2, this gapsel reads 1"):
        store.open(tmp_path)


@pytest.mark.parametrize("name", ["00001.npy", "00002.parquet"])
@pytest.mark.parametrize("harm", ["missing", "empty", "cut", "longer", "other"])
def test_damaged_shard_is_named(tmp_path: Path, name: str, harm: str) -> None:
    write(tmp_path)
    path = tmp_path / name
    data = path.read_bytes()
    if harm == "missing":
        path.unlink()
    elif harm == "other":
        path.write_bytes((tmp_path / name.replace("1", "2").replace("00002.parquet", "00000.parquet")).read_bytes())
    else:
        path.write_bytes({"empty": b"", "cut": data[:-4], "longer": data + b"more"}[harm])
    with pytest.raises(DataError, match=f"{name}: is damaged or missing"):
        store.open(tmp_path)


def test_altered_contents_are_found_by_verify(tmp_path: Path) -> None:
    write(tmp_path)
    for name in ("00001.npy", "00001.parquet"):
        data = bytearray((tmp_path / name).read_bytes())
        at = len(data) - 1 if name.endswith("npy") else 6
        data[at] ^= 1
        (tmp_path / name).write_bytes(data)
        store.open(tmp_path)
        with pytest.raises(DataError, match=f"{name}: .* contents do not match their hash"):
            store.open(tmp_path, verify=True)
        data[at] ^= 1
        (tmp_path / name).write_bytes(data)
    store.open(tmp_path, verify=True)
