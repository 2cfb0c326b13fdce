"""How a run's choice moves with the mass: mass_path.json."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from gapsel.files import write_json
from gapsel.findings import MassPoint  # noqa: TC001 - made_of reads the types
from gapsel.pipeline.folder.results import MASS_PATH
from gapsel.pipeline.folder.run_folder import plain, read_as
from gapsel.pipeline.inputs.labels import read_labels
from gapsel.pipeline.steps.select import read_selection
from gapsel.pipeline.studies.compare import Yardstick, check_compared
from gapsel.potentials import mass_path
from gapsel.progress import track

if TYPE_CHECKING:
    from gapsel.pipeline.work import Run
    from gapsel.potentials import Task

MASSES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class _Path:
    path: tuple[MassPoint, ...]


def mass_path_step(run: Run) -> dict[str, Any]:
    """Choose k rows at each of `MASSES`, and measure them beside the run's own choice.

    Each mass has the eps that the settings give it. The choices are those of one shortlist: near those of runs at these
    masses, and not the same.
    """
    check_compared(run.settings)
    stick = Yardstick(run, read_selection(run), {side: read_labels(run, side) for side in ("pool", "target")})
    found = []
    with track("mass path", None, "sweeps", enabled=not run.quiet) as advance:
        began = time.perf_counter()
        path = mass_path(_tasks(run), run.backend, lambda _: advance(1), run.rules.choose_some)
        for mass, rows in zip(MASSES, path, strict=True):
            seconds = time.perf_counter() - began
            found.append({"mass": mass, **asdict(stick.measure(f"mass {mass:g}", rows, mass, seconds, by_task=False))})
            began = time.perf_counter()
    about = {"k": len(stick.made.selection.rows), "mass": run.settings.mass, "pool_distance": asdict(stick.of_pool)}
    run.writes("mass_path")
    write_json(run.path / MASS_PATH, plain({**about, "path": found}))
    return {"files": [MASS_PATH]}


def read_mass_path(run: Run) -> tuple[MassPoint, ...]:
    """Read what mass_path_step wrote. Raises DataError for anything else."""
    return read_as(run.path / MASS_PATH, _Path, "a mass path").path


def _tasks(run: Run) -> list[Task]:
    """Return the run's problem at each of the masses."""
    task, settings = run.posed_task, run.settings
    eps = [task.scale.eps(replace(settings, mass=mass).relative_eps) for mass in MASSES]
    return [replace(task, mass=mass, eps=one) for mass, one in zip(MASSES, eps, strict=True)]
