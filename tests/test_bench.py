"""The benchmark: its judge by hand, its search for effort on made-up engines, and every engine on every case."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gapsel import bench
from gapsel.backends.reference import ReferenceBackend
from gapsel.bench import cases, engines, judge, record, table, worker
from gapsel.bench.cases import CASES, GOALS, MAIN_GOAL, Problem
from gapsel.bench.judge import Answer, Verdict
from gapsel.bench.trial import Limits, Run, Trial, apart, inside
from gapsel.cli import main
from gapsel.errors import DataError, GapselError, UsageError
from gapsel.records import Box, Cost, Query, Target

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NO_ANSWER = Answer(np.zeros(1), np.zeros(1, np.int64), 0.0, dict.fromkeys(GOALS, 0), 1)


def f32(rows: list[list[int]]) -> NDArray[np.float32]:
    return np.array(rows, np.float32)


def small() -> Problem:
    return cases.problem(cases.named(["text-0.02"])[0].tiny(), bench.CACHE)


def test_the_judge_by_hand() -> None:
    # One target at 0: f_i = |x_i|^2 - g, and q = 1. Two targets that cost the same: each gets half at g = 0.
    one = Problem(f32([[1, 0], [0, 2]]), f32([[0, 0]]), 0.5, 1)
    f, q = judge.soft_minimum(one, np.array([0.25]))
    assert f == pytest.approx([0.75, 3.75])
    assert q == pytest.approx([1.0])
    two = Problem(f32([[0, 0]]), f32([[1, 0], [-1, 0]]), 0.5, 1)
    assert judge.soft_minimum(two, np.zeros(2))[1] == pytest.approx([0.5, 0.5])
    assert judge.soft_minimum(two, np.array([0.5 * math.log(3), 0]))[1] == pytest.approx([0.75, 0.25])


def test_the_judge_and_the_reference_backend_see_the_same() -> None:
    problem = small()
    n, m = len(problem.x), len(problem.y)
    g = np.random.default_rng(0).normal(0, 0.1, m)
    f, q = judge.soft_minimum(problem, g)
    mine, target = np.empty(n), Target(problem.y, np.full(m, 1 / m))
    query = Query(target, g, Box.fixed(1 / n), problem.eps, Cost(normalize=False), f=mine)
    swept = ReferenceBackend().sweep([problem.x], query)
    assert f == pytest.approx(mine, abs=1e-12)
    assert q == pytest.approx(swept.q, abs=1e-12)


def test_the_right_answer_is_stationary_and_its_steps_are_those_of_sinkhorn() -> None:
    problem = small()
    answer = judge.solve(problem)
    assert judge.verdict(problem, answer.g, answer).error < 1e-9
    assert judge.verdict(problem, answer.g + 3, answer).overlap == 1.0
    f, _ = judge.soft_minimum(problem, answer.g)
    assert f.mean() + answer.g.mean() == pytest.approx(answer.value, abs=1e-9)
    steps, execute = answer.steps[MAIN_GOAL], inside(engines.named(["pot-numpy"])[0], problem, answer)
    met = [execute(effort).meets(MAIN_GOAL) for effort in (steps - 1, steps)]
    assert met == [False, True]


@pytest.mark.parametrize("g", [np.zeros(3), np.full(60, np.nan), np.full(60, np.inf)])
def test_a_g_that_is_no_answer_is_infinitely_wrong(g: np.ndarray) -> None:
    problem = small()
    assert judge.verdict(problem, g, NO_ANSWER).error == math.inf


def test_answers_are_kept_whole(tmp_path: Path) -> None:
    answer = judge.solve(small())
    judge.save(answer, tmp_path / "answer.npz")
    kept = judge.load(tmp_path / "answer.npz")
    assert (kept.value, kept.steps, kept.rows) == (answer.value, answer.steps, answer.rows)
    assert np.array_equal(kept.g, answer.g)
    assert np.array_equal(kept.best, answer.best)


def trial(kind: str, error: object, *, each: float = 0.1, limit: float = 60.0, steps: int = 0) -> Trial:
    """Return a trial of an engine whose error is a function of its effort."""
    engine = engines.Engine("made up", "made up", lambda *_: NO_ANSWER.g.copy, (), kind, 2)  # type: ignore[arg-type]
    answer = Answer(NO_ANSWER.g, NO_ANSWER.best, 0.0, dict.fromkeys(GOALS, steps), 1)
    problem = Problem(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32), 1.0, 1)

    def execute(effort: int) -> Run:
        return Run(effort, 1 + each * effort, 7, Verdict(error(effort), None))  # type: ignore[operator]

    return Trial(engine, problem, answer, limit, execute)


@pytest.mark.parametrize(("rate", "least"), [(0.5, 10), (0.9, 66), (0.98, 342)])
def test_the_least_effort_is_found_to_within_some_per_cent(rate: float, least: int) -> None:
    found = trial("iterations", lambda effort: rate**effort).results([MAIN_GOAL])[MAIN_GOAL]
    assert least <= found["effort"] <= 1.12 * least  # type: ignore[operator]
    assert found["seconds"] == pytest.approx(1 + 0.1 * found["effort"])  # type: ignore[operator]
    assert found["peak_bytes"] == 7


def test_known_steps_take_one_short_run_and_one_long_one() -> None:
    tried = trial("sinkhorn", lambda effort: 0.9**effort, steps=66)
    assert tried.results([MAIN_GOAL])[MAIN_GOAL]["effort"] == 66
    assert list(tried.runs) == [2, 66]


def test_what_would_take_too_long_is_extrapolated_and_not_run() -> None:
    tried = trial("sinkhorn", lambda effort: 0.9**effort, steps=66, limit=4.0)
    told = tried.results([MAIN_GOAL])[MAIN_GOAL]
    assert told["why"] == "time"
    assert told["predicted_seconds"] == pytest.approx(7.6)
    assert max(tried.runs) == told["measured_effort"] == 6


def test_an_error_that_no_effort_lowers_gets_no_time() -> None:
    told = trial("iterations", lambda effort: max(0.9**effort, 2e-3)).results([MAIN_GOAL, GOALS[0]])
    assert told[MAIN_GOAL] == {"why": "stalls", "error": 2e-3}
    assert "seconds" in told[GOALS[0]]


@pytest.mark.parametrize("failure", ["time", "memory", "KeyError: 'x'"])
def test_a_failure_is_told(failure: str) -> None:
    tried = trial("iterations", float)
    tried.execute = lambda effort: Run(effort, failure=failure)
    assert tried.results([MAIN_GOAL]) == {MAIN_GOAL: {"why": failure}}


def test_a_run_apart_measures_time_and_memory_and_obeys_its_limits(tmp_path: Path) -> None:
    problem = cases.problem(cases.named(["square"])[0].tiny(), bench.CACHE)
    answer = judge.solve(problem)
    np.save(tmp_path / "x.npy", problem.x)
    np.save(tmp_path / "y.npy", problem.y)
    engine = engines.named(["gapsel-cpu"])[0]
    run = apart(engine, problem, answer, tmp_path, Limits(1, 60.0, 8 << 30))(12)
    assert run.failure == ""
    assert run.meets(MAIN_GOAL)
    assert 0 < run.seconds < 60
    assert 0 <= run.peak_bytes < 1 << 30
    assert apart(engine, problem, answer, tmp_path, Limits(1, 1e-4, 8 << 30))(40).failure == "time"
    unknown = engines.Engine("nobody", "nobody", engine.make, (), "tolerance", 8)
    assert "unknown" in apart(unknown, problem, answer, tmp_path, Limits(1, 60.0, 8 << 30))(12).failure


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError("no"), "memory"),
        (RuntimeError("cannot allocate 3 bytes"), "memory"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_want_of_memory_is_told_from_other_errors(
    error: Exception, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    for name in ("x", "y"):
        np.save(tmp_path / f"{name}.npy", f32([[0]]))
    job = {"engine": "gapsel-cpu", "effort": 8, "threads": 64, "memory": 1 << 40, "limit": 60.0, "eps": 1.0, "k": 1}
    (tmp_path / "job.json").write_text(json.dumps(job))
    monkeypatch.setattr(worker, "prepared", fails)
    monkeypatch.setattr(worker, "_limit", fails_not)
    worker.main(tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == {"failure": told}


def fails_not(_: int) -> None:
    """Stand in for a limit on this very process."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_engine_is_right_on_every_small_twin(case: cases.Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--check", "--case", case.name]) == 0
    said = capsys.readouterr().out
    assert f"tiny-{case.name}  gapsel: right" in said
    assert f"tiny-{case.name}  POT, NumPy: right" in said


def test_a_wrong_engine_or_a_changed_problem_fails_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = engines.Engine("wrong", "Wrong", lambda problem, _: lambda: np.zeros(len(problem.y)), (), "tolerance", 8)
    monkeypatch.setattr(engines, "ENGINES", (wrong,))
    with pytest.raises(GapselError, match="Wrong does not reach"):
        bench.check(bench.Plan(["text-0.02"]))
    monkeypatch.setattr(cases, "JITTER", 0.31)
    with pytest.raises(GapselError, match="the dual value is"):
        bench.check(bench.Plan(["text-0.02"]))


def test_names_and_vectors_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for wrong in (bench.Plan(["nothing"]), bench.Plan(["square"], ["nothing"])):
        with pytest.raises(UsageError, match="'nothing' is unknown: choose among"):
            bench.check(wrong)
    with pytest.raises(UsageError, match="give --pool and --target"):
        bench.run(bench.Plan(["text-0.02"]), print)
    np.save("x.npy", np.zeros((3, 5), np.float32))
    with pytest.raises(DataError, match="defined for rows of 384"):
        bench.run(bench.Plan(["text-0.02"], pool=tmp_path / "x.npy", target=tmp_path / "x.npy"), print)


def test_a_whole_run_leaves_a_record_and_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cases, "CASES", tuple(case.tiny() for case in CASES))
    monkeypatch.chdir(tmp_path)
    given = ["bench", "--case", "tiny-square", "--engine", "gapsel-cpu", "--threads", "1", "--record", str(tmp_path)]
    assert main([*given, "--memory", "8GB"]) == 0
    out = capsys.readouterr().out
    assert "tiny-square" in out
    file = next(tmp_path.glob("*-1-threads.json"))
    kept = record.read(file)
    results = kept["cases"]["tiny-square"]["engines"]["gapsel-cpu"]
    assert set(results) == set(GOALS)
    assert kept["cases"]["tiny-square"]["memory_limit"] == 8_000_000_000
    assert results[MAIN_GOAL]["error"] <= 1e-3
    assert table.in_words(kept) in out
    assert kept["machine"]["cores"] >= 1
    again = record.merge(kept, {**kept, "cases": {"other": {"engines": {}}}})
    assert set(again["cases"]) == {"tiny-square", "other"}


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"seconds": 0.1234}, "0.123 s"),
        ({"seconds": 123.4}, "123 s"),
        ({"why": "time"}, "> 40 s"),
        ({"why": "time", "predicted_seconds": 1234.5}, "(about 1234 s)"),
        ({"why": "memory"}, "out of memory"),
        ({"why": "stalls", "error": 2.3e-5}, "stalls at 2e-05"),
        ({"why": "KeyError"}, "fails"),
        ({}, "-"),
    ],
)
def test_a_cell_says_the_time_or_the_reason(result: dict[str, object], said: str) -> None:
    assert table.cell(result, 40.0) == said
