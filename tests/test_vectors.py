"""Ready-made vectors as a store, and the check of all vectors before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gapsel import store
from gapsel.errors import DataError, ResourceError
from gapsel.pipeline.vectors.sides import shard_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

D = 8
FULL = Path("/dev/full")


def vectors(n: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, D)).astype(np.float32)


@pytest.mark.parametrize(("rows", "of_a_shard"), [(1, 8192), (10**7, 8192), (10**8, 24_576), (10**10, 65_536)])
def test_shards_of_texts_are_small_as_long_as_they_are_not_too_many(rows: int, of_a_shard: int) -> None:
    assert shard_rows(rows) == of_a_shard


def test_the_list_of_shards_takes_less_writing_than_the_vectors() -> None:
    """It is written anew with each shard, some 200 bytes for each that is there."""
    for rows in 10 ** np.arange(4, 10):
        shards = -(-int(rows) // shard_rows(int(rows)))
        assert 200 * shards**2 / 2 < 0.05 * rows * 2 * 384


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_npy_is_a_memory_map(tmp_path: Path, dtype: type[np.floating]) -> None:
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for seed, path in enumerate(paths):
        np.save(path, vectors(5, seed).astype(dtype))
    found = store.from_vectors(paths)
    assert all(isinstance(shard, np.memmap) and shard.dtype == dtype for shard in found.shards)
    assert (found.n, found.d, found.folder) == (10, D, None)
    np.testing.assert_array_equal(found.shards[1], vectors(5, 1).astype(dtype))
    rows = np.array([7, 0])
    assert found.ids(rows) == ["7", "0"]
    assert found.sources(rows) == [str(paths[1]), str(paths[0])]
    assert found.row_numbers(rows).tolist() == [2, 0]
    assert found.text_hashes(rows) == [bytes(16)] * 2
    assert found.tokens() == 0
    assert store.from_vectors(paths, [f"x{at}" for at in range(10)]).ids(rows) == ["x7", "x0"]
    assert found.table(2, 9).schema.names == ["id", "source", "row", "text_hash", "tokens"]
    assert found.fingerprint_hex == store.from_vectors([vectors(5, 0).astype(dtype), np.load(paths[1])]).fingerprint_hex


def test_array_is_not_copied() -> None:
    x = vectors(4)
    (shard,) = store.from_vectors(x).shards
    assert np.shares_memory(shard, x)
    assert not shard.flags.writeable
    assert x.flags.writeable


@pytest.mark.parametrize("form", ["float64", "fortran", "big-endian", "strided"])
def test_other_forms_become_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr("gapsel.store.given.BLOCK_ROWS", 3)
    x = vectors(10)
    forms: dict[str, NDArray[np.floating]] = {
        "float64": x.astype(np.float64),
        "fortran": np.asfortranarray(x),
        "big-endian": x.astype(">f4"),
        "strided": np.repeat(x, 2, axis=0)[::2],
    }
    np.save(tmp_path / "x.npy", forms[form])
    for found in (store.from_vectors(forms[form]), store.from_vectors(tmp_path / "x.npy")):
        (shard,) = found.shards
        assert shard.dtype == np.float32
        assert shard.flags.c_contiguous
        np.testing.assert_array_equal(shard, x)


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
def test_a_full_disk_is_named_where_vectors_are_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: FULL.open("wb"))
    with pytest.raises(ResourceError, match=r"cannot be converted in .* \(No space left on device\): free some space"):
        store.from_vectors(np.ones((600, 600)))


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), D), pa.list_(pa.float64()), pa.large_list(pa.float16())])
def test_parquet_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: pa.DataType) -> None:
    monkeypatch.setattr("gapsel.store.given.BLOCK_ROWS", 3)
    x = vectors(10).astype(np.float16)
    table = pa.table({"id": range(10), "embedding": pa.array(x.astype(np.float32).tolist(), kind), "text": ["x"] * 10})
    pq.write_table(table, tmp_path / "x.parquet")
    found = store.from_vectors(tmp_path / "x.parquet")
    np.testing.assert_array_equal(found.shards[0], x)
    assert found.ids(np.array([3])) == ["3"]
    assert store.from_vectors(tmp_path / "x.parquet", column="embedding").n == 10


def test_parquet_vectors_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    cases = {
        "has no column of lists of floats: give a file": {"text": ["a"]},
        "has several columns of lists of floats: name one, u, v": {"u": [[1.0]], "v": [[1.0]]},
        r"row 1: the vector is of 2 dimensions, others of 1": {"v": [[1.0], [1.0, 2.0]]},
        r"row 2: the vector is missing": {"v": [[1.0], [1.0], None]},
        r"row 1: its id, in column 'id', is null": {"v": [[1.0], [2.0]], "id": ["a", None]},
    }
    for message, columns in cases.items():
        pq.write_table(pa.table(columns), path)
        with pytest.raises(DataError, match=message):
            store.from_vectors(path)
    pq.write_table(pa.table({"v": pa.array([], pa.list_(pa.float32()))}), path)
    with pytest.raises(DataError, match="is empty"):
        store.from_vectors(path)


def test_vectors_that_are_no_vectors(tmp_path: Path) -> None:
    np.save(tmp_path / "object.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01")
    (tmp_path / "x.npz").write_bytes(b"")
    cases = {
        "object.npy": "cannot be read .*Python objects",
        "cut.npy": "cannot be read",
        "x.npz": "extension is unknown",
        "none.npy": "there is no such file",
    }
    for name, message in cases.items():
        with pytest.raises(DataError, match=message):
            store.from_vectors(tmp_path / name)
    with pytest.raises(DataError, match="3 ids for 2 vectors"):
        store.from_vectors(vectors(2), ["a", "b", "c"])
    with pytest.raises(DataError, match="no vectors: name a"):
        store.from_vectors([])


# ---- the check


def test_good_vectors_pass() -> None:
    store.check([vectors(5), vectors(6).astype(np.float16)], name="pool", normalize=True)


def test_zero_rows_pass_where_no_direction_is_needed() -> None:
    store.check([np.zeros((2, 2), np.float32)], name="pool", normalize=False)


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ([], "pool: is empty"),
        ([np.ones((0, 3), np.float32)], "pool: is empty"),
        ([np.ones((3, 0), np.float32)], "pool: is empty"),
        ([np.ones(3, np.float32)], r"pool: is of shape \(3,\): vectors are two-dimensional"),
        ([np.ones((2, 2), np.int64)], "pool: is of type int64"),
        ([np.ones((2, 2), object)], "pool: is of type object"),
        ([np.ones((2, 2), np.complex64)], "pool: is of type complex64"),
        ([np.ones((2, 2)), np.ones((2, 3))], "pool, array 1: has 3 dimensions, the shards before it 2"),
    ],
)
def test_arrays_of_the_wrong_form(shards: list[NDArray[np.floating]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        store.check(shards, name="pool", normalize=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f4"])
def test_bad_rows_are_named_and_counted(monkeypatch: pytest.MonkeyPatch, dtype: type[np.floating]) -> None:
    monkeypatch.setattr("gapsel.store.given.BLOCK_ROWS", 4)
    first, second = vectors(10).astype(dtype), vectors(10).astype(dtype)
    second[3] = 0
    with pytest.raises(DataError, match=r"pool, array 1 row 3: all zeros, .* \(1 such rows in all\): remove"):
        store.check([first, second], name="pool", normalize=True)
    second[[1, 9], 2] = [np.nan, -np.inf]
    with pytest.raises(DataError, match=r"pool, array 1 row 1: NaN or infinite values \(2 such rows in all\)"):
        store.check([first, second], name="pool", normalize=True)


@pytest.mark.parametrize("form", ["float32", "float64", "parquet"])
def test_the_file_of_a_bad_row_is_named(tmp_path: Path, form: str) -> None:
    x = vectors(4)
    np.save(tmp_path / "good.npy", x)
    x[2, 0] = np.nan
    bad = tmp_path / ("bad.parquet" if form == "parquet" else "bad.npy")
    if form == "parquet":
        pq.write_table(pa.table({"v": list(x)}), bad)
    else:
        np.save(bad, x.astype(form))
    found = store.from_vectors([tmp_path / "good.npy", bad])
    with pytest.raises(DataError, match=rf"{bad.name} row 2: NaN"):
        store.check(found.shards, name="pool", normalize=True, files=found.files)
