"""A small HTTP server in a thread that serves files from memory, and fails in the ways that real ones do.

A plugin of pytest (conftest.py names it): tests ask for the ``server``, for a ``bucket`` in fsspec's memory, and for
retries that are ``quick``.
"""

from __future__ import annotations

import hashlib
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from gapsel import remote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Store:
    """What is served, and how.

    ``faults`` is how many of the next answers with content are status 503; ``cuts`` how many end halfway. Without
    ``parts`` it ignores which bytes are asked for, without ``tags`` it says no etag. ``sent`` counts bytes of content,
    ``denied`` are files that are forbidden.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: int = 0
    cuts: int = 0
    parts: bool = True
    tags: bool = True
    sent: int = 0
    denied: set[str] = field(default_factory=set)


@contextmanager
def serving() -> Iterator[Store]:
    """Serve on a free port of this machine until the block ends."""
    store = Store()

    class Handler(_Handler):
        served = store

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    store.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: Store
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass

    def _answer(self, *, with_content: bool) -> None:
        name = self.path.partition("?")[0].lstrip("/")
        content = self.served.files.get(name)
        if name in self.served.denied:
            self._head(403, 0)
        elif content is not None:
            self._send(content, with_content=with_content)
        elif page := self._page(name):
            self._head(200, len(page), {"Content-Type": "text/html"})
            self.wfile.write(page if with_content else b"")
        else:
            self._head(404, 0)

    def _page(self, folder: str) -> bytes:
        inside = sorted(
            {name[len(folder) :].partition("/")[0] for name in self.served.files if name.startswith(folder)}
        )
        return "".join(f'<a href="{name}">{name}</a>' for name in inside).encode() if folder.endswith("/") else b""

    def _send(self, content: bytes, *, with_content: bool) -> None:
        if with_content and self.served.faults:
            self.served.faults -= 1
            self._head(503, 0)
            return
        tag = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'} if self.served.tags else {}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and self.served.parts:
            first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
            tag["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content = content[first : last + 1]
        self._head(206 if "Content-Range" in tag else 200, len(content), tag)
        if not with_content:
            return
        if self.served.cuts and len(content) > 1:
            self.served.cuts -= 1
            content, self.close_connection = content[: len(content) // 2], True
        self.served.sent += len(content)
        self.wfile.write(content)

    def _head(self, status: int, length: int, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Try again at once, in a folder of the test's own."""
    monkeypatch.setattr(remote, "_PAUSES", (0.001, 0.001, 0.001))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
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
    import fsspec

    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]
