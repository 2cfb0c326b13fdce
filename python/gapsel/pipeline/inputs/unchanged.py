"""Inputs that are changed while a step reads them: what it wrote is of neither the old ones nor the new, and goes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from gapsel.errors import DataError
from gapsel.pipeline.folder import journal
from gapsel.pipeline.folder.stamps import state
from gapsel.pipeline.vectors.fingerprints import input_files, input_fingerprints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gapsel.pipeline.work import Run


@contextmanager
def unchanged(run: Run, let_go: Callable[[], object]) -> Iterator[None]:
    """Raise DataError where an input has changed in the block, after ``let_go`` of what the block wrote.

    Of files that are told by their contents alone, those at URLs, nothing is known until the next command reads them.
    """
    yield
    if run.inputs_state is None or _state(run) == run.inputs_state:
        return
    try:
        run.folder.check_inputs(input_fingerprints(run.settings))
    except DataError:
        journal.clear(run.path)
        let_go()
        raise
    run.inputs_state = _state(run)


def _state(run: Run) -> str | None:
    try:
        return state(input_files(run.settings))
    except DataError:
        return None
