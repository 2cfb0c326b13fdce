"""Hidden states of a batch reduced to one vector a document.

"weighted" is that of RDS+ (Ivison et al. 2025, arXiv 2503.01807; the weights are SGPT's): the mean of the last hidden
states h_1 .. h_T with weight t on the t-th,

    x = sum_t t h_t / sum_t t

for in a causal model the later a token, the more of the document its state has seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from gapsel.embed.encoder import Padded

Pooling = Literal["mean", "cls", "last"]


@dataclass(frozen=True, slots=True)
class Pooled:
    """The last hidden states of ``model``, reduced as ``pooling`` says."""

    model: PreTrainedModel
    pooling: Literal["mean", "cls", "last", "weighted"]

    def __call__(self, batch: Padded) -> torch.Tensor:
        """See Features."""
        import torch

        with torch.inference_mode():
            ids, lengths, mask = batch.on(self.model.device)
            hidden: torch.Tensor = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
            if self.pooling == "cls":
                return hidden[:, 0].float()
            if self.pooling == "last":
                return hidden[range(len(hidden)), lengths - 1].float()
            return _mean(hidden, mask, weighted=self.pooling == "weighted")


def _mean(hidden: torch.Tensor, mask: torch.Tensor, *, weighted: bool) -> torch.Tensor:
    """Return the mean (rows, d) float32 of hidden states (rows, width, d) over the tokens that ``mask`` marks."""
    weights = mask.cumsum(dim=1) * mask if weighted else mask
    # Masked by choice, not by product alone: a NaN under the padding must not reach the sum.
    real = hidden.float().masked_fill(~mask[..., None], 0.0)
    total = (real * weights[..., None]).sum(dim=1) if weighted else real.sum(dim=1)
    return total / weights.sum(dim=1, keepdim=True)
