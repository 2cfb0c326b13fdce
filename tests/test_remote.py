"""Files by URL: what is read over HTTP or from fsspec's memory is what is read from a disk, whatever fails."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow as pa
import pytest

from faults import RESOURCE, TARGET, assert_says, command, flags
from file_bytes import arrow, npy, parquet
from gapsel import corpus, remote
from gapsel.errors import DataError, MissingDependencyError, ResourceError
from texts import FORMS, ROWS, as_jsonl, read_all

if TYPE_CHECKING:
    from http_store import Store


pytestmark = pytest.mark.usefixtures("quick")

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


def test_an_endless_fault_ends(
    server: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files |= {"pool.jsonl": big(), "target.npy": npy(TARGET)}
    server.faults = 10**6
    monkeypatch.setattr(remote, "_PAUSES", (0.001,))
    given = flags({"pool": f"{server.url}/pool.jsonl", "target_vectors": f"{server.url}/target.npy", "k": 5})
    code, said = command(["run", "--quiet", *given, "-o", "out"], capsys)
    assert code == RESOURCE
    assert_says(said, ("cannot be reached", "503", "give the same command again"))


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
