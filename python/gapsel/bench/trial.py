"""One engine on one problem: runs at growing effort, each a fresh process, until each goal is reached or cannot be.

The effort that a goal takes is looked for, not guessed: a run counts when the judge says that it reached the goal, and
the least such effort is narrowed down to some per cent by the slope of log(error). A goal that would take longer than
the limit is said to, with the time that its iterations would take.
"""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import warnings
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gapsel.bench import judge, worker
from gapsel.bench.cases import MAIN_GOAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from gapsel.bench.cases import Problem
    from gapsel.bench.engines import Engine
    from gapsel.bench.judge import Answer, Verdict

_SLACK = 0.1  # the least effort is known to within this share
_MOST_RUNS = 12  # for one goal
_EARLY = 8  # with momentum the first steps need not lower the error
_REPEATS = 3  # of the run that reaches the main goal: its median counts


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use: threads, seconds, bytes."""

    threads: int
    limit: float
    memory: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its effort, what it cost, what its g was worth; ``failure`` is "time", "memory" or an error's text."""

    effort: int
    seconds: float = math.inf
    peak_bytes: int = 0
    verdict: Verdict | None = None
    failure: str = ""

    def meets(self, goal: str) -> bool:
        """Say whether this run reached a goal."""
        return self.verdict is not None and self.verdict.meets(goal)


@dataclass(slots=True)
class Trial:
    """All runs of one engine on one problem; ``execute`` does one run."""

    engine: Engine
    problem: Problem
    answer: Answer
    limit: float
    execute: Callable[[int], Run]
    runs: dict[int, Run] = field(default_factory=dict)

    def results(self, goals: Iterable[str]) -> dict[str, dict[str, object]]:
        """Return for each goal what reaching it costs, or why it is not reached; in the order of effort."""
        ordered = sorted(goals, key=lambda goal: (self._expected(goal), goal))
        return {goal: self._told(goal) for goal in ordered}

    def _told(self, goal: str) -> dict[str, object]:
        run, why = self._reach(goal)
        if run is None:
            return why
        seconds = [run.seconds]
        if goal == MAIN_GOAL and run.seconds < self.limit / 4:
            seconds += [self.execute(run.effort).seconds for _ in range(_REPEATS - 1)]
        assert run.verdict is not None  # noqa: S101 - it met a goal
        return {
            "seconds": round(statistics.median(seconds), 4), "peak_bytes": run.peak_bytes, "effort": run.effort,
            "error": run.verdict.error, "overlap": run.verdict.overlap,
        }  # fmt: skip

    def _reach(self, goal: str) -> tuple[Run | None, dict[str, object]]:
        """Return the run of least effort that reaches the goal, or why there is none."""
        for _ in range(_MOST_RUNS):
            effort = self._next(goal)
            if effort is None:
                return min((run for run in self.runs.values() if run.meets(goal)), key=lambda run: run.effort), {}
            if failed := next((run.failure for run in self.runs.values() if run.failure), ""):
                return self._best(goal), {"why": failed}
            if self._affordable(effort) > self.limit:
                return self._best(goal), {"why": "time", **self._extrapolated(goal)}
            self.runs[effort] = self.execute(effort)
            if self._stalls(goal):
                break
        return self._best(goal), {"why": "stalls", "error": min(self._errors().values(), default=math.inf)}

    def _extrapolated(self, goal: str) -> dict[str, object]:
        """Return the seconds to expect where the number of steps is known, and the run that says so."""
        if self.engine.effort != "sinkhorn":
            return {}
        steps, measured = self._expected(goal), max(self.runs)
        return {"predicted_seconds": self._predicted(steps), "effort": steps, "measured_effort": measured}

    def _stalls(self, goal: str) -> bool:
        """Say whether more effort has ceased to help: in low precision there is an error that none goes below."""
        errors = sorted(self._errors().items())
        if not goal.startswith("error") or self._best(goal) or len(errors) < 2:
            return False
        (early, before), (late, last) = errors[-2:]
        return early >= _EARLY and late >= 1.3 * early and last > 0.99 * before

    def _best(self, goal: str) -> Run | None:
        """Return the run of least effort that reaches the goal, if there is one, although less might do."""
        return min((run for run in self.runs.values() if run.meets(goal)), key=lambda run: run.effort, default=None)

    def _next(self, goal: str) -> int | None:
        """Return the effort to try next, or None when the least one is known."""
        met = min((e for e, run in self.runs.items() if run.meets(goal)), default=None)
        missed = max((e for e, run in self.runs.items() if not run.meets(goal) and (met is None or e < met)), default=0)
        expected = self._expected(goal)
        if met is None:
            # A short run first says what an iteration costs.
            first = self.engine.first if not self.runs else 0
            return first or (expected if expected > missed else self._guess(goal, missed + 1, 2 * missed + 1))
        if met <= expected * (1 + _SLACK):
            return None
        least = max(missed + 1, math.ceil(met * (1 - _SLACK)))
        return None if least >= met else self._guess(goal, missed + 1, met - 1)

    def _guess(self, goal: str, low: int, high: int) -> int:
        """Return where log(error) would meet the goal, on the line through the runs next to it; else the middle."""
        kind, _, number = goal.partition(" ")
        points = [(effort, math.log(error)) for effort, error in self._errors().items() if 0 < error < math.inf]
        if kind == "error" and len(points) > 1:
            near = sorted(points, key=lambda point: abs(point[1] - math.log(float(number))))[:2]
            (e0, l0), (e1, l1) = sorted(near)
            if l1 < l0:
                return min(high, max(low, math.ceil(e0 + (e1 - e0) * (math.log(float(number)) - l0) / (l1 - l0))))
        return max(low, math.isqrt(low * high))

    def _errors(self) -> dict[int, float]:
        return {effort: run.verdict.error for effort, run in self.runs.items() if run.verdict}

    def _expected(self, goal: str) -> int:
        """Return the effort that a goal should take: the judge's own count, or the tolerance that says the same."""
        kind, _, number = goal.partition(" ")
        if self.engine.effort == "tolerance":
            return round(-4 * math.log10(float(number))) if kind == "error" else self.engine.first
        return self.answer.steps[goal] if self.engine.effort == "sinkhorn" else 0

    def _affordable(self, effort: int) -> float:
        """Return the seconds to expect, after a second short run where the first would have us give up."""
        predicted = self._predicted(effort)
        if predicted > self.limit and len(self.runs) == 1:
            more = 3 * max(self.runs)
            if self._predicted(more) <= self.limit:
                self.runs[more] = self.execute(more)
                return self._predicted(effort)
        return predicted

    def _predicted(self, effort: int) -> float:
        """Return the seconds that an effort should take, by the line through the last two runs."""
        if self.engine.effort == "tolerance" or not self.runs:
            return 0.0
        *before, last = sorted(self.runs)
        seconds = self.runs[last].seconds
        if not before:
            return seconds * effort / last
        each = (seconds - self.runs[before[-1]].seconds) / (last - before[-1])
        return seconds + each * (effort - last)


def inside(engine: Engine, problem: Problem, answer: Answer) -> Callable[[int], Run]:
    """Return a way to run an engine in this process, for small checks; memory is not measured."""

    def execute(effort: int) -> Run:
        with warnings.catch_warnings():
            seconds, g = worker.timed(worker.prepared(engine, problem, effort))
        return Run(effort, seconds, 0, judge.verdict(problem, g, answer))

    return execute


def apart(engine: Engine, problem: Problem, answer: Answer, folder: Path, limits: Limits) -> Callable[[int], Run]:
    """Return a way to run an engine in a process of its own; x.npy and y.npy lie in the folder.

    An answer that was given before, to the bit, is not judged again.
    """
    job = {"engine": engine.name, "eps": problem.eps, "k": problem.k, **asdict(limits)}
    result = folder / "result.json"
    verdicts: dict[bytes, Verdict] = {}

    def execute(effort: int) -> Run:
        result.unlink(missing_ok=True)
        (folder / "job.json").write_text(json.dumps({**job, "effort": effort}))
        done = subprocess.run(  # noqa: S603 - this interpreter
            [sys.executable, "-m", "gapsel.bench.worker", str(folder)], env=_pinned(limits.threads),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        told = json.loads(result.read_text()) if result.exists() else {"failure": _why(done)}
        if "failure" in told:
            return Run(effort, failure=told["failure"])
        g = np.load(folder / "g.npy")
        if g.tobytes() not in verdicts:
            verdicts[g.tobytes()] = judge.verdict(problem, g, answer)
        return Run(effort, verdict=verdicts[g.tobytes()], **told)

    return execute


def _why(done: subprocess.CompletedProcess[str]) -> str:
    """Say why a process ended without a result: by the alarm, for want of memory, or else."""
    words = done.stderr.lower()
    if done.returncode == -signal.SIGALRM:
        return "time"
    if done.returncode == -signal.SIGKILL or "alloc" in words or "out of memory" in words:
        return "memory"
    return f"exit code {done.returncode}: {(done.stderr.strip().splitlines() or ['nothing said'])[-1][:300]}"


def _pinned(threads: int) -> dict[str, str]:
    names = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON")
    return os.environ | {f"{name}_NUM_THREADS": str(threads) for name in names} | {"JAX_PLATFORMS": "cpu"}
