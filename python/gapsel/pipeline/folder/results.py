"""The files that tell of a choice, and when they go: once it is made anew they tell of one that is no more.

A reader of the folder would not know. (A model is written over; parts of scores say themselves what they follow from,
see parts.py; what mix and evaluate found stays, since it took long, and is shown as long as it belongs to what the
folder has.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# The chosen rows are in the user's own format.
SELECTED, SELECTION = "selected.*", "selection.json"
MASS_PATH, ERROR_BARS = "mass_path.json", "error_bars.json"
FINDINGS, REPORT = "findings.json", "report.html"
_OF_CHOICE = (MASS_PATH, ERROR_BARS, FINDINGS, REPORT)
_AFTER = {"fit": (SELECTED, SELECTION, *_OF_CHOICE), "select": _OF_CHOICE}


def discard_after(step: str, folder: Path) -> list[str]:
    """Delete what tells of a choice that a step makes anew, and return the names of the files."""
    gone = [file for pattern in _AFTER.get(step, ()) for file in sorted(folder.glob(pattern))]
    for file in gone:
        file.unlink()
    return [file.name for file in gone]
