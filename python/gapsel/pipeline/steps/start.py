"""What a fit for another k goes on from: the fit that the folder has, and the potentials in its scores.

It is copied beside the journal before the solver begins, since the fit that a command makes takes the place of the one
that it started from: a command that is killed between the two starts from the same numbers again.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.errors import DataError
from gapsel.files import whole
from gapsel.pipeline.folder import journal, parts
from gapsel.pipeline.work import ANY_K
from gapsel.potentials import Start

if TYPE_CHECKING:
    from pathlib import Path

    from gapsel.pipeline.work import Run

FILE = "start.npz"
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


def known_start(run: Run) -> Start | None:
    """Return what this fit can go on from.

    None where there is nothing; at mass 0, where k changes no potentials; and where examples are weighed anew for each.
    """
    if run.settings.mass == 0 or run.settings.weighs:
        return None
    file = run.path / journal.FOLDER / FILE
    return _saved(file, run.signatures["fit"]) or _from_last_fit(run, file)


def _from_last_fit(run: Run, file: Path) -> Start | None:
    facts: dict[str, Any] = run.folder.record["steps"].get("fit", {})
    if facts.get(ANY_K) != run.signatures[ANY_K]:
        return None
    try:
        potentials = run.model.potentials
        # All of the scores are of this model, or they are not used.
        known = all(parts.finished(run.path, part) is not None for part in run.parts)
        f = (run.f_of_rows - run.price_of_rows) if known else None
    except DataError:
        return None
    if f is None:
        return None
    start = Start(int(facts["rows_chosen"]), potentials.g, f, potentials.evidence.plain_value)
    with whole(file) as stream:
        about = np.array([run.signatures["fit"]])
        np.savez(stream, allow_pickle=False, about=about, k=start.k, g=start.g, f=f, plain_value=start.plain_value)
    return start


def _saved(file: Path, signature: str) -> Start | None:
    """Return the start that a killed command had for the same fit."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            if str(stored["about"][0]) != signature:
                return None
            return Start(int(stored["k"]), stored["g"], stored["f"], float(stored["plain_value"]))
    except _DAMAGED:
        return None
