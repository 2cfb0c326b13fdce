"""The second door: vectors to potentials, saved as the model.

Where the folder has a fit that differs in k alone, and the scores by it, the solver goes on from there.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import model, store
from gapsel.errors import DataError
from gapsel.pipeline.folder import parts
from gapsel.pipeline.inputs.losses import write_loss_weights
from gapsel.pipeline.inputs.own_weights import write_own_weights
from gapsel.pipeline.inputs.rules import caps_of
from gapsel.pipeline.inputs.weights import read_weights
from gapsel.pipeline.steps import sampled
from gapsel.pipeline.steps.start import known_start
from gapsel.pipeline.vectors.sides import called, check_d
from gapsel.pipeline.work import ANY_K, MADE_WEIGHTS, MODEL
from gapsel.progress import track
from gapsel.records import Cost, Target

if TYPE_CHECKING:
    from gapsel.pipeline.work import Run
    from gapsel.potentials import Balance, Weighed
    from gapsel.store import Store


def fit_step(run: Run) -> dict[str, Any]:
    """Vectors to potentials, saved as the model."""
    weigh_pool(run)
    target, weighing = run.tasks.posed(read_target(run), run.settings)
    more = {} if run.avoid_store is None else {"avoid": run.avoid_store}
    for side, vectors in (run.beside_target | more).items():
        check_d(side, vectors.d, run.target_store.d)
        _same_embedder(side, vectors, run.target_store)
    task = run.task(target, Cost(run.settings.cost, run.settings.normalize))
    start = known_start(run)
    with track("fit", None, "sweeps", enabled=not run.quiet) as advance:
        found = sampled.fit(
            task, run.settings.fit_rows, run.backend, aversion=run.aversion(task), weighing=weighing,
            caps=caps_of(run.rules), start=start, watch=lambda _stage: advance(1),
        )  # fmt: skip
    embedder = run.target_store.fingerprint.get("embedder", {})
    made_by = embedder if isinstance(embedder, dict) else {}
    fitted = model.Model(found.potentials, found.calibration, made_by, found.avoided)
    run.writes("fit")
    fitted.save(run.path / MODEL)
    run.forget("model", "parts", "f", "f_of_rows", "price_of_rows")
    # Scores by the model that was there are no more those of this one.
    parts.discard_others(run.path, run.parts)
    evidence = asdict(found.potentials.evidence) | {"pool_rows": found.calibration.pool_rows}
    facts = {"eps": found.potentials.eps, "scale": asdict(found.potentials.scale), **evidence, "files": [MODEL]}
    if run.made_weights is not None:
        facts |= {MADE_WEIGHTS: run.made_weights, "files": [MODEL, run.made_weights]}
    facts |= _of_weights(run, found.potentials.target, found.weighed)
    return {**facts, ANY_K: run.signatures[ANY_K], "rows_chosen": run.k}


def weigh_pool(run: Run) -> None:
    """Write the weights of the pool's rows, where they are no file that was given."""
    run.made_weights = write_loss_weights(run) or write_own_weights(run)


def read_target(run: Run) -> Target:
    """Return the examples of the task with their weights."""
    y = run.target_store.joined()
    b = read_weights(run.settings.target_weights, len(y), "target")
    return Target(y, np.full(len(y), 1.0 / len(y)) if b is None else b / b.sum())


def _of_weights(run: Run, target: Target, weighed: Weighed | None) -> dict[str, Any]:
    """Return what there is to say of weights that were found: who is ignored, and what several tasks weigh."""
    if weighed is None:
        return _of_tasks(run, target, None)
    ignored = {"rows": weighed.ignored.tolist(), "ids": run.target_store.ids(weighed.ignored)}
    return {"ignored": ignored, **_of_tasks(run, target, weighed.balance)}


def _of_tasks(run: Run, target: Target, balance: Balance | None) -> dict[str, Any]:
    """Return what there is to say of several tasks: names, examples, weights, and how level their shares are."""
    tasks = run.tasks
    if not tasks.several:
        return {}
    found: dict[str, Any] = {
        "names": list(tasks.names),
        "examples": tasks.counts.tolist(),
        "weights": tasks.shares(target.b).tolist(),
    }
    if balance is not None:
        found |= {"closed": balance.shares.tolist(), "level": balance.level}
        found |= {"rounds": balance.rounds, "reads": balance.reads}
    return {"tasks": found}


def _same_embedder(side: str, vectors: Store, target: Store) -> None:
    """Raise DataError where the vectors of a side and of the target are known to be of several embedders."""
    known = store.embedders(vectors.files) | store.embedders(target.files)
    if len(known) > 1:
        msg = (
            f"the vectors of {called(side)} and of the target are of {len(known)} embedders: embed all with the same "
            "model and settings"
        )
        raise DataError(msg)
