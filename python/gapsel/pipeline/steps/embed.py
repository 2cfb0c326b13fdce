"""The first door: texts to vectors. What can be known to be wrong is said before the long work begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapsel import memory
from gapsel.config import rows_for
from gapsel.embed import MOMENTS, SCALED
from gapsel.pipeline.inputs.losses import check_losses
from gapsel.pipeline.inputs.own_weights import read_own_weights
from gapsel.pipeline.inputs.rules import check_rules
from gapsel.pipeline.inputs.targets import read_tasks
from gapsel.pipeline.inputs.weights import read_weights
from gapsel.pipeline.studies.compare import check_compared
from gapsel.pipeline.vectors.sides import at_work, check_d, load_encoder, look_at, sides, write_side
from gapsel.potentials import check_halves

if TYPE_CHECKING:
    from gapsel.pipeline.work import Run


def embed_step(run: Run) -> dict[str, Any]:
    """Look at all sides, then write their vectors."""
    found = [look_at(run.settings, side) for side in sides(run.settings)]
    pool, target, *more = found
    base = [side for side in more if side.name == "base"]
    rows_for(run.settings.k, pool.rows)
    check_rules(run.settings)
    if run.settings.error_bars:
        check_halves(target.rows)
    memory.check(pool.rows + sum(one.rows for one in base), target.rows, max(pool.d, target.d))
    check_losses(run.settings)
    read_weights(run.settings.pool_weights, pool.rows, "pool")
    read_own_weights(run.settings, pool.rows)
    weights = read_weights(run.settings.target_weights, target.rows, "target")
    read_tasks(run.settings, target.sources).check(weights)
    for one in base:
        read_weights(run.settings.base_weights, one.rows, "base")
    check_compared(run.settings)
    if run.settings.backend == "gpu":
        # A device that is asked for and cannot be had is said before documents are embedded for it.
        _ = run.backend
    encoder = load_encoder(run.settings, found)
    for one in (pool, *more):
        check_d(one.name, one.d, target.d)
    run.writes("embed")
    embedder = at_work(run.settings, run.path, found, encoder)
    made = {side.name: write_side(run.settings, run.path, side, embedder, quiet=run.quiet) for side in found}
    if embedder is not None:
        embedder.close()
    run.forget("pool", "pool_content", "target_store", "base_store", "avoid_store", "tasks", "rows", "rules", "parts")
    files = [file for _, written in made.values() for file in written]
    files += [MOMENTS] if run.settings.features in SCALED and embedder is not None else []
    return {**{name: facts for name, (facts, _) in made.items()}, "files": files}
