"""A command that Ctrl-C or SIGTERM ends: one line, a code that says by what, nothing half-written, and it goes on."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from faults import GOOD, POOL, TARGET, flags
from gapsel.cli import main
from streams import SOURCE

RUN = ["run", *flags(GOOD), "--quiet", "-o", "out"]
SAID = "gapsel: stopped; the same command goes on from here"
# A shell that works in the background has its children ignore Ctrl-C.
PRELUDE = """
import hashlib, os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from gapsel.cli import main, stopping
from gapsel.files import whole
from gapsel.pipeline.steps import order
def stop(run):
    %s
order.DOORS["score"] = stop
sys.exit(main())
"""
WHILE_IT_WRITES = """
    with whole("out/scores/00000.parquet") as stream:
        stream.write(b"half")
        os.kill(os.getpid(), signal.{name})
        time.sleep(60)
"""
# One instruction for Python, of minutes.
IN_ONE_LONG_CALL = """
    stopping._PATIENCE = 0.2
    threading.Timer(0.3, os.kill, (os.getpid(), signal.{name})).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""
STOPS = [(WHILE_IT_WRITES, "SIGINT", 130), (WHILE_IT_WRITES, "SIGTERM", 143), (IN_ONE_LONG_CALL, "SIGTERM", 143)]


@pytest.fixture(autouse=True)
def _inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("pool.npy", POOL)
    np.save("target.npy", TARGET)


@pytest.mark.parametrize(("at", "name", "code"), STOPS, ids=["Ctrl-C", "SIGTERM", "in one call"])
def test_a_run_that_is_stopped_says_so_and_goes_on(at: str, name: str, code: int) -> None:
    script = PRELUDE % at.format(name=name)
    done = subprocess.run([sys.executable, "-c", script, *RUN], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"{SAID}\n")
    record = json.loads(Path("out/run.json").read_text())
    assert list(record["steps"]) == ["embed", "fit"]
    if at == WHILE_IT_WRITES:
        assert not list(Path("out").rglob(".*"))
    assert main(RUN) == 0


def test_a_stream_that_is_ended_has_told_what_it_set_aside(with_vectors: Path) -> None:
    arguments = ["score", "--model", str(with_vectors / "out"), "--batch-rows=1", "--rejects=aside.jsonl"]
    good = json.dumps({"v": [1.0, 2, 3, 4, 5, 6]}).encode() + b"\n"
    with subprocess.Popen(
        [*SOURCE, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdin
        assert running.stdout
        running.stdin.write(b"{broken\n" + 2 * good)
        running.stdin.flush()
        for _ in range(2):
            assert "gapsel_score" in json.loads(running.stdout.readline())
        for _ in range(2):
            running.send_signal(signal.SIGTERM)
        said = running.communicate(timeout=60)[1].decode()
    assert running.returncode == 143, said
    # It may be stopped between the row that it sends and its count.
    assert re.match("scored (1 document|2 documents); set aside 1\n", said), said
    assert "Traceback" not in said
    assert json.loads(Path("aside.jsonl").read_text())["line"] == 1


def test_signals_are_as_they_were_after_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert main(RUN) == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    monkeypatch.setitem(GOOD, "k", 0)
    assert main(["run", *flags(GOOD), "--quiet", "-o", "other"]) == 2
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
