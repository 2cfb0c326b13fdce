"""Which model made a vector: a hash over what decides it, never over where it lies."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase


def identity_files(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[Path]:
    """List the files that decide the vectors: config, weights (one file or shards) and tokenizer."""
    vocabulary = ["tokenizer.json"] if (folder / "tokenizer.json").is_file() else tokenizer.vocab_files_names.values()
    names = ["config.json", "tokenizer_config.json", *sorted(vocabulary)]
    files = [folder / name for name in names if (folder / name).is_file()]
    whole = folder / "model.safetensors"
    return files + ([whole] if whole.is_file() else sorted(folder.glob("model-*.safetensors")))


def fingerprint(name: str, files: list[Path], settings: dict[str, object]) -> dict[str, object]:
    """Return what can be written as JSON about a model: its name, files, settings, and a hash of the last two."""
    return _hashed({"model": name, **settings, "files": {path.name: _file_hash(path) for path in files}})


def rehashed(made: Mapping[str, object], **more: object) -> dict[str, object]:
    """Return a fingerprint with more in it, and its hash over that too."""
    return _hashed({**{name: value for name, value in made.items() if name != "hash"}, **more})


def _hashed(made: dict[str, object]) -> dict[str, object]:
    identity = json.dumps({name: value for name, value in made.items() if name != "model"}, sort_keys=True)
    return {**made, "hash": hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()}


def _file_hash(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
