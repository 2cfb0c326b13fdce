"""Every foreseeable fault, through the command line and through Python: the right exit code or class, a message that
says what, where and what to do, no traceback, and nothing written or lost.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gapsel

if TYPE_CHECKING:
    from numpy.typing import NDArray

from faults import DATA, GOOD, POOL, RESOURCE, TARGET, USAGE, D, M, N, assert_says, command, finish_run, flags, snapshot

CLASS = {USAGE: gapsel.UsageError, DATA: gapsel.DataError}


def _with(value: float, row: int = 7) -> NDArray[np.float32]:
    changed = POOL.copy()
    changed[row, 2 if value else slice(None)] = value
    return changed


def _weights(value: float, rows: int = N) -> NDArray[np.float64]:
    weights = np.ones(rows)
    weights[3] = value
    return weights


# Pools that cannot be used: as a file for the command line and `run`, as an array for the Selector.
VECTORS: dict[str, tuple[NDArray[Any], tuple[str, ...]]] = {
    "nan": (_with(np.nan), ("row 7", "NaN", "remove these rows")),
    "inf": (_with(np.inf), ("row 7", "infinite", "remove these rows")),
    "zero_row": (_with(0.0), ("row 7", "all zeros", "remove these rows")),
    "too_large": (_with(0.0, 0).astype(np.float64) + 1e300, ("row 0", "infinite", "make their vectors again")),
    "int": (np.ones((N, D), np.int64), ("int64", "vectors are float16, float32 or float64")),
    "complex": (np.ones((N, D), np.complex64), ("complex64", "vectors are float16, float32 or float64")),
    "narrow": (POOL[:, :3].copy(), ("3 dimensions", "the target", "4", "embed both")),
    "flat": (POOL[:, 0].copy(), (f"({N},)", "two-dimensional")),
    "empty": (POOL[:0], ("empty", "give at least one vector")),
}
WEIGHTS: dict[str, tuple[NDArray[Any], tuple[str, ...]]] = {
    "negative": (_weights(-0.5), ("row 3", "-0.5", "not negative")),
    "nan": (_weights(np.nan), ("row 3", "nan", "finite")),
    "short": (_weights(1.0, N - 1), (f"({N - 1},)", f"give {N} numbers")),
    "zero": (np.zeros(N), ("sum to 0", "give at least one row some weight")),
    "huge": (np.full(N, 1e307), ("sum to inf", "a finite sum")),
    "text": (np.full(N, "1"), ("<U1", f"give {N} numbers")),
}
FILES: dict[str, bytes] = {
    "good.jsonl": b"".join(b'{"text": "document %d"}\n' % at for at in range(N)),
    "empty.jsonl": b"",
    "bad_rows.jsonl": b'{"text": "good"}\n' + b"{broken\n" * 4,
    "blank_texts.jsonl": b'{"text": " "}\n' * 5,
    "cut.jsonl.gz": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\x56",
    "notes.doc": b"no format of ours",
    "cut.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (60, 4), }\n1234",
    "no.npy": b"not an array",
    "no.json": b"{k: 5}",
    "list.json": b"[1, 2]",
    "unknown.json": b'{"tolerence": 0.1}',
    "typed.json": b'{"pool_vectors": "pool.npy", "target_vectors": "target.npy", "mass": "half"}',
}


@dataclass(frozen=True)
class Case:
    """Settings that differ from the good ones, and what must be said of them."""

    name: str
    changes: dict[str, Any]
    code: int
    words: tuple[str, ...]
    # What argparse says in place of `words`, where it is argparse that refuses.
    on_line: tuple[str, ...] = field(default=())


def _texts(path: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - settings
    return {"pool": path, "pool_vectors": None, **more}


CASES = [
    Case("pool missing", _texts("nowhere.jsonl"), DATA, ("nowhere.jsonl", "no such file", "check the path")),
    Case("target missing", {"target_vectors": "nowhere.npy"}, DATA, ("nowhere.npy", "no such file", "check the path")),
    Case("no pool given", {"pool_vectors": None}, USAGE, ("no pool", "--pool", "--pool-vectors")),
    Case("no target given", {"target_vectors": None}, USAGE, ("no target", "--target", "--target-vectors")),
    Case("pool matches nothing", _texts("*.parquet"), DATA, ("*.parquet", "nothing matches", "check the pattern")),
    Case("pool empty", _texts("empty.jsonl"), DATA, ("empty.jsonl", "no documents", "check the path")),
    Case("pool damaged", _texts("cut.jsonl.gz"), DATA, ("cut.jsonl.gz", "cannot be read", "fetch it again")),
    Case("pool of no known format", _texts("notes.doc"), DATA, ("notes.doc", "extension is unknown", "convert")),
    Case("most rows bad", _texts("bad_rows.jsonl"), DATA, ("4 of the first 5 rows", "bad_rows.jsonl line 2", "Repair")),
    Case("no text in any row", _texts("blank_texts.jsonl"), DATA, ("5 of the first 5", "blank_texts.jsonl", "Repair")),
    Case("no such field", _texts("good.jsonl", text_field="body"), DATA, ("'body'", "good.jsonl", "text_field")),
    Case(
        "texts and vectors not row for row",
        {"pool": "good.jsonl", "pool_vectors": "target.npy"},
        DATA,
        (f"{N} usable documents", f"{M} vectors", "give one vector for each document"),
    ),
    Case(
        "label field that no document has",
        {"pool": "good.jsonl", "label_field": "domain"},
        DATA,
        ("'domain'", "good.jsonl", "label_field"),
    ),
    Case("labels without texts", {"label_field": "domain"}, USAGE, ("'domain'", "no texts", "--pool")),
    Case("k larger than the pool", {"k": N + 1}, USAGE, (f"k is {N + 1}", f"{N} documents", f"at most {N}")),
    Case("k of 0", {"k": 0}, USAGE, ("k is '0'", "a whole number from 1")),
    Case("k negative", {"k": -3}, USAGE, ("k is '-3'", "a whole number from 1")),
    Case("k in words", {"k": "many"}, USAGE, ("k is 'many'", "or per cent like 5%")),
    Case("k of 101%", {"k": "101%"}, USAGE, ("k is '101%'", "or per cent like 5%")),
    Case("k beyond all numbers", {"k": "9" * 400}, USAGE, ("k is", "a whole number from 1")),
    Case("vectors cut short", {"pool_vectors": "cut.npy"}, DATA, ("cut.npy", "cut short", "write it again")),
    Case("vectors that are none", {"pool_vectors": "no.npy"}, DATA, ("no.npy", "cannot be read", "write it again")),
    Case("vectors of objects", {"pool_vectors": "object.npy"}, DATA, ("object.npy", "not numeric", "write it again")),
    Case(
        "vectors in a text file",
        {"pool_vectors": "good.jsonl"},
        DATA,
        ("good.jsonl", "list of numbers", "give a file with vectors"),
    ),
    Case("weights missing", {"pool_weights": "gone.npy"}, DATA, ("gone.npy", "weights", "give a .npy file")),
    Case("weights in an archive", {"pool_weights": "w.npz"}, DATA, ("w.npz", "cannot be read", "give a .npy file")),
    Case("target weights of the wrong length", {"target_weights": "w_short.npy"}, DATA, (f"give {M} numbers",)),
    Case("eps 0", {"eps": 0}, USAGE, ("eps is 0.0", "a positive number")),
    Case("eps negative", {"eps": -1}, USAGE, ("eps is -1.0", "a positive number")),
    Case("eps nan", {"eps": float("nan")}, USAGE, ("eps is nan", "a positive number")),
    Case("eps infinite", {"eps": float("inf")}, USAGE, ("eps is inf", "a positive number")),
    Case("mass above 1", {"mass": 1.5}, USAGE, ("mass is 1.5", "from 0 to 1")),
    Case("mass below 0", {"mass": -0.1}, USAGE, ("mass is -0.1", "from 0 to 1")),
    Case("mass in words", {"mass": "half"}, USAGE, ("mass is 'half'", "a number"), ("--mass", "'half'")),
    Case("tolerance 0", {"tolerance": 0}, USAGE, ("tolerance is 0.0", "between 0 and 1")),
    Case("no sweeps", {"max_sweeps": 0}, USAGE, ("max_sweeps is 0", "1 or more")),
    Case("threads without end", {"threads": 10**6}, USAGE, ("threads is 1000000", "0 to 1024")),
    Case("unknown cost", {"cost": "l1"}, USAGE, ("cost is 'l1'", "sqeuclidean"), ("--cost", "'l1'", "sqeuclidean")),
    Case("unknown backend", {"backend": "tpu"}, USAGE, ("backend is 'tpu'", "cpu"), ("--backend", "'tpu'", "cpu")),
    Case("unknown setting", {"tolerence": 1}, USAGE, ("'tolerence'", "did you mean 'tolerance'"), ("--tolerence",)),
    Case("unknown device", _texts("good.jsonl", device="abacus"), USAGE, ("'abacus'", "use auto, cpu")),
    *(Case(f"vectors: {n}", {"pool_vectors": f"x_{n}.npy"}, DATA, words) for n, (_, words) in VECTORS.items()),
    *(Case(f"weights: {n}", {"pool_weights": f"w_{n}.npy"}, DATA, words) for n, (_, words) in WEIGHTS.items()),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(autouse=True)
def _inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay all files, good and bad, into the working folder."""
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        Path(name).write_bytes(content)
    arrays = {f"x_{name}": array for name, (array, _) in VECTORS.items()}
    arrays |= {f"w_{name}": array for name, (array, _) in WEIGHTS.items()}
    for name, array in {**arrays, "pool": POOL, "target": TARGET}.items():
        np.save(f"{name}.npy", array)
    np.save("object.npy", np.array([[None]]), allow_pickle=True)
    np.savez("w.npz", np.ones(N))


def settings_of(case: Case) -> dict[str, Any]:
    return {name: value for name, value in {**GOOD, **case.changes}.items() if value is not None}


@each_case
def test_command_line_says_what_is_wrong_and_writes_nothing(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = command(["run", "--quiet", "-o", "out", *flags(settings_of(case))], capsys)
    assert code == case.code, said
    assert_says(said, case.on_line or case.words)
    assert snapshot("out") is None


@each_case
def test_python_raises_the_same(case: Case) -> None:
    with pytest.raises(CLASS[case.code]) as raised:
        gapsel.run("out", **settings_of(case))
    assert_says(str(raised.value), case.words)
    assert raised.value.exit_code == case.code
    assert snapshot("out") is None


@pytest.mark.parametrize("name", VECTORS)
def test_selector_refuses_the_same_vectors(name: str) -> None:
    array, words = VECTORS[name]
    selector = gapsel.Selector(k=5)
    with pytest.raises(gapsel.DataError) as raised:
        selector.fit(TARGET, array)
    assert_says(str(raised.value), words)
    with pytest.raises(gapsel.UsageError, match="not fitted"):
        selector.score()


@pytest.mark.parametrize("name", WEIGHTS)
def test_selector_refuses_the_same_weights(name: str) -> None:
    array, words = WEIGHTS[name]
    with pytest.raises(gapsel.DataError) as raised:
        gapsel.Selector(k=5).fit(TARGET, POOL, pool_weights=array)
    assert_says(str(raised.value), words)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_permissions_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("good.jsonl").chmod(0)
    code, said = command(["run", "--pool=good.jsonl", "--target-vectors=target.npy", "-o", "out"], capsys)
    assert code == DATA
    assert_says(said, ("good.jsonl", "permission", "chmod"))
    Path("closed").mkdir(mode=0o500)
    code, said = command(["run", "--quiet", "-o", "closed/out", *flags(GOOD)], capsys)
    assert code == RESOURCE
    assert_says(said, ("closed", "cannot be written", "name another folder"))


# ---- configurations

CONFIGS = [
    ("nowhere.json", DATA, ("nowhere.json", "there is no such file", "check the path")),
    ("no.json", DATA, ("no.json", "cannot be read (", "name a run.json")),
    (".", DATA, ("Is a directory", "name a run.json")),
    ("pool.npy", DATA, ("pool.npy", "cannot be read (", "name a run.json")),
    ("list.json", USAGE, ("list.json", "[1, 2]", "give names with values")),
    ("unknown.json", USAGE, ("unknown.json", "'tolerence'", "did you mean 'tolerance'")),
    ("typed.json", USAGE, ("typed.json", "mass is 'half'", "give a number")),
]


@pytest.mark.parametrize(("file", "code", "words"), CONFIGS, ids=[file for file, _, _ in CONFIGS])
def test_configuration(file: str, code: int, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    found, said = command(["run", "--quiet", "--config", file, "-o", "out"], capsys)
    assert found == code, said
    assert_says(said, words)
    assert snapshot("out") is None


# ---- as the shell sees it

SHELL = [
    (["run", "-o", "out", "--pool=nowhere.jsonl", "--target-vectors=target.npy"], DATA, "nowhere.jsonl"),
    (["run", "-o", "out", *flags({**GOOD, "pool_vectors": "x_nan.npy"})], DATA, "row 7"),
    (["run", "-o", "out", *flags({**GOOD, "pool_vectors": "x_too_large.npy"})], DATA, "row 0"),
    (["run", "-o", "out", *flags({**GOOD, "cost": "l1"})], USAGE, "'l1'"),
    (["score", "-o", "nowhere"], DATA, "no run folder"),
    ([], USAGE, "COMMAND"),
]


@pytest.mark.parametrize(("arguments", "code", "word"), SHELL, ids=[" ".join(row[0])[:40] for row in SHELL])
def test_the_process_ends_with_the_code_and_without_a_traceback(arguments: list[str], code: int, word: str) -> None:
    done = subprocess.run(
        [*GAPSEL, *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "")
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    assert not Path("out").exists()


GAPSEL = [sys.executable, "-c", "import sys; from gapsel.cli import main; sys.exit(main())"]


def test_the_good_settings_are_good() -> None:
    finish_run()
    assert json.loads(Path("out/run.json").read_text(encoding="utf-8"))["steps"].keys() == {
        "embed", "fit", "score", "select", "report",
    }  # fmt: skip
