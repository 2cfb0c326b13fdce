"""How steady a run's choice is: what halves of the examples, and of the pool, would have chosen; error_bars.json.

Two disjoint halves of the target are two independent samples of the task, each half as large. How far their choices
agree is what another sample of that size would have left of the choice; how often a chosen document is chosen by a half
is its inclusion frequency. The halves of the pool say the same of what the pool stands for.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.files import write_json
from gapsel.findings import Agreement, ErrorBars
from gapsel.pipeline.folder.results import ERROR_BARS
from gapsel.pipeline.folder.run_folder import plain, read_as
from gapsel.pipeline.steps.select import read_selection
from gapsel.potentials import halves
from gapsel.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.pipeline.work import Run
    from gapsel.potentials import Task
    from gapsel.potentials.variations import Choose
    from gapsel.records import Stage

SPLITS = 4
# Where two halves agree on less than this, more examples mostly choose what is nearer to the task: measured, with how
# often it warns in vain, in docs/evaluation.md.
# (What a half keeps of the whole's choice tells less: of examples that have nothing in common it keeps half.)
STEADY = 0.2


def error_bars(
    task: Task,
    chosen: NDArray[np.int64],
    backend: Backend,
    watch: Callable[[Stage], None] | None = None,
    choose: Choose | None = None,
) -> ErrorBars:
    """Choose by the halves of several random splits, and compare with what the whole chose (k,)."""
    found = list(halves(task, backend, SPLITS, watch, choose))
    of_target, of_pool = ([pairs[side] for pairs in found] for side in (0, 1))
    inclusion = np.mean([np.isin(chosen, half) for pair in of_target for half in pair], axis=0)
    agreement = _agreement(chosen, of_target)
    return ErrorBars(
        splits=SPLITS,
        target=agreement,
        pool=_agreement(chosen, of_pool),
        steady=agreement.agree >= STEADY,
        inclusion=tuple(inclusion.tolist()),
    )


def error_bars_step(run: Run) -> dict[str, Any]:
    """Write how steady the run's choice is; ``inclusion`` is in the order of selection.json."""
    chosen = read_selection(run).selection
    with track("error bars", None, "sweeps", enabled=not run.quiet) as advance:
        bars = error_bars(run.posed_task, chosen.rows, run.backend, lambda _: advance(1), run.rules.choose_some)
    run.writes("error_bars")
    write_json(run.path / ERROR_BARS, plain({"k": len(chosen.rows), **asdict(bars)}))
    return {"files": [ERROR_BARS]}


def read_error_bars(run: Run) -> ErrorBars:
    """Read what error_bars_step wrote. Raises DataError for anything else."""
    return read_as(run.path / ERROR_BARS, ErrorBars, "error bars")


def _agreement(chosen: NDArray[np.int64], pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> Agreement:
    return Agreement(
        agree=float(np.mean([np.isin(one, other).mean() for one, other in pairs])),
        keeps=float(np.mean([np.isin(chosen, half).mean() for pair in pairs for half in pair])),
    )
