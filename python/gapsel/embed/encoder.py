"""An encoder at work: texts to token ids, token ids to unit vectors.

Only real tokens count: every batch is padded on the right by this file, whatever side the tokenizer prefers, so the
last real token is at length - 1 and positions start at 0. What a batch becomes is said elsewhere: ``pooling`` has the
hidden states, ``gradients`` what the model would learn. Texts are sorted by tokens and cut into batches of a token
budget: padding adds 0.6 % to the demo's pool at 2,048 texts a call, where sorted by characters and cut into batches of
32 it adds 35 %.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from gapsel.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")
# Batches a GPU is given before the oldest one's vectors are fetched.
_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Tokenized:
    """Documents as token ids: ``ids`` (n lists), cut to the encoder's length; ``tokens`` (n,) int32, how many."""

    ids: list[list[int]]
    tokens: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Documents as vectors: ``vectors`` (n, d) float32, of unit norm; ``tokens`` (n,) int32, the tokens used."""

    vectors: NDArray[np.float32]
    tokens: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Padded:
    """A batch: ``ids`` (rows, width) int64, filled up on the right; ``lengths`` (rows,) int64, the real ones."""

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return ids, lengths, and the mask (rows, width) of the real tokens, on a device."""
        import torch

        lengths = _sent(torch.from_numpy(self.lengths), device)
        mask = torch.arange(self.ids.shape[1], device=device) < lengths[:, None]
        return _sent(torch.from_numpy(self.ids), device), lengths, mask


class Features(Protocol):
    """What a batch becomes: (rows, d) float32 on the model's device, perhaps still to be computed."""

    def __call__(self, batch: Padded, /) -> torch.Tensor:
        """Return the features of each row, not yet of unit norm."""
        ...


@dataclass(frozen=True, slots=True)
class Encoder:
    """A loaded model and how it is used; made by ``load``, called on one chunk of documents after another.

    ``dim`` is d; ``vocabulary`` is how many tokens the model has embeddings of. ``fingerprint`` can be written as JSON;
    its ``hash`` is the identity: it covers the contents of the model and tokenizer files, which features, max_tokens
    and dtype, never where the files lie. Without ``unit`` the vectors are left as long as they are.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    features: Features
    vocabulary: int
    max_tokens: int
    batch_tokens: int
    pad_id: int
    dim: int
    fingerprint: dict[str, object]
    unit: bool = True

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Encoded:
        """Embed ``texts`` (n strings), in the order given; see ``tokenize`` and ``forward``, which it joins."""
        return self.forward(self.tokenize(texts), progress)

    def tokenize(self, texts: Sequence[str]) -> Tokenized:
        """Turn ``texts`` (n strings) into token ids, each cut after ``max_tokens``, special ones included.

        It may run in a thread beside ``forward``. Raises UsageError if ``texts`` is one string or holds something else
        than strings, DataError naming the text that has no tokens.
        """
        ids = self._ids(_checked(texts))
        tokens = np.fromiter(map(len, ids), dtype=np.int32, count=len(ids))
        if (tokens == 0).any():
            msg = f"text {int(np.argmin(tokens))} has no tokens, so it has no vector: leave empty texts out"
            raise DataError(msg)
        return Tokenized(ids, tokens)

    def forward(self, texts: Tokenized, progress: Callable[[int], None] | None = None) -> Encoded:
        """Run the model over tokenized texts; ``progress`` hears how many texts each batch finished.

        Raises DataError naming the text whose vector is zero or not finite.
        """
        vectors = np.empty((len(texts.ids), self.dim), dtype=np.float32)
        made = ((rows, self.features(batch)) for rows, batch in self.batches(texts))
        for rows, found in _lagging(made, _AHEAD if self.model.device.type == "cuda" else 0):
            vectors[rows] = found.cpu().numpy()
            if progress is not None:
                progress(len(rows))
        return Encoded(_unit(vectors) if self.unit else _finite(vectors), texts.tokens)

    def batches(self, texts: Tokenized) -> Iterator[tuple[NDArray[np.int64], Padded]]:
        """Yield the batches that texts are run in, each with its rows."""
        for rows in _batches(texts.tokens, self.batch_tokens):
            yield rows, self._padded(texts, rows)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
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

    def _padded(self, texts: Tokenized, rows: NDArray[np.int64]) -> Padded:
        """Return some rows as a batch. Raises DataError for a token that the model does not have."""
        ids = np.full((len(rows), int(texts.tokens[rows].max())), self.pad_id, dtype=np.int64)
        for at, row in enumerate(rows):
            ids[at, : texts.tokens[row]] = texts.ids[row]
        if ids.max() >= self.vocabulary:
            row = rows[np.argmax(ids.max(axis=1))]
            msg = (
                f"text {row} has token {ids.max()} of the tokenizer, and the model knows no more than "
                f"{self.vocabulary}: resize its embeddings for the tokens that were added, or use its own tokenizer"
            )
            raise DataError(msg)
        return Padded(ids, texts.tokens[rows].astype(np.int64))


def _checked(texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, str):
        msg = "encode takes a sequence of texts, not one string: pass [text]"
        raise UsageError(msg)
    unsure: Sequence[object] = texts
    for row, text in enumerate(unsure):
        if not isinstance(text, str):
            msg = f"text {row} is of type {type(text).__name__}, not str: pass strings"
            raise UsageError(msg)
    return texts


def _batches(tokens: NDArray[np.int32], budget: int) -> Iterator[NDArray[np.int64]]:
    """Yield rows, longest first, so that rows times the longest of a batch stays within ``budget``."""
    order = np.argsort(-tokens, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, budget // int(tokens[order[start]]))
        yield order[start : start + count]
        start += count


def _lagging(items: Iterator[T], count: int) -> Iterator[T]:
    """Yield items in order, each only when ``count`` more have been made: a GPU then has work while one is fetched."""
    waiting: deque[T] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def _sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Send to the model's device, from pinned memory and without waiting where that is a GPU."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to unit norm in place."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = ~(np.isfinite(norms) & (norms > 0)).ravel()
    if bad.any():
        msg = f"the vector of text {int(np.argmax(bad))} is zero or not finite: try dtype float32, or leave it out"
        raise DataError(msg)
    vectors /= norms
    return vectors


def _finite(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        msg = f"what the model says of text {int(np.argmax(bad))} is not finite: try dtype float32, or leave it out"
        raise DataError(msg)
    return vectors
