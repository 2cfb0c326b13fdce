"""Whole runs on vectors and texts by URL: brought, taken up again, and what cannot be had said with its remedy."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

import gapsel
from faults import DATA, POOL, RESOURCE, TARGET, D, N, assert_says, command, flags
from file_bytes import npy, parquet
from gapsel import corpus, remote, store
from gapsel.errors import DataError
from texts import ROWS, as_jsonl

if TYPE_CHECKING:
    from http_store import Store


pytestmark = pytest.mark.usefixtures("quick")

TINY: dict[str, Any] = {"k": 5, "tolerance": 0.05}


def prepared(where: dict[str, bytes]) -> None:
    """Put pool and target there: texts, and their vectors in three shards of two kinds."""
    documents = [{"id": f"d{at}", "text": f"text {at}", "n": at} for at in range(N)]
    where["texts/a.jsonl"] = as_jsonl(documents[:30])
    where["texts/b.jsonl.gz"] = gzip.compress(as_jsonl(documents[30:]))
    where["vectors/0.npy"] = npy(POOL[:25])
    where["vectors/1.parquet"] = parquet(
        pa.table({"id": [f"d{at}" for at in range(25, 45)], "v": pa.array(list(POOL[25:45]), pa.list_(pa.float32()))})
    )
    where["vectors/2.npy"] = npy(POOL[45:].astype(np.float64))
    where["target.npy"] = npy(TARGET)


def here() -> dict[str, Any]:
    np.save("pool.npy", POOL)
    np.save("target.npy", TARGET)
    return {"pool_vectors": "pool.npy", "target_vectors": "target.npy", **TINY}


def test_vectors_by_url_are_brought_and_chosen_from(server: Store) -> None:
    prepared(server.files)
    names = [f"{server.url}/vectors/{name}" for name in ("0.npy", "1.parquet", "2.npy")]
    settings = {"pool_vectors": names, "target_vectors": f"{server.url}/target.npy", **TINY}
    there, plain = gapsel.run("out", **settings), gapsel.run("plain", **here())
    np.testing.assert_array_equal(there.rows, plain.rows)
    np.testing.assert_array_equal(there.scores, plain.scores)
    assert there.ids == [f"d{row}" if 25 <= row < 45 else str(row) for row in there.rows]
    assert {file.name for file in Path("out/vectors/pool").glob("*.npy")} == {"00000.npy"}
    server.sent = 0
    gapsel.run("out", **settings)
    assert server.sent == 0, "the same command again asks for no content"


def test_texts_by_url_beside_vectors_and_the_users_own_rows_at_the_end(server: Store) -> None:
    prepared(server.files)
    settings = {
        "pool": [f"{server.url}/texts/a.jsonl", f"{server.url}/texts/b.jsonl.gz"],
        "pool_vectors": [f"{server.url}/vectors/{name}" for name in ("0.npy", "1.parquet", "2.npy")],
        "target_vectors": f"{server.url}/target.npy",
        **TINY,
    }
    server.faults = 3
    chosen = gapsel.run("out", **settings)
    assert chosen.ids == [f"d{row}" for row in gapsel.run("plain", **here()).rows]
    rows = [json.loads(line) for line in chosen.file.read_text(encoding="utf-8").splitlines()]
    assert {row["n"] for row in rows} == set(chosen.rows.tolist())
    assert all(row["text"] == f"text {row['n']}" for row in rows)


def test_a_bad_row_is_named_and_what_was_brought_before_it_stays(
    server: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gapsel.pipeline.vectors.given._MOST_ROWS", 16)
    monkeypatch.setattr("gapsel.pipeline.vectors.given._LEAST_ROWS", 16)
    monkeypatch.setattr("gapsel.store.given.BLOCK_ROWS", 4)
    bad = POOL.copy()
    bad[40] = np.nan
    server.files |= {"pool.npy": npy(bad), "target.npy": npy(TARGET)}
    settings = {"pool_vectors": f"{server.url}/pool.npy", "target_vectors": f"{server.url}/target.npy", **TINY}
    with pytest.raises(DataError, match=r"pool.npy row 40: NaN or infinite values"):
        gapsel.run("out", **settings)
    assert sorted(file.name for file in Path("out/vectors/pool").glob("*.npy")) == ["00000.npy", "00001.npy"]
    server.files["pool.npy"] = npy(POOL)
    with pytest.raises(DataError, match="files have changed since"):
        gapsel.run("out", **settings)


def test_an_interrupted_bringing_goes_on(server: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gapsel.pipeline.vectors.given._MOST_ROWS", 16)
    monkeypatch.setattr("gapsel.pipeline.vectors.given._LEAST_ROWS", 16)
    monkeypatch.setattr("gapsel.store.given.BLOCK_ROWS", 4)
    monkeypatch.setattr(remote, "BLOCK", 64)
    server.files |= {"pool.npy": npy(POOL), "target.npy": npy(TARGET)}
    settings = {"pool_vectors": f"{server.url}/pool.npy", "target_vectors": f"{server.url}/target.npy", **TINY}
    from gapsel.store import Writer

    whole, calls = Writer.append, [0]

    def broken(self: Writer, *args: Any) -> None:  # noqa: ANN401
        calls[0] += 1
        if calls[0] == 11:
            raise KeyboardInterrupt
        whole(self, *args)

    monkeypatch.setattr(Writer, "append", broken)
    with pytest.raises(KeyboardInterrupt):
        gapsel.run("out", **settings)
    before = {file.name: file.stat().st_mtime_ns for file in Path("out/vectors/pool").glob("*.npy")}
    assert sorted(before) == ["00000.npy", "00001.npy"]
    gapsel.run("out", **settings)
    after = {file.name: file.stat().st_mtime_ns for file in Path("out/vectors/pool").glob("*.npy")}
    assert {name: after[name] for name in before} == before
    np.testing.assert_array_equal(np.concatenate([np.load(f"out/vectors/pool/{name}") for name in sorted(after)]), POOL)


def test_what_cannot_be_had_is_said_with_the_remedy(server: Store, capsys: pytest.CaptureFixture[str]) -> None:
    server.files |= {"target.npy": npy(TARGET), "secret.npy": npy(POOL), "down.npy": npy(POOL)}
    server.denied.add("secret.npy")
    gone = "http://127.0.0.1:9/pool.npy"
    cases = [
        (f"{server.url}/none.npy", DATA, ("none.npy", "there is no such file", "check the URL")),
        (f"{server.url}/secret.npy", RESOURCE, ("secret.npy", "permission", "credentials")),
        (gone, RESOURCE, (gone, "cannot be reached", "check the URL and the network")),
        ("s4://bucket/pool.npy", DATA, ("s4://bucket/pool.npy", "a URL that fsspec knows")),
        (f"{server.url}/none/*.npy", DATA, ("none/*.npy", "nothing is there")),
    ]
    for url, expected, words in cases:
        given = flags({"pool_vectors": url, "target_vectors": f"{server.url}/target.npy", **TINY})
        code, said = command(["run", "--quiet", *given, "-o", "out"], capsys)
        assert code == expected, said
        assert_says(said, words)
        assert not Path("out").exists()


def test_a_folder_that_lacks_a_shard(bucket: Any) -> None:  # noqa: ANN401
    """Files that say how many they are: of a folder all are wanted, a pattern may mean some."""
    for at in (0, 1, 3):
        name = f"train-{at:05d}-of-00004"
        bucket.pipe(f"/pool/{name}.jsonl", b"{}")
        bucket.pipe(f"/pool/{name}.npy", npy(POOL))
        Path("pool").mkdir(exist_ok=True)
        Path(f"pool/{name}.jsonl").write_text("{}", encoding="utf-8")
        np.save(f"pool/{name}.npy", POOL)
    for folder in ("memory://pool", "pool"):
        for find in (corpus.sources, store.files):
            with pytest.raises(DataError, match=r"pool: holds 3 of the 4 files .*train-\*-of-4.*, number 2 is missing"):
                find([folder])
            assert len(find([f"{folder}/*"])) == 3
    Path("pool/train-00002-of-00004.jsonl").write_text("{}", encoding="utf-8")
    assert len(corpus.sources(["pool"])) == 4


def test_folders_of_vectors_that_lie_here(capsys: pytest.CaptureFixture[str]) -> None:
    """Sorted, and used where they lie; each counts once."""
    Path("shards").mkdir()
    for at in range(3):
        np.save(f"shards/{at}.npy", POOL[20 * at : 20 * at + 20])
    Path("shards/readme.txt").write_text("no vectors", encoding="utf-8")
    plain = gapsel.run("plain", **here())
    for paths in ("shards", "shards/*.npy"):
        found = gapsel.run(f"out-{len(paths)}", pool_vectors=paths, target_vectors="target.npy", **TINY)
        np.testing.assert_array_equal(found.rows, plain.rows)
        assert not Path(f"out-{len(paths)}/vectors").exists()
    code, said = command(
        ["run", "--quiet", "--pool-vectors", "shards", "--target-vectors", "target.npy", "-o", "shards/out"], capsys
    )
    assert code == 2
    assert_says(said, ("shards/out", "would be read as a part of the pool"))
    twice = ["--pool-vectors", "shards", "shards/1.npy", "--target-vectors", "target.npy"]
    code, said = command(["run", "--quiet", *twice, "-o", "out"], capsys)
    assert code == DATA
    assert_says(said, ("shards/1.npy", "is named twice"))


def test_shards_that_do_not_fit_are_named(server: Store, capsys: pytest.CaptureFixture[str]) -> None:
    prepared(server.files)
    good = f"{server.url}/vectors/0.npy"
    server.files |= {
        "cut.npy": npy(POOL)[:-8],
        "flipped.parquet": parquet(pa.Table.from_pylist(ROWS))[:-6] + b"\x00" * 6,
        "wide.npy": npy(np.ones((3, D + 1), np.float32)),
        "whole.npy": npy(np.ones((3, D), np.int64)),
        "columns.npy": npy(np.asfortranarray(POOL)),
        "text.npy": b"hello",
    }
    cases = [
        ([good, f"{server.url}/cut.npy"], ("cut.npy", "is cut short", "write it again")),
        ([good, f"{server.url}/flipped.parquet"], ("flipped.parquet", "cannot be read", "write it again")),
        ([good, f"{server.url}/wide.npy"], ("wide.npy", f"has {D + 1} dimensions", f"has {D}", "one embedder")),
        ([good, f"{server.url}/whole.npy"], ("whole.npy", "int64", "float16, float32 or float64")),
        ([good, f"{server.url}/columns.npy"], ("columns.npy", "column by column", "ascontiguousarray")),
        ([good, f"{server.url}/text.npy"], ("text.npy", "cannot be read", "write it again")),
        ([good, good], ("0.npy", "is named twice", "name it once")),
    ]
    for paths, words in cases:
        given = ["--pool-vectors", *paths, *flags({"target_vectors": f"{server.url}/target.npy", **TINY})]
        code, said = command(["run", "--quiet", *given, "-o", "out"], capsys)
        assert code == DATA, said
        assert_says(said, words)
        assert not Path("out").exists()


def test_a_pool_in_hundreds_of_shards(bucket: Any) -> None:  # noqa: ANN401
    """300 Parquet shards by a glob, with ids: brought into shards of their own size, row for row."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6000, D)).astype(np.float32)
    for at in range(300):
        part = slice(20 * at, 20 * at + 20)
        table = pa.table({"id": [f"row-{row}" for row in range(6000)[part]], "v": list(x[part]), "more": ["x"] * 20})
        bucket.pipe(f"/pool/part-{at:05d}.parquet", parquet(table))
    np.save("pool.npy", x)
    np.save("target.npy", TARGET)
    there = gapsel.run("out", pool_vectors="memory://pool/*.parquet", target_vectors="target.npy", **TINY)
    plain = gapsel.run("plain", pool_vectors="pool.npy", target_vectors="target.npy", **TINY)
    assert there.ids == [f"row-{row}" for row in plain.rows]
    np.testing.assert_array_equal(there.scores, plain.scores)
