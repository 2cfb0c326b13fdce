"""The command line: exit codes, what is printed where and in which words, help that fits, JSON for machines."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pyarrow.parquet as pq
import pytest

import gapsel
from gapsel import pipeline
from gapsel.cli import main
from gapsel.config import STEPS
from gapsel.pipeline.steps import sampled
from gapsel.potentials import solve

if TYPE_CHECKING:
    from gapsel.backends import Backend
    from gapsel.potentials import Solution, Start, Task

N, M, D = 200, 8, 6
WIDTH = 120
RUN = ["run", "--pool-vectors=pool.npy", "--target-vectors=target.npy", "-k", "10", "-o", "out"]
SOURCE = "import sys; from gapsel.cli import main; sys.exit(main())"


@pytest.fixture(autouse=True)
def _inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("pool.npy", rng.normal(size=(N, D)).astype(np.float32))
    np.save("target.npy", (rng.normal(size=(M, D)) + np.eye(1, D)).astype(np.float32))


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    said = capsys.readouterr()
    return code, said.out, said.err


def strict(text: str) -> Any:  # noqa: ANN401 - any JSON
    def refuse(name: str) -> NoReturn:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


def exit_of(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(str(ended.value.code or 0))


# ---- help


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of(["--version"]) == 0
    assert capsys.readouterr().out == f"gapsel {gapsel.__version__}\n"


@pytest.mark.parametrize("door", [None, "run", *STEPS])
@pytest.mark.parametrize("columns", [80, 400])
def test_help_fits_and_says_what_it_does(
    door: str | None, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert exit_of([*([door] if door else []), "--help"]) == 0
    text = capsys.readouterr().out
    assert "None" not in text
    assert "%%" not in text
    if columns == 80:
        assert max(map(len, text.splitlines())) <= WIDTH
    if door in ("run", "embed"):
        assert f"gapsel {door} --pool POOL --target TARGET" in text
        assert "--config FILE" in text
    elif door:
        assert "(default: as in the run)" in text


def test_help_names_every_door_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    exit_of(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert all(f" {door} " in text for door in ("run", *STEPS))
    assert "0 done, 2 usage, 3 bad data, 4 not converged, 5 a full disk" in text


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["run"], "-o/--out"),
        (["run", "-o", "out", "--eps", "much"], "invalid float value: 'much'"),
        (["run", "-o", "out", "--max-sweeps", "1.5"], "invalid int value: '1.5'"),
        (["run", "-o", "out", "--toler", "0.1"], "--toler"),
        (["select", "-o", "out", "--pool", "x"], "--pool"),
    ],
)
def test_wrong_flags_exit_with_2(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of(arguments) == 2
    said = capsys.readouterr()
    assert word in said.err
    assert not said.out


# ---- results


def test_run_prints_the_answer_on_stdout_and_the_steps_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = command(capsys, *RUN)
    assert code == 0
    assert f"Chose 10 of {N} documents for {M} examples of the task, at mass 0.5." in out
    for words in ("OT distance to the target", "nearest neighbours", "certificate: no other choice", "converged:"):
        assert words in out
    for words in ("Some of the chosen:", "Barely not chosen:", "out/selected.jsonl", "out/scores/", "out/report.html"):
        assert words in out
    assert err.splitlines() == [f"{step} ..." for step in STEPS]
    assert max(map(len, out.splitlines())) <= WIDTH


def test_the_same_command_again_says_that_all_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    _, first, _ = command(capsys, *RUN)
    code, again, err = command(capsys, *RUN)
    assert (code, again) == (0, first)
    assert err.splitlines() == [f"{step}: done before" for step in STEPS]


def test_quiet_says_nothing_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(capsys, *RUN, "--quiet")[2] == ""


def test_each_door_does_its_step_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    said = {}
    inputs = ["--pool-vectors=pool.npy", "--target-vectors=target.npy"]
    for door, more in {"embed": inputs, "fit": ["-k=10"], "score": [], "select": [], "report": []}.items():
        code, said[door], _ = command(capsys, door, *more, "--quiet", "-o", "out")
        assert code == 0
    assert f"{N} documents of the pool and {M} of the target have vectors of {D} dimensions" in said["embed"]
    assert "marginal error" in said["fit"]
    assert "out/model.safetensors" in said["fit"]
    assert f"{N} scores, in out/scores" in said["score"]
    assert "Chose 10 documents, at mass 0.5." in said["select"]
    assert re.search(
        r"target: \d\.\d+ \.\. \d\.\d+ before the choice, \d\.\d+ \.\. \d\.\d+ of the mixture", said["select"]
    )
    assert "Report     out/report.html" in said["report"]
    # The doors one by one, and all at once, are one run.
    assert main([*RUN[:-1], "whole", "--quiet"]) == 0
    assert Path("out/selection.json").read_bytes() == Path("whole/selection.json").read_bytes()
    code, _, err = command(capsys, *RUN)
    assert err.splitlines() == [f"{step}: done before" for step in STEPS]


def test_a_run_may_follow_embed_with_the_settings_of_later_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["embed", *RUN[1:3], "--quiet", "-o", "out"]) == 0
    code, _, err = command(capsys, *RUN, "--mass=0.2")
    assert code == 0
    assert err.splitlines()[:2] == ["embed: done before", "fit ..."]


def test_another_k_in_the_same_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "--mass=0", "--quiet"]) == 0
    ten = strict(Path("out/selection.json").read_text())["rows"]
    code, out, err = command(capsys, "select", "-o", "out", "-k", "15%")
    assert code == 0
    assert "Chose 30 documents" in out
    assert "at mass 0 the choice is one gradient step" in out
    # At mass 0 the ranking is the same for every k: nothing but the choice is made anew.
    gone = "removed, since it told of the choice before: findings.json, report.html"
    assert err.splitlines() == [*(f"{step}: done before" for step in ("embed", "fit", "score")), "select ...", gone]
    assert strict(Path("out/selection.json").read_text())["rows"][:10] == ten
    assert command(capsys, *RUN, "--mass=0")[0] == 2


def test_another_k_at_a_mass_goes_on_from_the_fit_that_is_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    def watched(task: Task, backend: Backend, *, start: Start | None = None, **more: Any) -> Solution:  # noqa: ANN401
        started.append(start)
        return solve(task, backend, start=start, **more)

    monkeypatch.setattr(sampled, "solve", watched)
    assert main([*RUN, "--quiet"]) == 0
    f = np.concatenate([pq.read_table(file).column("potential").to_numpy() for file in Path("out/scores").iterdir()])
    code, _, err = command(capsys, "select", "-o", "out", "-k", "15%")
    assert code == 0
    gone = "selected.jsonl, selection.json, findings.json, report.html"
    removed = f"removed, since it told of the choice before: {gone}"
    assert err.splitlines() == ["embed: done before", "fit ...", removed, "score ...", "select ..."]
    assert started[0] is None
    assert started[1].k == 10
    assert np.array_equal(started[1].f, f)
    assert strict(Path("out/run.json").read_text())["settings"]["k"] == "15%"
    assert not list(Path("out").glob(".*"))
    # The folder is one whose k was 15 % from the first.
    assert main([*RUN[:-3], "15%", "-o", "other", "--quiet"]) == 0
    rows = [set(strict(Path(out, "selection.json").read_text())["rows"]) for out in ("out", "other")]
    assert len(rows[0] & rows[1]) >= 29
    # Another mass, and scores that are lost, leave nothing to go on from.
    assert main(["fit", "-o", "out", "--mass=0.3", "--quiet"]) == 0
    assert main(["fit", "-o", "out", "-k=5", "--quiet"]) == 0
    assert started[2:] == [None, None, None]


def test_a_gpu_that_cannot_be_had_is_said_before_the_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    code, _, err = command(capsys, *RUN, "--backend=gpu", "--quiet")
    assert (code, "pip install 'gapsel[gpu]'" in err) == (2, True)
    assert not Path("out/run.json").exists()


def test_embed_finds_a_run_done_whatever_its_later_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "--quiet"]) == 0
    before = Path("out/run.json").read_bytes()
    code, _, err = command(capsys, "embed", *RUN[1:3], "-o", "out")
    assert (code, err) == (0, "embed: done before\n")
    assert Path("out/run.json").read_bytes() == before
    code, _, err = command(capsys, "embed", *RUN[1:3], "--text-field=body", "-o", "out")
    assert code == 2
    assert "text_field 'text' where this one has 'body'" in err


@pytest.mark.parametrize("door", ["run", *STEPS])
def test_json_is_json(door: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "--quiet"]) == 0
    capsys.readouterr()
    arguments = RUN if door == "run" else [door, *(RUN[1:3] if door == "embed" else []), "-o", "out"]
    code, out, _ = command(capsys, *arguments, "--json", "--quiet")
    told = strict(out)
    done = STEPS if door == "run" else STEPS[: STEPS.index(door) + 1]
    assert code == 0
    assert told["folder"] == "out"
    assert tuple(told["steps"]) == tuple(sorted(done))
    assert (told["findings"] is not None) == (door in ("run", "report"))


def test_json_has_null_where_a_number_is_infinite(capsys: pytest.CaptureFixture[str]) -> None:
    # One target alone: costs have no spread, and eps is no multiple of it.
    np.save("target.npy", np.load("target.npy")[:1])
    code, out, _ = command(capsys, *RUN, "--json", "--quiet")
    assert code == 0
    assert strict(out)["findings"]["eps_of_row_std"] is None
    for file in Path("out").glob("*.json"):
        strict(file.read_text())
    assert main([*RUN, "--quiet"]) == 0


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_not_converged_is_4_with_all_files_written_and_4_again(
    form: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*RUN, "--max-sweeps=1", "--tolerance=1e-12", "--quiet", *form]
    for _ in range(2):
        code, out, err = command(capsys, *arguments)
        assert code == 4
        assert "not converged: the last sweep of the pool, number" in err
        assert "1e-12 was asked for" in err
        assert "--max-sweeps helps" in err
        assert strict(out)["findings"]["converged"] is False if form else "NOT CONVERGED" in out
    assert Path("out/report.html").exists()
    assert main(["select", "-o", "out", "--quiet"]) == 4


def test_a_part_that_was_fitted_is_told_with_its_cost(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*RUN[:3], "-k=40", "--fit-rows=100", "-o=out", "--quiet"]
    code, out, _ = command(capsys, *arguments)
    assert code == 0
    assert "sweeps of 100 random documents of 200, which puts the marginals of all off by about" in out
    code, out, _ = command(capsys, "fit", "-o=out", "--quiet", "--json")
    fit = strict(out)["steps"]["fit"]
    assert (fit["rows"], fit["pool_rows"]) == (100, 200)
    assert fit["sampling_error"] > 0
    assert len(Path("out/selected.jsonl").read_text().splitlines()) == 40
    code, _, err = command(capsys, "fit", "-o=out", "--quiet", "--fit-rows=20", "--mass=1")
    assert code == 2
    assert "raise --fit-rows to 50 or more" in err


def test_config_gives_the_settings_and_flags_win(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "--quiet", "--mass=0.25", "--seed=3"]) == 0
    assert main(["run", "--config", "out/run.json", "-o", "again", "--quiet"]) == 0
    for file in ("selection.json", "selected.jsonl", "scores/00000.parquet"):
        assert Path("out", file).read_bytes() == Path("again", file).read_bytes()
    assert main(["run", "--config", "out/run.json", "-k", "7", "--quiet", "-o", "seven"]) == 0
    settings = strict(Path("seven/run.json").read_text())["settings"]
    assert (settings["k"], settings["mass"], settings["seed"]) == ("7", 0.25, 3)
    capsys.readouterr()


def test_config_may_be_written_by_hand() -> None:
    Path("mine.json").write_text('{"pool_vectors": "pool.npy", "target_vectors": ["target.npy"], "k": 12, "mass": 0}')
    assert main(["run", "--config", "mine.json", "--quiet", "-o", "out"]) == 0
    assert len(Path("out/selected.jsonl").read_text().splitlines()) == 12


def test_a_run_folder_works_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([*RUN, "--quiet"]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["select", "-k=5", "--quiet", "-o", "../out"]) == 0
    absolute = [f"--pool-vectors={tmp_path}/pool.npy", "--target-vectors=../target.npy"]
    assert main(["run", *absolute, "-k=5", "-o", "../out", "--quiet"]) == 0


# ---- what interrupts


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "stopped; the same command goes on from here"),
        (MemoryError(), 1, "not enough memory"),
        (OSError(5, "Input/output error", "disk.npy"), 5, "disk.npy: Input/output error: check the disk"),
        (gapsel.MissingDependencyError("pip install 'gapsel[embed]'"), 2, "pip install 'gapsel[embed]'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_stops_a_run_is_one_line(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(pipeline, "advance", stop)
    found, out, err = command(capsys, *RUN)
    assert (found, out) == (code, "")
    assert err.startswith("gapsel: ")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="a pipe that breaks is a matter of POSIX")
def test_a_reader_that_leaves_is_no_error() -> None:
    main([*RUN, "--quiet"])
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", SOURCE, *RUN, "--quiet"],
        stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
