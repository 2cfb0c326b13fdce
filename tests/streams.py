"""Streams of documents and vectors with finished runs to score them by: `gapsel score` in this process.

A plugin of pytest (conftest.py names it): tests ask for a run that is ``fitted`` on texts or ``with_vectors``, for
``score``, and to be ``offline`` in a folder of their own.
"""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gapsel
from gapsel.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


WORDS = ["cell", "protein", "gene", "king", "lord", "psalm", "table", "index", "row", "query", "page", "file"]
SOURCE = [sys.executable, "-c", "import sys; from gapsel.cli import main; sys.exit(main())"]


def documents(count: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 12, count)
    texts = [" ".join(rng.choice(WORDS, length)) for length in lengths]
    return [{"id": f"d{at}", "text": text, "more": [at, {"ü": None}]} for at, text in enumerate(texts)]


POOL = documents(300, 0)
FLAT = [row | {"more": at} for at, row in enumerate(POOL)]


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def make_encoder(folder: Path, seed: int) -> Path:
    """Save a tiny encoder with random weights."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(["?", *WORDS])}, unk_token="?"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(folder)  # noqa: S106
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=len(WORDS) + 1, n_positions=32, n_embd=16, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=None
    )
    transformers.GPT2Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on texts, with its encoder and its pool beside it."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "pool.jsonl").write_bytes(as_jsonl(POOL))
    (folder / "target.jsonl").write_bytes(as_jsonl(documents(12, 1)))
    encoder = make_encoder(folder / "tiny", 0)
    gapsel.run(
        folder / "out", pool=folder / "pool.jsonl", target=folder / "target.jsonl", model=encoder, k=30, max_tokens=32,
        dtype="float32",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def with_vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on ready-made vectors."""
    folder, rng = tmp_path_factory.mktemp("vectors"), np.random.default_rng(0)
    np.save(folder / "pool.npy", rng.normal(size=(500, 6)).astype(np.float32))
    np.save(folder / "target.npy", rng.normal(size=(8, 6)).astype(np.float32))
    gapsel.run(folder / "out", pool_vectors=folder / "pool.npy", target_vectors=folder / "target.npy", k=50)
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


class Terminal(io.TextIOWrapper):
    """Text over bytes, as the standard streams are."""


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, bytes, str]]:
    """Run `gapsel score` in this process: (what comes in, flags) -> (exit code, what goes out, what is told)."""

    def run(stdin: bytes, *flags: str) -> tuple[int, bytes, str]:
        out = io.BytesIO()
        monkeypatch.setattr(sys, "stdin", Terminal(io.BufferedReader(io.BytesIO(stdin))))
        monkeypatch.setattr(sys, "stdout", Terminal(out))
        code = main(["score", *flags])
        return code, out.getvalue(), capsys.readouterr().err

    return run


Score = Any


def own_scores(run: Path) -> dict[str, float]:
    table = pa.concat_tables([pq.read_table(file) for file in sorted((run / "out/scores").iterdir())])
    return dict(zip(table["id"].to_pylist(), table["score"].to_pylist(), strict=True))


def parsed(out: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def arrow(rows: list[dict[str, Any]], batches: int = 3) -> bytes:
    table, out = pa.Table.from_pylist(rows), io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=-(-len(rows) // batches))
    return out.getvalue()
