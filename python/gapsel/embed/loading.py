"""A model named to an encoder that works: what it is asked for checked, its layers laid out for the device."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Literal, get_args

from gapsel.embed.device import DType, device_named, dtype_named
from gapsel.embed.encoder import Encoder
from gapsel.embed.identity import fingerprint, identity_files
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

Kind = Literal["text", "hidden"]
# MiniLM, one Zen 4 core: 512 and 2048 are 5 % slower, 4096 20 to 30 %, in float32 and in bfloat16.
# Dropped, runs interleaved: eager attention (not faster than sdpa), float32 matmul precision "medium" (not faster).
CPU_BATCH_TOKENS = 1024
# Not measured: a GPU wants enough rows to fill it.
GPU_BATCH_TOKENS = 32768


def load(
    model: str | Path = "default",
    *,
    features: Kind = "text",
    pooling: Pooling = "mean",
    max_tokens: int = 256,
    batch_tokens: int = 0,
    device: str = "auto",
    dtype: DType = "auto",
    threads: int = 0,
) -> Encoder:
    """Load an encoder from a local folder or by its hub name; "default" is all-MiniLM-L6-v2, which needs no network.

    ``features`` "text" are a sentence encoder's hidden states under ``pooling``; "hidden" are those of any language
    model, their mean weighted by position. ``batch_tokens`` bounds rows times width of a padded batch (0: by the
    device). ``device`` is "auto" (CUDA if there is one), "cpu" or "cuda:0"; ``dtype`` "auto" is bfloat16 where the
    device multiplies it natively, else float32. ``threads`` are torch's, for the whole process (0: leave as is). Code
    that comes with a model is never run and pickled weights are never read. Raises MissingDependencyError without the
    ``embed`` extra, UsageError for a setting that is wrong or a model that cannot be had, DataError for files that are
    not a whole model.
    """
    _check_choices(str(model), features, pooling, dtype)
    _check_numbers(max_tokens, batch_tokens, threads)
    require_packages()
    if threads:
        importlib.import_module("torch").set_num_threads(threads)
    where = device_named(device)
    precision = dtype_named(dtype, where)
    source, name = find(model)
    network, tokenizer, folder = load_pretrained(source, where, precision)
    check_length(max_tokens, network.config, tokenizer)
    check_vocabulary(name, network, tokenizer)
    if where.type == "cpu":
        pack_linear(network)
    made: dict[str, object] = {"pooling": pooling} if features == "text" else {"features": features}
    made |= {"max_tokens": max_tokens, "dtype": str(precision).removeprefix("torch.")}
    return Encoder(
        model=network,
        tokenizer=tokenizer,
        features=Pooled(network, pooling if features == "text" else "weighted"),
        vocabulary=vocabulary(network),
        max_tokens=max_tokens,
        batch_tokens=batch_tokens or max(max_tokens, GPU_BATCH_TOKENS if where.type == "cuda" else CPU_BATCH_TOKENS),
        pad_id=pad_id(network, tokenizer),
        dim=int(network.config.hidden_size),
        fingerprint=fingerprint(name, identity_files(folder, tokenizer), made),
    )


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


def _check_numbers(max_tokens: int, batch_tokens: int, threads: int) -> None:
    if max_tokens < 1 or threads < 0 or batch_tokens < 0:
        msg = f"max_tokens {max_tokens} must be 1 or more, batch_tokens {batch_tokens} and threads {threads} 0 or more"
        raise UsageError(msg)
    if 0 < batch_tokens < max_tokens:
        msg = f"batch_tokens {batch_tokens} is below max_tokens {max_tokens}: one text must fit a batch"
        raise UsageError(msg)
