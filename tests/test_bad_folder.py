"""Run folders that are not ours, damaged, or of another run: a message, the right exit code, and nothing lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gapsel
from faults import DATA, GOOD, POOL, TARGET, USAGE, M, N, assert_says, command, finish_run, flags, snapshot
from gapsel.cli import main


@pytest.fixture(autouse=True)
def _inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = np.ones(N)
    weights[3] = np.nan
    for name, array in {"pool": POOL, "target": TARGET, "x_nan": POOL * np.nan, "w_nan": weights}.items():
        np.save(f"{name}.npy", array)
    Path("good.jsonl").write_bytes(b"".join(b'{"text": "document %d"}\n' % at for at in range(N)))


def _foreign() -> None:
    Path("out").mkdir()
    Path("out/thesis.tex").write_text("mine")


def _file() -> None:
    Path("out").write_text("mine")


def _record(content: str) -> None:
    finish_run()
    Path("out/run.json").write_text(content)


FOLDERS: list[tuple[str, Any, list[str], int, tuple[str, ...]]] = [
    ("another run", finish_run, ["--mass=0.1"], USAGE, ("out", "another run", "mass 0.5", "0.1", "`gapsel fit`")),
    ("other inputs", finish_run, ["--pool-vectors=x_nan.npy"], USAGE, ("another run", "x_nan.npy", "new folder")),
    ("foreign files", _foreign, [], USAGE, ("out", "no run folder", "name a new folder")),
    ("a file", _file, [], USAGE, ("out", "is a file", "name a new folder")),
    ("record cut short", lambda: _record('{"settings": {'), [], DATA, ("out/run.json", "repair it", "new folder")),
    ("record empty", lambda: _record(""), [], DATA, ("out/run.json", "no record of a run", "new folder")),
    ("record a list", lambda: _record("[]"), [], DATA, ("out/run.json", "no record of a run", "new folder")),
    ("record without steps", lambda: _record('{"settings": {}}'), [], DATA, ("out/run.json", "steps", "new folder")),
    ("steps a list", lambda: _record('{"settings": {}, "steps": []}'), [], DATA, ("out/run.json", "new folder")),
    (
        "steps of text",
        lambda: _record('{"settings": {}, "steps": {"fit": "x"}}'),
        [],
        DATA,
        ("out/run.json", "steps are not objects", "new folder"),
    ),
    (
        "settings of another version",
        lambda: _record('{"settings": {"flavour": 1}, "steps": {}}'),
        [],
        DATA,
        ("out/run.json", "'flavour'", "new folder"),
    ),
]


@pytest.mark.parametrize(("make", "more", "code", "words"), [row[1:] for row in FOLDERS], ids=[r[0] for r in FOLDERS])
def test_output_folder_that_is_not_ours_is_left_alone(
    make: Any,  # noqa: ANN401 - a function of nothing
    more: list[str],
    code: int,
    words: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    make()
    before = snapshot("out") or Path("out").read_bytes()
    found, said = command(["run", "--quiet", "-o", "out", *flags(GOOD), *more], capsys)
    assert found == code, said
    assert_says(said, words)
    assert (snapshot("out") or Path("out").read_bytes()) == before


def test_folder_of_a_run_that_was_killed_at_its_first_file_is_taken() -> None:
    Path("out").mkdir()
    Path("out/.run.json.4194304999.tmp").write_text("{")
    Path("out/.run.lock").write_text("{")
    finish_run()
    assert Path("out/report.html").exists()
    assert not list(Path("out").rglob(".*"))


def test_folder_under_a_file_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = command(["run", "--quiet", "-o", "pool.npy/out", *flags(GOOD)], capsys)
    assert code == USAGE
    assert_says(said, ("pool.npy/out", "is a file", "name a new folder"))


def test_folder_inside_its_own_pool_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("texts").mkdir()
    Path("good.jsonl").rename("texts/good.jsonl")
    code, said = command(["run", "--pool=texts", "--target-vectors=target.npy", "-o", "texts/out"], capsys)
    assert code == USAGE
    assert_says(said, ("texts/out", "part of the pool", "name a folder elsewhere"))
    assert snapshot("texts/out") is None


DOORS = [
    (["fit", "--eps=0"], USAGE, ("eps is 0.0",)),
    (["fit", "--pool-weights=w_nan.npy"], DATA, ("w_nan.npy", "row 3")),
    (["fit", "--target-weights=w_nan.npy"], DATA, ("w_nan.npy", f"give {M} numbers")),
    (["select", f"-k={N + 1}"], USAGE, (f"k is {N + 1}", f"at most {N}")),
    (["select", "-k=0"], USAGE, ("k is '0'",)),
    (["report", "--label-field=domain"], USAGE, ("'domain'", "no texts")),
    (["select", "--mass=0.1"], USAGE, ("--mass",)),
]


@pytest.mark.parametrize(("arguments", "code", "words"), DOORS, ids=[" ".join(row[0]) for row in DOORS])
def test_a_wrong_change_leaves_a_finished_run_as_it_was(
    arguments: list[str], code: int, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    finish_run()
    before = snapshot("out")
    found, said = command([*arguments, "--quiet", "-o", "out"], capsys)
    assert found == code, said
    assert_says(said, words)
    assert snapshot("out") == before


@pytest.mark.parametrize("door", ["fit", "score", "select", "report"])
def test_a_door_needs_a_run_folder(door: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    code, said = command([door, "--quiet", "-o", "out"], capsys)
    assert code == DATA
    assert_says(said, ("out", "no run folder", "begin with `gapsel embed` or `gapsel run`"))
    assert snapshot("out") == {}


def test_inputs_that_changed_since_the_run_began_are_seen(capsys: pytest.CaptureFixture[str]) -> None:
    finish_run()
    before = snapshot("out")
    np.save("pool.npy", POOL[::-1].copy())
    for arguments in (["run", *flags(GOOD)], ["score"]):
        code, said = command([*arguments, "--quiet", "-o", "out"], capsys)
        assert code == DATA
        assert_says(said, ("pool_vectors", "changed since the run in out began", "new folder"))
    Path("pool.npy").unlink()
    code, said = command(["score", "--quiet", "-o", "out"], capsys)
    assert code == DATA
    assert_says(said, ("pool.npy", "no such file", "the run in out was made of it"))
    assert snapshot("out") == before


@pytest.mark.parametrize("damage", ["cut", "other", "missing"])
def test_a_model_that_is_none(damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    finish_run()
    model = Path("out/model.safetensors")
    if damage == "missing":
        model.unlink()
    else:
        model.write_bytes(model.read_bytes()[:50] if damage == "cut" else b"something else")
    with pytest.raises(gapsel.DataError) as raised:
        gapsel.load("out")
    assert_says(str(raised.value), ("model.safetensors", "fit"))
    Path("out/scores/00000.parquet").unlink()
    if damage == "missing":
        # What is lost is made again.
        assert main(["score", "--quiet", "-o", "out"]) == 0
        assert gapsel.load("out").score(POOL).shape == (N,)
        return
    code, said = command(["score", "--quiet", "-o", "out"], capsys)
    assert code == DATA
    assert_says(said, ("model.safetensors", "fit it again"))


DAMAGED = [
    ("selection.json", b"{", "report", "report.html"),
    ("selection.json", b"[]", "report", "report.html"),
    ("selection.json", b'{"rows": [1]}', "report", "report.html"),
    ("findings.json", b"{", "report", None),
    ("scores/00000.parquet", b"{", "select", "selected.jsonl"),
]


@pytest.mark.parametrize(("file", "content", "door", "lost"), DAMAGED)
def test_a_damaged_result_is_named(
    file: str, content: bytes, door: str, lost: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    finish_run()
    Path("out", file).write_bytes(content)
    if lost:
        Path("out", lost).unlink()
    code, said = command([door, "--quiet", "-o", "out"], capsys)
    assert code == DATA
    assert_says(said, (f"out/{file.partition('/')[0]}", "the same command again"))
