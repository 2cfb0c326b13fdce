"""Training steps, and the loss of held-out texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapsel.evaluation.blocks import IGNORED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

# The usual ones of language models; the norm of a gradient is clipped to 1.
_BETAS, _DECAY, _CLIP = (0.9, 0.95), 0.1, 1.0
# The rate rises over this share of the steps, and falls to 0 over the rest.
_RISE = 0.1
# Blocks that are read at once where nothing is trained.
_READ = 16


def train(
    model: PreTrainedModel,
    batches: Iterator[NDArray[np.int64]],
    steps: int,
    rate: float,
    watch: Callable[[int], None] | None = None,
) -> None:
    """Train a model in place, by AdamW, on batches (rows, context + 1); ``watch`` is told of each step's tokens."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=_BETAS, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share_of_rate(step, steps))
    model.train()
    for batch in batches:
        loss = _nats(model, batch) / batch[:, 1:].size
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if watch:
            watch(batch[:, 1:].size)


def _share_of_rate(step: int, steps: int) -> float:
    rise = max(1, round(_RISE * steps))
    return min((step + 1) / rise, (steps - step) / max(1, steps - rise), 1.0)


def nats(model: PreTrainedModel, blocks: NDArray[np.int64]) -> float:
    """Return what all tokens of blocks (r, context + 1) cost to predict, in nats, but for those that are ignored."""
    import torch

    model.train(mode=False)
    with torch.inference_mode():
        return sum(float(_nats(model, blocks[at : at + _READ])) for at in range(0, len(blocks), _READ))


def _nats(model: PreTrainedModel, batch: NDArray[np.int64]) -> torch.Tensor:
    import torch

    tokens = torch.from_numpy(batch).to(model.device)
    # What is to be ignored as a target is still read as something.
    logits = model(input_ids=tokens[:, :-1].clamp(min=0), use_cache=False).logits
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
    )
