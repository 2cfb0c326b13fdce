"""`gapsel bench`: the solvers people have beside gapsel, on the same problems, each judged by the same outsider.

    cases     the problems and their goals           engines   the solvers, each in its best modes
    judge     float64: the right answer, and what an engine's potentials are worth
    trial     more and more effort until a goal is reached, a fresh process (worker) for each run
    record    what was measured, as JSON             table     the same in words

An engine that gives a wrong answer, or none within its limits of time and memory, gets no time but a reason.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.bench import cases, engines, judge, record
from gapsel.bench.record import save
from gapsel.bench.table import in_words
from gapsel.bench.trial import Limits, Trial, apart, inside
from gapsel.errors import GapselError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gapsel.bench.cases import Case, Problem
    from gapsel.bench.engines import Engine
    from gapsel.bench.judge import Answer

__all__ = ["Plan", "check", "in_words", "run", "save"]

# Where demo vectors and right answers are kept: in a clone beside what was built, else with the user's other caches.
CACHE = Path("target/bench") if cases.DEMO.exists() else Path.home() / ".cache" / "gapsel"
# Of the machine's memory, what an engine may have.
_SHARE = 0.8
# How far the dual value of a small twin may be from the stored one: float32 vectors differ in their last bit.
_SAME_VALUE = 1e-6


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: cases and engines by name (all for none), the user's vectors, where to keep things.

    ``threads`` and ``memory``, in bytes, are what each engine may use; 0 for all cores, and for most of the memory.
    """

    cases: list[str] = field(default_factory=list)
    engines: list[str] = field(default_factory=list)
    pool: Path | None = None
    target: Path | None = None
    threads: int = 0
    memory: int = 0
    cache: Path = CACHE

    def engines_of(self, case: Case) -> list[Engine]:
        """Return the engines to run on a case: those asked for, else those that the case names, else the usual."""
        some = engines.named(self.engines or list(case.engines))
        return [engine for engine in some if engine.takes(case.n, case.d)]


def run(
    plan: Plan, tell: Callable[[str], None], keep: Callable[[dict[str, Any]], object] = lambda _: None
) -> dict[str, Any]:
    """Measure and return a record. Raises GapselError for a wrong name or file.

    ``tell`` hears what is being done; ``keep`` gets the record after each engine, so that a stop loses little.
    """
    threads = plan.threads or record.cores()
    made = record.empty(threads, "the user's" if plan.pool else "the demo's, drawn again with jitter")
    for case in cases.named(plan.cases):
        problem = cases.problem(case, plan.cache, plan.pool, plan.target)
        tell(f"{case.name}: {case.about}; n {case.n}, m {case.m}, d {case.d}: the right answer")
        answer = _known(problem, plan.cache)
        limits = Limits(threads, case.limit, plan.memory or int(_SHARE * record.memory()))
        told = made["cases"][case.name] = record.describe(case, problem.eps, answer.steps, answer.rows, limits.memory)
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "x.npy", problem.x)
            np.save(Path(folder) / "y.npy", problem.y)
            # The engines have the vectors in memory; here, from now on, they are only read for verdicts.
            problem = replace(problem, x=np.load(Path(folder) / "x.npy", mmap_mode="r"))
            told["engines"] = {}
            for engine in plan.engines_of(case):
                execute = apart(engine, problem, answer, Path(folder), limits)
                trial = Trial(engine, problem, answer, case.limit, execute)
                told["engines"][engine.name] = _results(trial, case.goals)
                keep(made)
                tell(f"  {engine.label}: {len(trial.runs)} runs")
    return made


def _results(trial: Trial, goals: tuple[str, ...]) -> dict[str, dict[str, object]]:
    if package := trial.engine.missing():
        return {goal: {"why": f"{package} is not installed"} for goal in goals}
    return trial.results(goals)


def _known(problem: Problem, cache: Path) -> Answer:
    """Return the right answer, from the cache if this very problem was solved before."""
    digest = hashlib.blake2b(repr((problem.eps, problem.k)).encode(), digest_size=12)
    digest.update(problem.x.data)
    digest.update(problem.y.data)
    file = cache / f"answer-{digest.hexdigest()}.npz"
    if file.exists():
        return judge.load(file)
    answer = judge.solve(problem)
    cache.mkdir(parents=True, exist_ok=True)
    judge.save(answer, file)
    return answer


def check(plan: Plan) -> list[str]:
    """Let every engine that is installed solve the small twin of every case, and return what it did.

    Raises GapselError where the judge's answer is not the stored one, or an engine does not reach a marginal error of
    1e-3 and the right k best.
    """
    return [said for case in cases.named(plan.cases) for said in _checked(case.tiny(), plan)]


def _checked(tiny: Case, plan: Plan) -> Iterator[str]:
    problem = cases.problem(tiny, plan.cache)
    answer = judge.solve(problem)
    if abs(answer.value - tiny.tiny_value) > _SAME_VALUE * abs(tiny.tiny_value):
        msg = f"{tiny.name}: the dual value is {answer.value:.9f} and should be {tiny.tiny_value:.9f}"
        raise GapselError(msg)
    for engine in engines.named(plan.engines) if plan.engines else engines.ENGINES:
        if not engine.takes(tiny.n, tiny.d):
            continue
        if package := engine.missing():
            yield f"{tiny.name}  {engine.label}: {package} is not installed"
            continue
        run = inside(engine, problem, answer)(engine.plenty(answer.steps[cases.GOALS[2]]))
        if not all(run.meets(goal) for goal in cases.CHECKED):
            msg = f"{tiny.name}: {engine.label} does not reach {' and '.join(cases.CHECKED)}: {run.verdict}"
            raise GapselError(msg)
        yield f"{tiny.name}  {engine.label}: right"
