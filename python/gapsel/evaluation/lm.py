"""A causal language model, and texts as its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.embed.device import device_named
from gapsel.embed.identity import fingerprint, identity_files
from gapsel.embed.pretrained import check_vocabulary, find, load_pretrained, require_packages
from gapsel.errors import DataError, UsageError
from gapsel.evaluation.blocks import padded
from gapsel.evaluation.training import nats

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out texts as blocks (r, context + 1), with the tokens that are predicted and the bytes of the texts."""

    blocks: NDArray[np.int64]
    tokens: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Lm:
    """A causal language model with its tokenizer; ``identity`` is a hash of the files that it came from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    separator: int
    identity: str

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(one.numel() for one in self.model.parameters())

    def tokens(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Return the tokens of each text, without any that the tokenizer would add."""
        if not texts:
            return []
        found = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        return [np.array(one, np.int32) for one in found["input_ids"]]

    def held_out(self, texts: Sequence[str], context: int) -> HeldOut:
        """Return held-out texts as this model reads them."""
        documents = self.tokens(texts)
        count = sum(len(one) + 1 for one in documents)
        return HeldOut(padded(documents, self.separator, context), count, sum(len(text.encode()) for text in texts))

    def loss(self, held: HeldOut) -> float:
        """Return the loss of held-out texts in nats per token, as the model is."""
        return nats(self.model, held.blocks) / held.tokens


def load(model: str | Path, *, context: int, device: str = "auto", threads: int = 0) -> Lm:
    """Load a causal language model with its tokenizer, from a local folder or by its hub name, in float32.

    Code that comes with a model is never run and pickled weights are never read. ``threads`` are torch's, for the whole
    process (0: leave as is). Raises MissingDependencyError without the ``embed`` extra, DataError for files that are no
    whole causal language model with its tokenizer, UsageError for a context longer than the model's.
    """
    require_packages()
    import torch

    if threads:
        torch.set_num_threads(threads)
    source, name = find(model)
    network, tokenizer, folder = load_pretrained(source, device_named(device), torch.float32, head=True)
    _check_causal(name, network)
    _check_tokenizer(folder, tokenizer)
    check_vocabulary(name, network, tokenizer)
    longest = getattr(network.config, "max_position_embeddings", None) or context
    if context > longest:
        msg = f"context is {context}, and {name} has {longest} positions: give {longest} or less"
        raise UsageError(msg)
    identity = fingerprint(name, identity_files(folder, tokenizer), {})["hash"]
    return Lm(network, tokenizer, _separator(tokenizer, name), str(identity))


def _check_causal(name: str, network: PreTrainedModel) -> None:
    if type(network).__name__.endswith("MaskedLM"):
        msg = f"{name} is a masked language model, which predicts no next token: give a causal one"
        raise DataError(msg)


def _check_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse the empty tokenizer that transformers makes up where there is none."""
    names = {"tokenizer.json", *tokenizer.vocab_files_names.values()}
    if not any((folder / name).is_file() for name in names):
        msg = f"{folder} has no tokenizer: save it there too (tokenizer.save_pretrained)"
        raise DataError(msg)


def _separator(tokenizer: PreTrainedTokenizerBase, name: str) -> int:
    """Return the token that stands between documents."""
    candidates = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.sep_token_id)
    found = next((int(one) for one in candidates if one is not None), None)
    if found is None:
        msg = f"the tokenizer of {name} has no token for the end of a text: set its eos_token"
        raise DataError(msg)
    return found
