"""A model named to an encoder that works: what it is asked for checked, its layers laid out for the device."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Literal, get_args

from gapsel.embed.device import DType, device_named, dtype_named
from gapsel.embed.encoder import Encoder
from gapsel.embed.gradients import Gradients
from gapsel.embed.identity import fingerprint, identity_files
from gapsel.embed.language import Losses, language
from gapsel.embed.lora import RANK
from gapsel.embed.packing import pack_linear
from gapsel.embed.pooling import Pooled, Pooling
from gapsel.embed.pretrained import (
    check_length,
    check_vocabulary,
    find,
    load_pretrained,
    pad_id,
    require_packages,
    vocabulary,
)
from gapsel.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from gapsel.embed.encoder import Features
    from gapsel.embed.language import Language

Kind = Literal["text", "hidden", "gradient", "loss"]
# MiniLM, one Zen 4 core: 512 and 2048 are 5 % slower, 4096 20 to 30 %, in float32 and in bfloat16.
# Dropped, runs interleaved: eager attention (not faster than sdpa), float32 matmul precision "medium" (not faster).
CPU_BATCH_TOKENS = 1024
# Not measured: a GPU wants enough rows to fill it.
GPU_BATCH_TOKENS = 32768
# Where a language model says a number for every token of its vocabulary at each, and some of these are in memory.
CPU_SPOKEN_TOKENS, GPU_SPOKEN_TOKENS = 512, 4096
_SPOKEN = ("gradient", "loss")
# By whether a language model speaks, and by whether there is a GPU.
_BATCH_TOKENS = {
    (False, False): CPU_BATCH_TOKENS, (False, True): GPU_BATCH_TOKENS,
    (True, False): CPU_SPOKEN_TOKENS, (True, True): GPU_SPOKEN_TOKENS,
}  # fmt: skip


def load(
    model: str | Path = "default",
    *,
    features: Kind = "text",
    gradient_dims: int = 1024,
    pooling: Pooling = "mean",
    max_tokens: int = 256,
    batch_tokens: int = 0,
    device: str = "auto",
    dtype: DType = "auto",
    threads: int = 0,
) -> Encoder:
    """Load an encoder from a local folder or by its hub name; "default" is all-MiniLM-L6-v2, which needs no network.

    ``features`` "text" are a sentence encoder's hidden states under ``pooling``; "hidden" are those of any language
    model, their mean weighted by position (`scaled` puts their dimensions on one footing); "gradient" are its projected
    gradients, d is ``gradient_dims``, as plain gradient descent has them (`scaled` makes them Adam's); "loss" is its
    loss on each document, in nats for each token, d is 1, and its vectors alone are not of unit norm. ``batch_tokens``
    bounds rows times width of a padded batch (0: by the device). ``device`` is "auto" (CUDA if there is one), "cpu" or
    "cuda:0"; ``dtype`` "auto" is bfloat16 where the device multiplies it natively, else float32. ``threads`` are
    torch's, for the whole process (0: leave as is). Code that comes with a model is never run and pickled weights are
    never read. Raises MissingDependencyError without the ``embed`` extra, UsageError for a setting that is wrong or a
    model that cannot be had, DataError for files that are not a whole model.
    """
    _check_choices(str(model), features, pooling, dtype)
    _check_numbers(max_tokens, batch_tokens, gradient_dims, threads)
    require_packages()
    if threads:
        importlib.import_module("torch").set_num_threads(threads)
    where = device_named(device)
    precision = dtype_named(dtype, where)
    source, name = find(model)
    network, tokenizer, folder = load_pretrained(source, where, precision, head=features in _SPOKEN)
    check_vocabulary(name, network, tokenizer)
    spoken = language(network, tokenizer) if features in _SPOKEN else None
    check_length(max_tokens, network.config, tokenizer, before=int(spoken is not None and spoken.start is not None))
    computed, d, about = _said(spoken, features, gradient_dims) if spoken else _pooled(network, features, pooling)
    about |= {"max_tokens": max_tokens, "dtype": str(precision).removeprefix("torch.")}
    return Encoder(
        model=network,
        tokenizer=tokenizer,
        features=computed,
        vocabulary=vocabulary(network),
        max_tokens=max_tokens,
        batch_tokens=batch_tokens or max(max_tokens, _BATCH_TOKENS[features in _SPOKEN, where.type == "cuda"]),
        pad_id=pad_id(network, tokenizer),
        dim=d,
        fingerprint=fingerprint(name, identity_files(folder, tokenizer), about),
        unit=features != "loss",
    )


def _said(spoken: Language, features: Kind, d: int) -> tuple[Features, int, dict[str, object]]:
    """Return features of a language model, their width, and what is to be remembered of them."""
    about: dict[str, object] = {"features": features, "objective": spoken.kind}
    if features == "loss":
        return Losses(spoken), 1, about
    return Gradients(spoken, d), d, {**about, "gradient_dims": d, "lora_rank": RANK, "moments": None}


def _pooled(network: PreTrainedModel, features: Kind, pooling: Pooling) -> tuple[Features, int, dict[str, object]]:
    """Return features of hidden states, their width, and what is to be remembered of them."""
    if network.device.type == "cpu":
        pack_linear(network)
    d = int(network.config.hidden_size)
    if features == "text":
        return Pooled(network, pooling), d, {"pooling": pooling}
    return Pooled(network, "weighted"), d, {"features": features, "moments": None}


def _check_choices(model: str, features: str, pooling: str, dtype: str) -> None:
    choices = (("features", features, get_args(Kind)), ("pooling", pooling, get_args(Pooling)))
    for what, value, allowed in (*choices, ("dtype", dtype, get_args(DType))):
        if value not in allowed:
            msg = f"{what} is {value!r}: choose one of {', '.join(allowed)}"
            raise UsageError(msg)
    if features != "text" and (model == "default" or pooling != "mean"):
        why = "your own language model's: name it (--model)" if model == "default" else "pooled in one way alone"
        msg = f"features are {features!r}, and those are {why}"
        raise UsageError(msg)


def _check_numbers(max_tokens: int, batch_tokens: int, gradient_dims: int, threads: int) -> None:
    if gradient_dims < 1:
        msg = f"gradient_dims is {gradient_dims}: give 1 or more"
        raise UsageError(msg)
    if max_tokens < 1 or threads < 0 or batch_tokens < 0:
        msg = f"max_tokens {max_tokens} must be 1 or more, batch_tokens {batch_tokens} and threads {threads} 0 or more"
        raise UsageError(msg)
    if 0 < batch_tokens < max_tokens:
        msg = f"batch_tokens {batch_tokens} is below max_tokens {max_tokens}: one text must fit a batch"
        raise UsageError(msg)
