"""Streams without end: no more is held than a part, rows are answered as they come, a reader may leave."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
from pathlib import Path
from typing import IO, Any

import pytest

from gapsel import corpus, model, stream
from gapsel.backends.cpu import CpuBackend
from gapsel.stream.inputs import Inputs
from streams import POOL, SOURCE, as_jsonl, own_scores

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("offline")


class Endless(io.RawIOBase):
    """Lines without end, one at a time."""

    def __init__(self) -> None:
        self.given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - memory
        line = b'{"text": "king lord"}\n'
        buffer[: len(line)] = line
        self.given += 1
        return len(line)


def test_no_more_of_a_stream_is_held_than_a_part(fitted: Path) -> None:
    loaded = model.load(fitted / "out")
    scorer = stream.Scorer(loaded, CpuBackend(1), lambda: stream.load_encoder(loaded, fitted / "out"))
    endless = Endless()
    parts = Inputs(stream.Reading(batch_rows=16), scorer, corpus.Rejects()).parts((), io.BufferedReader(endless, 32))
    for done in range(1, 50):
        assert len(next(parts).texts or ()) == 16
        assert 16 * done <= endless.given <= 16 * done + 2


def test_long_texts_make_short_parts(fitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("gapsel.corpus.read"), "BATCH_CHARACTERS", 100)
    loaded = model.load(fitted / "out")
    scorer = stream.Scorer(loaded, CpuBackend(1), lambda: stream.load_encoder(loaded, fitted / "out"))
    lines: Any = io.BytesIO(as_jsonl([{"text": "king " * 12}] * 9))
    parts = list(Inputs(stream.Reading(), scorer, corpus.Rejects()).parts((), lines))
    assert [len(part.texts or ()) for part in parts] == [2, 2, 2, 2, 1]


def test_a_slow_stream_is_answered_row_by_row_and_a_reader_that_leaves_ends_it(fitted: Path) -> None:
    flags = ["score", "--model", str(fitted / "out"), "--batch-rows=1", "--rejects=aside.jsonl", "--keep=50%"]
    with subprocess.Popen(
        [*SOURCE, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as running:  # fmt: skip
        assert running.stdin
        assert running.stdout
        assert running.stderr
        best = min(own_scores(fitted).items(), key=lambda pair: pair[1])[0]
        line = as_jsonl([row for row in POOL if row["id"] == best])
        for _ in range(3):
            running.stdin.write(line)
            running.stdin.flush()
            assert json.loads(running.stdout.readline())["id"] == best
        running.stdin.write(b"{broken\n")
        running.stdout.close()
        with pytest.raises(BrokenPipeError):
            feed_for_ever(running.stdin, line)
        said = running.stderr.read().decode()
        with pytest.raises(BrokenPipeError):
            running.stdin.close()
    assert running.returncode == 0, said
    assert "Traceback" not in said
    assert "set aside 1" in said
    assert Path("aside.jsonl").exists()


def feed_for_ever(stdin: IO[bytes], line: bytes) -> None:
    while True:
        stdin.write(line)
        stdin.flush()
