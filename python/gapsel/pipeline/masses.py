"""How a run's choice moves with the mass: mass_path.json."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from gapsel.files import write_json
from gapsel.pipeline.compare import Yardstick, check_compared
from gapsel.pipeline.folder import plain
from gapsel.pipeline.labels import read_labels
from gapsel.pipeline.select import read_selection
from gapsel.potentials import mass_path
from gapsel.progress import track

if TYPE_CHECKING:
    from gapsel.pipeline.work import Run
    from gapsel.potentials import Task

MASS_PATH = "mass_path.json"
MASSES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def write_mass_path(run: Run) -> dict[str, Any]:
    """Choose k rows at each of `MASSES`, measure them beside the run's own choice, and return what was written.

    Each mass has the eps that the settings give it. The choices are those of one shortlist: near those of runs at these
    masses, and not the same.
    """
    check_compared(run.settings)
    chosen, _ = read_selection(run)
    stick = Yardstick(run, chosen.rows, {side: read_labels(run, side) for side in ("pool", "target")})
    found = []
    with track("mass path", None, "sweeps", enabled=not run.quiet) as advance:
        began = time.perf_counter()
        for mass, rows in zip(MASSES, mass_path(_tasks(run), run.backend, lambda _: advance(1)), strict=True):
            seconds = time.perf_counter() - began
            found.append({"mass": mass, **asdict(stick.measure(f"mass {mass:g}", rows, mass, seconds))})
            began = time.perf_counter()
    path = {"k": run.k, "mass": run.settings.mass, "pool_distance": asdict(stick.of_pool), "path": found}
    write_json(run.path / MASS_PATH, plain(path))
    return path


def _tasks(run: Run) -> list[Task]:
    """Return the run's problem at each of the masses."""
    p, settings = run.model.potentials, run.settings
    task = run.task(p.target, p.cost)
    eps = [task.scale.eps(replace(settings, mass=mass).relative_eps) for mass in MASSES]
    return [replace(task, mass=mass, eps=one) for mass, one in zip(MASSES, eps, strict=True)]
