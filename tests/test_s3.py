"""Texts and vectors from an S3 server: moto's, which speaks the protocol over HTTP as Amazon's does."""

from __future__ import annotations

import gzip
import json
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import s3fs
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

import gapsel
from faults import DATA, POOL, RESOURCE, TARGET, N, assert_says, command, flags
from file_bytes import npy
from gapsel import corpus, remote, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TINY: dict[str, Any] = {"k": 5, "tolerance": 0.05}
SHARDS = 3
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    # Faults come through to gapsel, rather than to the client's own tries.
    "AWS_MAX_ATTEMPTS": "1",
}


class Faulty:
    """A WSGI application that answers reads of objects with the next of ``faults``, while there are any."""

    def __init__(self, inner: Callable[..., Any]) -> None:
        self._inner = inner
        self.faults: list[str] = []
        self.denied: set[str] = set()
        self.read: list[str] = []

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:  # noqa: ANN401 - as WSGI has it
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if any(name in path for name in self.denied):
            start("403 Forbidden", [("Content-Length", "0")])
            return [b""]
        if method == "GET" and path.count("/") > 1:
            self.read.append(path)
            fault = self.faults.pop() if self.faults else ""
            if fault:
                start(fault, [("Content-Length", "0")])
                return [b""]
        return self._inner(environ, start)


@contextmanager
def serving() -> Iterator[tuple[str, Faulty]]:
    """Start a server on a free port; yield its address and what makes it fail."""
    faulty = Faulty(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, faulty, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", faulty
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def bucket() -> Iterator[Faulty]:
    """A bucket with shards of texts and of vectors, and what is beside them in any bucket; the environment names it."""
    with pytest.MonkeyPatch.context() as patch, serving() as (url, faulty):
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": url}.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        system = s3fs.S3FileSystem()
        system.mkdir("crawl")
        for at, rows in enumerate(np.array_split(np.arange(N), SHARDS)):
            lines = [json.dumps({"id": f"d{row}", "text": f"text {row}", "n": int(row)}) for row in rows]
            system.pipe(f"crawl/texts/{at:05d}.jsonl.gz", gzip.compress("\n".join(lines).encode()))
            system.pipe(f"crawl/vectors/part-{at}.npy", npy(POOL[rows]))
        system.pipe("crawl/vectors/_SUCCESS", b"")
        system.pipe("crawl/vectors/.tmp/part-9.npy", b"half written")
        yield faulty
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(autouse=True)
def _here(bucket: Faulty, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(remote, "_PAUSES", (0.001, 0.001, 0.001))
    monkeypatch.chdir(tmp_path)
    np.save("pool.npy", POOL)
    np.save("target.npy", TARGET)
    bucket.faults.clear()
    bucket.denied.clear()
    bucket.read.clear()


def test_shards_are_listed_in_order_without_what_is_hidden() -> None:
    parts = [f"s3://crawl/vectors/part-{at}.npy" for at in range(SHARDS)]
    assert store.files(["s3://crawl/vectors"]) == parts
    assert store.files(["s3://crawl/vec*/part-[12].npy"]) == parts[1:]
    assert corpus.sources(["s3://crawl/texts/"]) == [f"s3://crawl/texts/{at:05d}.jsonl.gz" for at in range(SHARDS)]


def test_a_run_from_a_bucket_is_one_from_a_disk(bucket: Faulty) -> None:
    """Texts and vectors in shards, and reads that fail: nothing is lost, and the same again reads nothing."""
    given: dict[str, Any] = {"pool": "s3://crawl/texts", "pool_vectors": "s3://crawl/vectors/*.npy"}
    bucket.faults = ["503 Slow Down", "", "500 Internal Server Error", "503 Slow Down", "", ""]
    chosen = gapsel.run("out", **given, target_vectors="target.npy", **TINY)
    assert not bucket.faults
    plain = gapsel.run("plain", pool_vectors="pool.npy", target_vectors="target.npy", **TINY)
    np.testing.assert_array_equal(chosen.rows, plain.rows)
    np.testing.assert_array_equal(chosen.scores, plain.scores)
    rows = [json.loads(line) for line in Path("out/selected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["id"], row["text"]) for row in rows] == [(f"d{row['n']}", f"text {row['n']}") for row in rows]
    assert {row["n"] for row in rows} == set(chosen.rows.tolist())
    bucket.read.clear()
    gapsel.run("out", **given, target_vectors="target.npy", **TINY)
    assert not [path for path in bucket.read if path.endswith((".npy", ".gz"))]


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("s3://crawl/none.npy", DATA, ("s3://crawl/none.npy", "there is no such file", "check the URL")),
        ("s3://nobody/pool.npy", DATA, ("s3://nobody/pool.npy", "there is no such file")),
        ("s3://crawl/vectors/*.parquet", DATA, ("vectors/*.parquet", "nothing is there")),
        ("s3://crawl/vectors/part-1.npy", RESOURCE, ("part-1.npy", "permission to read it is denied", "credentials")),
    ],
)
def test_what_cannot_be_had_is_said(
    bucket: Faulty, capsys: pytest.CaptureFixture[str], url: str, code: int, words: tuple[str, ...]
) -> None:
    bucket.denied.add("part-1.npy")
    given = flags({"pool_vectors": url, "target_vectors": "target.npy", **TINY})
    found, said = command(["run", "--quiet", *given, "-o", "out"], capsys)
    assert found == code, said
    assert_says(said, words)
    assert not Path("out").exists()


def test_a_store_that_stays_down_is_said_and_the_run_goes_on_later(
    bucket: Faulty, capsys: pytest.CaptureFixture[str]
) -> None:
    given = flags({"pool_vectors": "s3://crawl/vectors", "target_vectors": "target.npy", **TINY})
    bucket.faults = ["500 Internal Server Error"] * 200
    found, said = command(["run", "--quiet", *given, "-o", "out"], capsys)
    assert found == RESOURCE, said
    assert_says(said, ("s3://crawl/vectors/part-0.npy", "cannot be reached", "give the same command again"))
    bucket.faults.clear()
    gapsel.run("out", pool_vectors="s3://crawl/vectors", target_vectors="target.npy", **TINY)
