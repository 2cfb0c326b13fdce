"""Pools by URL: what is read over HTTP or from fsspec's memory is what is read from a disk, whatever fails."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gapsel
from faults import POOL, TARGET, D, N, assert_says, command, flags
from gapsel import corpus, remote, store
from gapsel.errors import DataError, MissingDependencyError, ResourceError
from http_store import serving
from texts import FORMS, ROWS, as_jsonl, read_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from http_store import Store

DATA, ENVIRONMENT = 3, 5
TINY: dict[str, Any] = {"k": 5, "tolerance": 0.05}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(remote, "_PAUSES", (0.001, 0.001, 0.001))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def _server() -> Iterator[Store]:
    with serving() as store:
        yield store


@pytest.fixture
def server(_server: Store) -> Store:
    _server.files.clear()
    _server.denied.clear()
    _server.faults = _server.cuts = _server.sent = 0
    _server.parts = _server.tags = True
    return _server


@pytest.fixture
def bucket() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def npy(array: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def parquet(table: pa.Table, rows: int = 7) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=rows)
    return out.getvalue()


def arrow(table: pa.Table) -> bytes:
    out = io.BytesIO()
    with pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


FILES = {
    **{f"pool.{name}": make(ROWS) for name, make in FORMS.items()},
    "pool.jsonl.gz": gzip.compress(as_jsonl(ROWS)),
    "pool.parquet": parquet(pa.Table.from_pylist(ROWS)),
    "pool.arrow": arrow(pa.Table.from_pylist(ROWS)),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_read_by_url_is_what_is_read_from_a_disk(server: Store, bucket: Any, name: str) -> None:  # noqa: ANN401 - fsspec is not typed
    Path(name).write_bytes(FILES[name])
    server.files[f"data/{name}"] = FILES[name]
    bucket.pipe(f"/data/{name}", FILES[name])
    _, texts, places = read_all([name])
    for url in (f"{server.url}/data/{name}", f"memory://data/{name}", f"file://{Path(name).absolute()}"):
        ids_there, texts_there, places_there = read_all([url])
        assert texts_there == texts
        assert [row for _, row in places_there] == [row for _, row in places]
        assert all(one.startswith(("one", "two", "three", "four", name)) for one in ids_there)


def test_folders_and_globs_by_url(server: Store, bucket: Any) -> None:  # noqa: ANN401
    names = ["a.jsonl", "b.jsonl.gz", "deep/c.csv", ".hidden.jsonl", "deep/.cache/d.jsonl", "notes.md"]
    for name in names:
        bucket.pipe(f"/data/{name}", b"")
        server.files[f"data/{name}"] = b""
    everything = [f"memory:///data/{name}" for name in names[:3]]
    assert corpus.sources(["memory://data"]) == everything
    assert corpus.sources(["memory://data/**/*.csv"]) == [everything[2]]
    assert corpus.sources(["memory://data/*.jsonl*", "memory://data/a.jsonl"]) == everything[:2]
    assert corpus.sources([f"{server.url}/data/*.jsonl"]) == [f"{server.url}/data/a.jsonl"]
    assert corpus.sources([f"{server.url}/data/a.jsonl?key=1"]) == [f"{server.url}/data/a.jsonl?key=1"]
    with pytest.raises(DataError, match="holds no file that gapsel reads"):
        corpus.sources(["memory://data/*.md"])
    with pytest.raises(DataError, match="nothing is there"):
        corpus.sources(["memory://data/*.parquet"])
    with pytest.raises(DataError, match="extension is unknown"):
        corpus.sources(["memory://data/notes.md"])
    bucket.pipe("/data/state.json", b"{}")
    with pytest.raises(DataError, match="saved by `datasets`"):
        corpus.sources(["memory://data"])


def big(rows: int = 3000) -> bytes:
    return as_jsonl([{"id": str(at), "text": f"document {at} " + "x" * (at % 90)} for at in range(rows)])


@pytest.mark.parametrize("parts", [True, False])
def test_reading_goes_on_where_it_broke_off(server: Store, monkeypatch: pytest.MonkeyPatch, *, parts: bool) -> None:
    monkeypatch.setattr(remote, "BLOCK", 10_000)
    server.files["pool.jsonl"], server.parts = big(), parts
    server.faults, server.cuts = 2, 2
    with remote.opened(f"{server.url}/pool.jsonl", 10_000) as stream:
        assert stream.read() == big()
    assert (server.faults, server.cuts) == (0, 0)


def test_a_part_costs_no_more_than_a_part(server: Store) -> None:
    server.files["x"] = bytes(range(256)) * 4000
    with remote.opened(f"{server.url}/x", 1000) as stream:
        stream.seek(500_000)
        assert stream.read(256) == server.files["x"][500_000:500_256]
        stream.seek(-3, 2)
        assert stream.read() == b"\xfd\xfe\xff"
    assert server.sent < 5000


def test_a_server_without_parts_serves_texts_but_no_tables(server: Store) -> None:
    server.files |= {"pool.jsonl": big(), "pool.parquet": FILES["pool.parquet"]}
    server.parts = False
    assert len(read_all([f"{server.url}/pool.jsonl"])[0]) == 3000
    with pytest.raises(DataError, match=r"pool\.parquet: the server sends whole files only"):
        read_all([f"{server.url}/pool.parquet"])


def test_fingerprints_change_with_files_and_cost_nothing_where_there_are_tags(server: Store, bucket: Any) -> None:  # noqa: ANN401
    url = f"{server.url}/pool.jsonl"
    for tags in (True, False):
        server.tags = tags
        server.files["pool.jsonl"], server.sent = big(), 0
        first = corpus.fingerprint([url])
        assert (server.sent == 0) == tags, "without a tag, the content is what tells"
        assert corpus.fingerprint([url]) == first
        server.files["pool.jsonl"] = big()[:-2] + b"\n\n"
        assert corpus.fingerprint([url]) != first
    bucket.pipe("/pool.jsonl", big())
    first = corpus.fingerprint(["memory://pool.jsonl"])
    assert corpus.fingerprint(["memory://pool.jsonl"]) == first
    bucket.pipe("/pool.jsonl", big() + b"\n")
    assert corpus.fingerprint(["memory://pool.jsonl"]) != first


# ---- whole runs


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


# ---- faults


def test_what_cannot_be_had_is_said_with_the_remedy(server: Store, capsys: pytest.CaptureFixture[str]) -> None:
    server.files |= {"target.npy": npy(TARGET), "secret.npy": npy(POOL), "down.npy": npy(POOL)}
    server.denied.add("secret.npy")
    gone = "http://127.0.0.1:9/pool.npy"
    cases = [
        (f"{server.url}/none.npy", DATA, ("none.npy", "there is no such file", "check the URL")),
        (f"{server.url}/secret.npy", ENVIRONMENT, ("secret.npy", "permission", "credentials")),
        (gone, ENVIRONMENT, (gone, "cannot be reached", "check the URL and the network")),
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


def test_an_endless_fault_ends(
    server: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files |= {"pool.jsonl": big(), "target.npy": npy(TARGET)}
    server.faults = 10**6
    monkeypatch.setattr(remote, "_PAUSES", (0.001,))
    given = flags({"pool": f"{server.url}/pool.jsonl", "target_vectors": f"{server.url}/target.npy", **TINY})
    code, said = command(["run", "--quiet", *given, "-o", "out"], capsys)
    assert code == ENVIRONMENT
    assert_says(said, ("cannot be reached", "503", "give the same command again"))


def test_shards_that_do_not_fit_are_named(server: Store, capsys: pytest.CaptureFixture[str]) -> None:
    prepared(server.files)
    good = f"{server.url}/vectors/0.npy"
    server.files |= {
        "cut.npy": npy(POOL)[:-8],
        "flipped.parquet": FILES["pool.parquet"][:-6] + b"\x00" * 6,
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


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'gapsel\[remote\]'"):
        corpus.sources(["s3://bucket/pool.jsonl"])


def test_a_store_without_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_url: str) -> None:
        message = "Install s3fs to access S3"
        raise ImportError(message)

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(MissingDependencyError, match=r"Install s3fs .* pip install 'gapsel\[remote\]'"):
        corpus.sources(["s3://bucket/pool.jsonl"])


def test_permission_is_not_asked_for_again(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    asked = [0]

    def denied(*_args: object, **_more: object) -> None:
        asked[0] += 1
        message = "AccessDenied"
        raise PermissionError(message)

    monkeypatch.setattr(type(bucket), "info", denied)
    with pytest.raises(ResourceError, match=r"memory://x.jsonl: permission .* \(AccessDenied\): give the store's cred"):
        remote.tag("memory://x.jsonl")
    assert asked == [1]
