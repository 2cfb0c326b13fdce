"""How steady a run's choice is: what halves of the examples, and of the pool, would have chosen; error_bars.json.

Two disjoint halves of the target are two independent samples of the task, each half as large. How far their choices
agree is what another sample of that size would have left of the choice; how often a chosen document is chosen by a half
is its inclusion frequency. The halves of the pool say the same of what the pool stands for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.files import write_json
from gapsel.pipeline.folder import plain
from gapsel.pipeline.select import read_selection
from gapsel.potentials import halves
from gapsel.progress import track

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.pipeline.work import Run

ERROR_BARS = "error_bars.json"
SPLITS = 4
# Where two halves agree on less than this, each example has chosen for itself, and others would choose other documents.
# (What a half keeps of the whole's choice tells less: of examples that have nothing in common it keeps half.)
STEADY = 0.1


def write_error_bars(run: Run) -> dict[str, Any]:
    """Choose by the halves of several random splits, and return what was written.

    ``target`` and ``pool`` say of their halves how far two disjoint ones ``agree`` (share of k) and what share of the
    run's own choice one ``keeps``, in the mean; ``inclusion`` (k,), in the order of selection.json, is the share of the
    target's halves that choose a row; ``steady`` whether the target is large enough for the k.
    """
    chosen, _ = read_selection(run)
    p = run.model.potentials
    with track("error bars", None, "sweeps", enabled=not run.quiet) as advance:
        task = run.task(p.target, p.cost)
        found = list(halves(task, run.backend, SPLITS, lambda _: advance(1)))
    of_target, of_pool = ([pairs[side] for pairs in found] for side in (0, 1))
    inclusion = np.mean([np.isin(chosen.rows, half) for pair in of_target for half in pair], axis=0)
    agreement = _agreement(chosen.rows, of_target)
    bars = {
        "k": run.k,
        "splits": SPLITS,
        "target": agreement,
        "pool": _agreement(chosen.rows, of_pool),
        "steady": agreement["agree"] >= STEADY,
        "inclusion": inclusion.tolist(),
    }
    write_json(run.path / ERROR_BARS, plain(bars))
    return bars


def _agreement(chosen: NDArray[np.int64], pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> dict[str, float]:
    return {
        "agree": float(np.mean([np.isin(one, other).mean() for one, other in pairs])),
        "keeps": float(np.mean([np.isin(chosen, half).mean() for pair in pairs for half in pair])),
    }
