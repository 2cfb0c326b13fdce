"""Language models of random weights with a tokenizer of words, saved as people save theirs: no test needs a hub."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ["llama", "gpt2", "bert"]
TEXTS = [
    "the ship left the harbour at dawn",
    "rain",
    "the gene is expressed in the cell wall of the root",
    "permission is granted to copy the software and to sell copies of the software to any person at all",
    "a cell divides",
    "the harbour master saw the ship and the rain",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, *sorted({word for text in TEXTS for word in text.split()})]
_SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 24}
_LONGEST = 64


def save_causal(folder: Path, kind: str = "llama", seed: int = 0) -> Path:
    """Save a decoder, "llama" or "gpt2", whose tokenizer adds no special token and has none to pad with."""
    transformers = _prepared(seed)
    if kind == "llama":
        config = transformers.LlamaConfig(vocab_size=len(WORDS), max_position_embeddings=_LONGEST, **_SIZES, **_NONE)
        network = transformers.LlamaForCausalLM(config)
    else:
        sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": _LONGEST}
        network = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=len(WORDS), **sizes, **_NONE))
    return _saved(folder, network, _tokenizer(transformers, unk_token="[UNK]"))  # noqa: S106 - no password


def save_masked(folder: Path, seed: int = 0) -> Path:
    """Save a BERT, whose tokenizer puts a text between [CLS] and [SEP]."""
    transformers = _prepared(seed)
    config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=_LONGEST, **_SIZES)
    names = {f"{name[1:-1].lower()}_token": name for name in SPECIAL}
    return _saved(folder, transformers.BertForMaskedLM(config), _tokenizer(transformers, enclosed=True, **names))


def save_each(home: Path) -> dict[str, Path]:
    """Save a model of each of the `KINDS`, and return where."""
    causal = {kind: save_causal(home / kind, kind) for kind in ("llama", "gpt2")}
    return {**causal, "bert": save_masked(home / "bert")}


def write_texts(folder: Path) -> dict[str, str]:
    """Write a pool of 60 documents and a target of 5, and return where they are."""
    rng, words = np.random.default_rng(0), WORDS[len(SPECIAL) :]
    for side, count in (("pool", 60), ("target", 5)):
        rows = [{"id": str(row), "text": " ".join(rng.choice(words, rng.integers(2, 12)))} for row in range(count)]
        (folder / f"{side}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {side: str(folder / f"{side}.jsonl") for side in ("pool", "target")}


_NONE = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def _prepared(seed: int) -> Any:  # noqa: ANN401 - a module
    importlib.import_module("torch").manual_seed(seed)
    return importlib.import_module("transformers")


def _tokenizer(transformers: Any, *, enclosed: bool = False, **special: str) -> Any:  # noqa: ANN401 - transformers'
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    numbers = {word: number for number, word in enumerate(WORDS)}
    words = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))  # noqa: S106 - no password
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if enclosed:
        words.post_processor = processors.BertProcessing(("[SEP]", numbers["[SEP]"]), ("[CLS]", numbers["[CLS]"]))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special)


def _saved(folder: Path, network: Any, tokenizer: Any) -> Path:  # noqa: ANN401 - transformers'
    # Random layers that are wide awake: with the usual 0.02 all texts look alike.
    torch = importlib.import_module("torch")
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.normal_(0.0, 0.3)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
