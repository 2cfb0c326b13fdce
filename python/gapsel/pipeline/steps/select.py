"""The fourth door: scores to the selection, written in the user's own format, with its certificate."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import corpus, selection
from gapsel.calibration import scores
from gapsel.distance import distances
from gapsel.errors import DataError
from gapsel.files import write_json
from gapsel.findings import Certificate, Distances, Interval
from gapsel.pipeline.folder.results import SELECTED, SELECTION
from gapsel.pipeline.folder.run_folder import plain, read_json
from gapsel.pipeline.inputs.rules import solved
from gapsel.pipeline.steps.choosing import choose_rows
from gapsel.pipeline.vectors.sides import has_texts
from gapsel.potentials import facing
from gapsel.selection import Selection

if TYPE_CHECKING:
    from pathlib import Path

    from gapsel.pipeline.work import Run


@dataclass(frozen=True, slots=True)
class Made:
    """A selection, how far it is from the best one, what it does to the distance, and to that to what is avoided."""

    selection: Selection
    certificate: Certificate
    distances: Distances
    avoided: Distances | None


def select_step(run: Run) -> dict[str, Any]:
    """Scores to the selection, written in the user's own format, with its certificate."""
    chosen, said = _choose(run)
    certificate = _certify(run, chosen)
    task, shares = run.fitted_task, run.rules.budget.shares(chosen.rows)
    closed = distances(task, chosen.rows, run.backend, shares)
    avoided = run.model.avoided
    kept_off = None if avoided is None else distances(facing(task, avoided), chosen.rows, run.backend, shares)
    run.writes("select")
    written = write_selected(run, run.path, chosen)
    for old in set(run.path.glob(SELECTED)) - {written}:
        old.unlink()
    about = {
        "k": len(chosen.rows),
        "mass": run.settings.mass,
        "cut": float(chosen.scores[-1]),
        "certificate": asdict(certificate),
        "distances": asdict(closed),
        "avoided": None if kept_off is None else asdict(kept_off),
        "rules": said,
    }
    rows = {name: getattr(chosen, name).tolist() for name in ("rows", "scores", "nearest")}
    write_json(run.path / SELECTION, plain({**about, **rows}))
    return {**about, "file": written.name, "files": [written.name, SELECTION]}


def _choose(run: Run) -> tuple[Selection, dict[str, Any]]:
    """Choose off the scores, which are never all in memory, and say what the rules did."""
    a = run.rows.a
    rows, f, said = choose_rows(run)
    values = scores(f, a if isinstance(a, float) else a[rows], run.model.calibration.mean)
    return Selection(rows, values, selection.nearest_of(rows, run.rows, run.model.potentials, run.backend)), said


def _certify(run: Run, chosen: Selection) -> Certificate:
    p = run.model.potentials
    if run.settings.mass == 0:
        return selection.exact(p)
    task, f = run.fitted_task, run.f_of_rows
    at = solved(task, run.rules, f)
    return selection.certify(f, chosen.rows, task, p, run.backend, rules=run.rules, solved_at=at)


def read_selection(run: Run) -> Made:
    """Read what select_step wrote. Raises DataError for anything else."""
    file = run.path / SELECTION
    saved = read_json(file)
    try:
        chosen = Selection(
            np.array(saved["rows"], np.int64),
            np.array(saved["scores"], np.float64),
            np.array(saved["nearest"], np.int32),
        )
        avoided = None if saved["avoided"] is None else _distances(saved["avoided"])
        return Made(chosen, Certificate(**saved["certificate"]), _distances(saved["distances"]), avoided)
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{file}: cannot be read as a selection ({error}): delete it, and give the same command again"
        raise DataError(msg) from error


def _distances(saved: dict[str, Any]) -> Distances:
    before, after = (Interval(**saved[when]) for when in ("before", "after"))
    return Distances(before, after)


def write_selected(run: Run, folder: Path, chosen: Selection) -> Path:
    """Write chosen rows of the pool into a folder, in the user's own format, and return the file."""
    nearest = run.target_store.ids(chosen.nearest)
    rank = np.arange(1, len(chosen.rows) + 1)
    settings = run.settings
    if not has_texts(settings, "pool"):
        picked = corpus.Chosen(chosen.rows, chosen.scores, rank, nearest)
        return corpus.write_selected_vectors(folder, run.pool.ids(chosen.rows), picked)
    within = run.pool.row_numbers(chosen.rows)
    picked = corpus.Chosen(within, chosen.scores, rank, nearest, run.pool.text_hashes(chosen.rows))
    by_source = corpus.by_source(run.pool.sources(chosen.rows), picked)
    return corpus.write_selected(
        settings.pool, folder, by_source, text_field=settings.text_field, id_field=settings.id_field
    )
