"""A language model's loss on a document: the mean over its tokens of -log p, in nats.

A causal model predicts every token from those before it,

    loss = -1/T sum_t log p(x_t | x_1 .. x_{t-1})

and where the tokenizer puts no first token of its own, one is put before the document (the model's token for a
beginning, else that for an end, else for padding, else number 0), so that the first word counts too, and a document
of one token has a loss.

A masked model predicts 15 % of a document's tokens, at least one, each replaced by the mask token; special tokens are
not masked where there are others. Which ones is drawn with the document's own tokens as the seed: the same document has
the same loss, whatever is embedded beside it. One draw is a noisy value of what all draws would say on average; the
pseudo-likelihood, a pass for every token, would cost as many passes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.embed.encoder import Padded
from gapsel.errors import DataError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MASKED = 0.15
# What cross_entropy passes over.
_NO_LABEL = -100


@dataclass(frozen=True, slots=True)
class Language:
    """A causal model (``mask`` is None) or a masked one, whose ``mask`` stands for what it is to say.

    ``start`` is put before every document, if there is one; ``special`` are the tokens that mean no text.
    """

    network: PreTrainedModel
    start: int | None
    mask: int | None
    special: NDArray[np.int64]

    @property
    def kind(self) -> str:
        """What the model predicts."""
        return "causal" if self.mask is None else "masked"

    def losses(self, batch: Padded) -> torch.Tensor:
        """Return the loss (rows,) float32 of each document of a batch, ready for a backward pass where grad is on."""
        return self._causal(batch) if self.mask is None else self._masked(batch, self.mask)

    def _causal(self, batch: Padded) -> torch.Tensor:
        ids, _, real = self.started(batch).on(self.network.device)
        logits = self.network(input_ids=ids, attention_mask=real.long()).logits
        labels = ids[:, 1:].masked_fill(~real[:, 1:], _NO_LABEL)
        return _mean_loss(logits[:, :-1], labels)

    def _masked(self, batch: Padded, mask: int) -> torch.Tensor:
        ids, _, real = batch.on(self.network.device)
        hidden, _, _ = Padded(self.hidden(batch), batch.lengths).on(self.network.device)
        logits = self.network(input_ids=ids.where(hidden == 0, mask), attention_mask=real.long()).logits
        return _mean_loss(logits, ids.masked_fill(hidden == 0, _NO_LABEL))

    def started(self, batch: Padded) -> Padded:
        """Return a batch with the start token before every document."""
        if self.start is None:
            return batch
        first = np.full((len(batch.ids), 1), self.start, np.int64)
        return Padded(np.concatenate([first, batch.ids], axis=1), batch.lengths + 1)

    def hidden(self, batch: Padded) -> NDArray[np.int64]:
        """Return 1 where a masked model has to say the token (rows, width), else 0."""
        out = np.zeros_like(batch.ids)
        for row, length in enumerate(batch.lengths):
            tokens = batch.ids[row, :length]
            ordinary = np.flatnonzero(~np.isin(tokens, self.special))
            places = ordinary if len(ordinary) else np.arange(length)
            out[row, _drawn(tokens, places, max(1, round(_MASKED * len(places))))] = 1
        return out


@dataclass(frozen=True, slots=True)
class Losses:
    """The losses (rows, 1) of a batch's documents as features; see Features."""

    language: Language

    def __call__(self, batch: Padded) -> torch.Tensor:
        """See Features."""
        import torch

        with torch.inference_mode():
            return self.language.losses(batch)[:, None]


def language(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Language:
    """Return a loaded model with its head as a language model. Raises DataError for a masked one with no mask token."""
    special = np.asarray(sorted(tokenizer.all_special_ids), np.int64)
    if type(network).__name__.endswith("MaskedLM"):
        if tokenizer.mask_token_id is None:
            msg = (
                f"{type(network).__name__}: its tokenizer has no mask token: put the model's own tokenizer files there"
            )
            raise DataError(msg)
        return Language(network, None, int(tokenizer.mask_token_id), special)
    candidates = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    start = None if _begins(tokenizer) else next((int(one) for one in candidates if one is not None), 0)
    return Language(network, start, None, special)


def _begins(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether the tokenizer itself puts a special token first."""
    ids = tokenizer("a")["input_ids"]
    return bool(ids) and ids[0] in tokenizer.all_special_ids and tokenizer.num_special_tokens_to_add() > 0


def _drawn(tokens: NDArray[np.int64], places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return ``count`` of the places, drawn by the tokens themselves."""
    seed = int.from_bytes(hashlib.blake2b(tokens.astype("<i8").tobytes(), digest_size=16).digest(), "little")
    keys = np.random.Philox(key=seed).random_raw(len(places))
    return places[np.argsort(keys, kind="stable")[:count]]


def _mean_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean (rows,) over the labels that are there of -log p; logits (rows, width, tokens)."""
    import torch

    exact = torch.promote_types(logits.dtype, torch.float32)
    losses = torch.nn.functional.cross_entropy(
        logits.to(exact).flatten(0, 1), labels.flatten(), reduction="none", ignore_index=_NO_LABEL
    )
    return losses.view(labels.shape).sum(dim=1) / (labels != _NO_LABEL).sum(dim=1)
