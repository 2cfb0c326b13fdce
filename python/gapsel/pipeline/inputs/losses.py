"""Weights of the pool from a language model's own loss: a_i = exp(-loss_i), the likelihood of one of its tokens.

The pool stands for what the model was trained on; a document that the model finds likely is better known to it than one
that it does not, and counts for more. Losses are embedded like vectors, of one dimension: a store of their own, so that
a pass that was stopped goes on where it was, here or on a cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import embed
from gapsel.errors import UsageError
from gapsel.files import whole
from gapsel.pipeline.vectors.encoding import Here, There
from gapsel.pipeline.vectors.sides import has_texts, pool_maker
from gapsel.progress import track

if TYPE_CHECKING:
    from pathlib import Path

    from gapsel.config import Settings
    from gapsel.pipeline.vectors.encoding import Embedder
    from gapsel.pipeline.work import Run
    from gapsel.store import Store

FILE = "weights.npy"


def check_losses(settings: Settings) -> None:
    """Raise UsageError where a model is to say the pool's weights, and the pool has no texts."""
    if settings.loss_weights is not None and not has_texts(settings, "pool"):
        msg = f"loss_weights is {settings.loss_weights!r}, and the pool has no texts: give them (--pool)"
        raise UsageError(msg)


def write_loss_weights(run: Run) -> str | None:
    """Write the weights by the model that the settings name, or what is missing; return the file's name in the run."""
    if run.settings.loss_weights is None:
        return None
    check_losses(run.settings)
    losses = _embedder(run.settings)
    folder = f"vectors/loss-{str(losses.fingerprint['hash'])[:12]}"
    maker = pool_maker(run.settings, run.path / folder, run.pool.n, losses)
    with track("losses of the pool", run.pool.n, "documents", enabled=not run.quiet) as advance:
        _write(maker.write(advance), run.path / folder / FILE)
    losses.close()
    return f"{folder}/{FILE}"


def loss_options(settings: Settings) -> dict[str, Any]:
    """Return what decides the model that says losses, as `embed.load` takes it."""
    options = {name: getattr(settings, name) for name in ("max_tokens", "dtype")}
    return {"model": settings.loss_weights, "features": "loss", **options}


def _embedder(settings: Settings) -> Embedder:
    options = loss_options(settings)
    encoder = embed.load(**options, device=settings.device, threads=settings.threads)
    return There(encoder, options, settings) if settings.on_cluster else Here(encoder)


def _write(losses: Store, file: Path) -> None:
    weights = np.exp(-np.concatenate([np.asarray(shard, np.float64)[:, 0] for shard in losses.shards]))
    with whole(file) as stream:
        np.save(stream, weights, allow_pickle=False)
