"""A small GPT trained from scratch on random text of the pool: what a pretrained model is, in small.

The pool stands for what the model knows, as it does where the selection is made. Its tokens are byte pairs learned from
the same text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.embed.pretrained import quiet, require_packages
from gapsel.errors import DataError
from gapsel.evaluation.blocks import batches
from gapsel.evaluation.training import train

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_END = "<|end|>"
# Contexts of a step, and the highest learning rate; 1.3 million parameters, 1.5 million tokens.
_ROWS, _RATE = 8, 3e-3


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a GPT: 1.3 million parameters with these, which one core trains on 6,000 tokens a second."""

    context: int
    layers: int = 4
    width: int = 128
    heads: int = 4
    vocabulary: int = 4096


def make(
    folder: Path, texts: Sequence[str], size: Size, tokens: int, *, seed: int, threads: int = 0,
    watch: Callable[[int], None] | None = None,
) -> None:  # fmt: skip
    """Train a GPT on so many tokens of the texts, and save it into a folder with its tokenizer.

    The texts are read again where they hold fewer. Raises MissingDependencyError without the ``embed`` extra, DataError
    where they do not fill one context.
    """
    require_packages()
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    if threads:
        torch.set_num_threads(threads)
    tokenizer = _learned(texts, size.vocabulary)
    documents = [np.array(one, np.int32) for one in tokenizer(list(texts), verbose=False)["input_ids"]]
    end = int(tokenizer.eos_token_id)
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(tokenizer), n_positions=size.context, n_embd=size.width, n_layer=size.layers,
                n_head=size.heads, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=end, eos_token_id=end,
            )
        )  # fmt: skip
        steps = max(1, round(tokens / (_ROWS * size.context)))
        given = batches(documents, end, (_ROWS, size.context), steps, np.random.default_rng(seed))
        train(model, given, steps, _RATE, watch)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _learned(texts: Sequence[str], vocabulary: int) -> Any:  # noqa: ANN401 - transformers gives its own no types
    """Return a tokenizer of byte pairs learned from the texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if not any(text.strip() for text in texts):
        msg = "the pool holds no text to train a language model on: give one (--lm)"
        raise DataError(msg)
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learned.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=[_END], initial_alphabet=alphabet, show_progress=False
        ),
    )
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=learned, eos_token=_END)
