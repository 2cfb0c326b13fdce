"""The corridor: `run` does everything, each door does one step, and all of them over one run folder.

steps/    embed, fit, score, select, report, and the way through them
studies/  beside the corridor: other methods (compare), domain weights (mix), what it is good for (evaluate)
inputs/   what is said about the rows: tasks, weights, labels, rules
vectors/  documents to vectors, and the vectors of a run opened
folder/   the run folder: its record, lock, journal, parts of scores

work.py is what all of them share, the run at work; tasks.py a share of a step's work, for schedulers.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapsel import memory
from gapsel.config import STEPS, Settings, grouped, parse_size
from gapsel.errors import UsageError
from gapsel.files import sweep_leftovers
from gapsel.pipeline.folder.lock import Lock
from gapsel.pipeline.folder.results import ERROR_BARS, FINDINGS, MASS_PATH
from gapsel.pipeline.folder.run_folder import (
    RunFolder,
    check_begun,
    check_free,
    check_writable,
    place,
    plain,
    read_json,
)
from gapsel.pipeline.steps.order import advance_to, steps_to
from gapsel.pipeline.steps.select import read_selection
from gapsel.pipeline.studies.compare import possible_methods
from gapsel.pipeline.studies.mixing import mix_run
from gapsel.pipeline.studies.trials import check_evaluated, train_and_judge
from gapsel.pipeline.tasks import Task, do_task
from gapsel.pipeline.work import Run
from gapsel.records import best_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from gapsel.findings import Certificate, Distances, Mixture

__all__ = [
    "Result",
    "Task",
    "advance",
    "begin",
    "begin_or_reopen",
    "compare",
    "do_task",
    "evaluate",
    "mix",
    "mix_run",
    "reopen",
    "run",
    "share",
    "summarize",
]

_INPUTS = ("pool", "target", "pool_vectors", "target_vectors")
_STUDIED = {"mass_path": MASS_PATH, "error_bars": ERROR_BARS}


@dataclass(frozen=True, slots=True)
class Result:
    """What a run chose: ``rows`` (k,) int64 of the pool, best first, their ids and scores, and where it all lies.

    ``certificate`` says how far that is from the best choice, ``distances`` what it does to the distance.
    """

    folder: Path
    file: Path
    rows: NDArray[np.int64]
    ids: list[str]
    scores: NDArray[np.float64]
    certificate: Certificate
    distances: Distances
    converged: bool

    def __repr__(self) -> str:
        """Say where it lies, how many were chosen and which are the best, and what is known of the choice."""
        about = f"certificate={self.certificate}, distances={self.distances}, converged={self.converged}"
        return f"Result({str(self.file)!r}, {best_of(self.ids, self.scores)}, {about})"


def run(out: str | os.PathLike[str], *, quiet: bool = True, **settings: Any) -> Result:  # noqa: ANN401 - see Settings
    """Do everything that `gapsel run` does, and return the selection.

    ``settings`` are the fields of `Settings`; ``pool``, ``target`` and their ``_vectors`` are one path or several, and
    ``target=[["a.jsonl"], ["b.jsonl"]]`` are those of two tasks.
    The same call again on the same folder does no finished work twice. Not converging is said in ``converged``. Raises
    the errors of gapsel.errors.
    """
    with begin(Path(out), make_settings(settings), quiet=quiet) as begun:
        advance(begun, "report")
        return result(begun)


def mix(out: str | os.PathLike[str], *, quiet: bool = True, **settings: Any) -> Mixture:  # noqa: ANN401 - see Settings
    """Do what `gapsel mix` does, and return how much of each domain is best.

    In a run folder, whose settings are changed by those given; or in a new one, with pool and target among
    ``settings``. Raises the errors of gapsel.errors.
    """
    with begin_or_reopen(Path(out), settings, quiet=quiet) as begun:
        return mix_run(begun)


@contextmanager
def begin_or_reopen(folder: Path, given: dict[str, Any], *, quiet: bool, base: Settings | None = None) -> Iterator[Run]:
    """Begin a run that may end at its vectors, where its inputs are given or a base; else open the one that is there.

    Later settings, where a run is there, are changed as given.
    """
    if base is None and not any(given.get(name) for name in _INPUTS):
        with reopen(folder, given, quiet=quiet) as run:
            yield run
        return
    with begin(folder, make_settings(given, base), quiet=quiet, door="embed") as run:
        run.folder.settings = make_settings(given, run.settings)
        yield run


def evaluate(out: str | os.PathLike[str], *, quiet: bool = True, **settings: Any) -> dict[str, Any]:  # noqa: ANN401 - see Settings
    """Do everything that `gapsel evaluate` does in a run folder, and return what evaluation.json says.

    Steps of the run that are not done are done first; the same call again trains nothing twice. Raises the errors of
    gapsel.errors.
    """
    with reopen(Path(out), settings, quiet=quiet) as run:
        check_evaluated(run.settings)
        advance(run, "select")
        return train_and_judge(run)


def make_settings(values: dict[str, Any], base: Settings | None = None) -> Settings:
    """Return settings from loose values over a base, with absolute paths."""
    return Settings.from_json({**({} if base is None else base.to_json()), **grouped(values)}).absolute()


@contextmanager
def begin(folder: Path, settings: Settings, *, quiet: bool, door: str = "run") -> Iterator[Run]:
    """Start a run in a new folder, or take the same run up again, by the door "run" or "embed"."""
    folder = place(folder)
    check_free(folder)
    with _alone(folder):
        yield Run(RunFolder.begin(folder, settings, door), quiet)


@contextmanager
def reopen(folder: Path, changes: dict[str, Any], *, quiet: bool) -> Iterator[Run]:
    """Open a run folder with some settings changed."""
    folder = place(folder)
    check_begun(folder)
    check_writable(folder)
    with _alone(folder):
        opened = RunFolder.open(folder)
        opened.settings = make_settings(changes, opened.settings)
        yield Run(opened, quiet)


@contextmanager
def compare(folder: Path, given: dict[str, Any], *, quiet: bool) -> Iterator[Run]:
    """Open a run folder to show other methods in its report: all that can be had, unless ``given`` names them."""
    with reopen(folder, {}, quiet=quiet) as run:
        settings = make_settings(given, run.settings)
        run.folder.compare(settings if "methods" in given else replace(settings, methods=possible_methods(settings)))
        yield run


@contextmanager
def share(folder: Path, given: dict[str, Any], door: str, task: Task, *, quiet: bool) -> Iterator[Run]:
    """Open a run folder, which "embed" may begin, together with other tasks, and with some settings changed."""
    folder = place(folder)
    if door == "embed":
        check_free(folder)
    else:
        check_begun(folder)
        check_writable(folder)
    with Lock(folder, shared=True), Lock(folder, task.lock):
        if door == "embed":
            opened = RunFolder.begin(folder, make_settings(given), door)
            opened.note()
        else:
            opened = RunFolder.open(folder)
            opened.settings = make_settings(given, opened.settings)
        yield Run(opened, quiet)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep every other command out of the run folder, and sweep away what killed ones left half-written."""
    with Lock(folder):
        sweep_leftovers(folder)
        yield


def advance(begun: Run, door: str) -> tuple[str, ...]:
    """Do the steps up to this door, but for those that are done, and return their names."""
    if door not in STEPS:
        msg = f"{door!r} is no step: the steps are {', '.join(STEPS)}"
        raise UsageError(msg)
    memory.allow(None if begun.settings.memory is None else parse_size(begun.settings.memory))
    advance_to(begun, door)
    return steps_to(door, begun.settings)


def summarize(done: Run, steps: Sequence[str]) -> dict[str, Any]:
    """Return what the steps recorded, and what report and studies of the selection found, as plain JSON values."""
    facts = {step: plain(done.folder.facts(step)) for step in steps}
    findings = read_json(done.path / FINDINGS) if "report" in steps else None
    told = {name: read_json(done.path / file) for name, file in _STUDIED.items() if name in steps}
    return {"folder": str(done.path), "steps": facts, "findings": findings, **told}


def result(done: Run) -> Result:
    """Return what a finished selection says."""
    made = read_selection(done)
    return Result(
        folder=done.path,
        file=done.path / done.folder.facts("select")["file"],
        rows=made.selection.rows,
        ids=done.pool.ids(made.selection.rows),
        scores=made.selection.scores,
        certificate=made.certificate,
        distances=made.distances,
        converged=done.model.potentials.evidence.converged,
    )
