"""The choices that are to be evaluated: each method's, and gapsel's at several masses; kept once they are made.

What is drawn at random at no cost is drawn anew for each seed. All else is one choice, by the seed of the run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import baselines
from gapsel.config import parse_masses
from gapsel.files import write_json
from gapsel.findings import own_name
from gapsel.model import potential
from gapsel.pipeline.folder.run_folder import read_json, sign
from gapsel.pipeline.inputs.rules import caps_of
from gapsel.pipeline.steps import sampled
from gapsel.pipeline.steps.choosing import choose_by, copies_of, limit_of
from gapsel.pipeline.steps.select import read_selection
from gapsel.pipeline.studies.compare import problem_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from gapsel.pipeline.inputs.labels import Labels
    from gapsel.pipeline.work import Run

RANDOM = baselines.Random.key
_REDRAWN = {RANDOM, baselines.Curated.key}


@dataclass(frozen=True, slots=True)
class Choice:
    """What a method chose: ``rows`` (k,) of the pool, and the seconds that it took."""

    name: str
    rows: NDArray[np.int64]
    seconds: float


def choices(run: Run, labels: Mapping[str, Labels], seeds: Sequence[int], file: Path) -> dict[int, list[Choice]]:
    """Return, for each seed, the choice of every method, gapsel's own last; ``file`` keeps those that are made."""
    kept = _Kept(run, file)
    masses = sorted({run.settings.mass, *parse_masses(run.settings.masses)})
    ours = [kept.choice(own_name(mass), [mass], partial(at_mass, run, mass)) for mass in masses]
    return {seed: [*(_by(kept, key, labels, seed) for key in _keys(run)), *ours] for seed in seeds}


def _keys(run: Run) -> list[str]:
    """Return the methods to compare with; random is always among them, being what a selection must beat."""
    return [RANDOM, *(key for key in run.settings.methods if key != RANDOM)]


def _by(kept: _Kept, key: str, labels: Mapping[str, Labels], seed: int) -> Choice:
    run, method = kept.run, baselines.BY_KEY[key]
    seed = seed if key in _REDRAWN else run.settings.seed
    problem = replace(problem_of(run, kept.k, labels), seed=seed)
    about = [key, seed, run.settings.label_field]
    return kept.choice(method.name, about, partial(method.choose, problem, run.backend))


def at_mass(run: Run, mass: float) -> NDArray[np.int64]:
    """Return the rows (k,) that the run would have chosen at another mass, by the same rules; or its own."""
    settings = replace(run.settings, mass=mass)
    if mass == run.settings.mass:
        return read_selection(run).selection.rows
    task = run.fitted_task
    task = replace(task, mass=mass, eps=task.scale.eps(settings.relative_eps))
    found = sampled.fit(task, settings.fit_rows, run.backend, caps=caps_of(run.rules))
    f = found.f
    if f is None:
        f = task.rows.priced(potential(found.potentials, task.rows.shards, run.backend))
    of_pool, limit = f[: task.rows.pool_rows], limit_of(settings, found.calibration.mean, run.rows.a_of_pool)
    choice, _ = choose_by(
        lambda: [of_pool], run.rules, settings, eps=task.eps, limit=limit, copies=copies_of(run)
    )  # fmt: skip
    return choice.rows


class _Kept:
    """Choices in a file, each recognised by what it follows from."""

    def __init__(self, run: Run, file: Path) -> None:
        self.run, self.file = run, file
        self.k = len(read_selection(run).selection.rows)
        self._made: dict[str, Any] = read_json(file) if file.exists() else {}

    def choice(self, name: str, about: list[Any], make: Callable[[], NDArray[np.int64]]) -> Choice:
        """Return the choice that is there, or make it."""
        signature = sign(self.run.signatures["select"], about)
        if signature not in self._made:
            self.run.say(f"choose: {name} ...")
            began = time.perf_counter()
            rows = make().tolist()
            self._made[signature] = {"name": name, "rows": rows, "seconds": round(time.perf_counter() - began, 3)}
            write_json(self.file, self._made)
        found = self._made[signature]
        return Choice(name, np.array(found["rows"], np.int64), found["seconds"])
