"""A model at work in somebody's own pipeline: callables from batch to batch, for Ray Data, Spark, `datasets`.

    dataset.map_batches(gapsel.BatchScorer, fn_constructor_args=("/shared/OUT",), concurrency=4, num_gpus=0.25)

One is made in each worker, and called with one batch after another. A batch comes back in its own form (forms.py) with
all its rows, and nothing of them is remembered. None of those tools is imported here: they say by OMP_NUM_THREADS how
many processors a worker has, and by CUDA_VISIBLE_DEVICES which GPUs, and both are kept to.

Pickled are the model, a few MB, and what was said of its use. The encoder is loaded where it is used, with the first
texts.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

from gapsel import corpus, embed
from gapsel.errors import UsageError
from gapsel.model import load
from gapsel.stream import batches
from gapsel.stream.embedder import load_encoder
from gapsel.stream.forms import form_of
from gapsel.stream.inputs import Reading
from gapsel.stream.scorer import Scorer

KEPT = "gapsel_kept"
VECTOR = "gapsel_vector"
_USE = ("pooling", "max_tokens", "dtype")


class _Worker:
    """Loads its tool where it works: the tool does not travel."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_tool"}


class BatchScorer(_Worker):
    """Batches with the scores of their texts or vectors: `gapsel score` in a pipeline of your own.

    ``model`` is a model file or run folder. A batch is a pyarrow table or record batch, a dict of arrays or lists, or a
    pandas frame; it gets a column ``gapsel_score`` (float64; null, or NaN without nulls, for rows that cannot be used)
    and, with ``keep``, a share like "1%", a column ``gapsel_kept`` (bool): whether a row is among the best such share
    of what is like the pool. Texts are in ``text_field``; vectors of the same encoder in ``vector_field`` or, for a
    model that knows no encoder, in the only column of lists of floats. ``encoder`` says where the encoder lies, if it
    is not found by its name; it runs on ``device``. ``threads`` 0 are as many as OMP_NUM_THREADS says, or else all.

    A vector has one score in all batches, bit for bit. The last bits of a text's vector, and so of its score, depend on
    what else is in its batch: see stream/scorer.py. Raises DataError for a file that is no model, UsageError
    for a share that its calibration does not support; with a batch DataError where the column to read is missing or of
    another type, where the encoder is not the model's, and where of a thousand rows or more most cannot be used.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        keep: str | None = None,
        text_field: str = "text",
        vector_field: str | None = None,
        encoder: str | os.PathLike[str] | None = None,
        device: str = "auto",
        backend: str = "auto",
        threads: int = 0,
    ) -> None:
        self._model, self._file = load(model), os.fspath(model)
        self._reading = Reading(text_field, vector_field=vector_field)
        self._limit = None if keep is None else self._model.calibration.keep(keep).score
        self._encoder, self._device, self._backend, self._threads = encoder, device, backend, threads

    def __call__(self, batch: Any) -> Any:  # noqa: ANN401 - any form, and the same one back
        """Return a batch with its scores."""
        given = form_of(batch)
        found = batches.scores(self._tool, given, self._reading)
        kept = {} if self._limit is None else {KEPT: found <= self._limit}
        return given.with_columns({corpus.SCORE: found, **kept})

    @cached_property
    def _tool(self) -> Scorer:
        return Scorer.of(
            self._model, self._file, encoder=self._encoder, device=self._device, backend=self._backend,
            threads=self._threads or _granted(),
        )  # fmt: skip


class BatchEmbedder(_Worker):
    """Batches with the vectors of their texts, by the encoder of a model file or run folder, or by one that is named.

    A batch gets a column ``vector_field`` of d numbers in each row, float16 as a run keeps them; null, or NaN without
    nulls, for rows that cannot be used. Without a ``model`` the encoder is ``encoder``, its folder or name, or the
    default one, used as the settings ``pooling``, ``max_tokens`` and ``dtype`` say. For the rest see BatchScorer.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        text_field: str = "text",
        vector_field: str = VECTOR,
        encoder: str | os.PathLike[str] | None = None,
        device: str = "auto",
        threads: int = 0,
        **use: Any,  # noqa: ANN401 - see above
    ) -> None:
        foreign = next((name for name in use if model is not None or name not in _USE), None)
        if foreign is not None:
            why = "the model says how its encoder is used" if model is not None else f"known are {', '.join(_USE)}"
            msg = f"{foreign} is not for a BatchEmbedder: {why}"
            raise UsageError(msg)
        self._model, self._file = None if model is None else load(model), os.fspath(model or "")
        self._reading, self._vector_field = Reading(text_field), vector_field
        self._encoder, self._device, self._threads, self._use = encoder, device, threads, use

    def __call__(self, batch: Any) -> Any:  # noqa: ANN401 - as above
        """Return a batch with its vectors."""
        given = form_of(batch)
        return given.with_columns({self._vector_field: batches.vectors(self._tool, given, self._reading)})

    @cached_property
    def _tool(self) -> embed.Encoder:
        where: dict[str, Any] = {"device": self._device, "threads": self._threads or _granted()}
        if self._model is None:
            return embed.load(os.fspath(self._encoder or "default"), **where, **self._use)
        return load_encoder(self._model, self._file, encoder=self._encoder, **where)


def _granted() -> int:
    """Return the processors that a worker was given, 0 (all) where nobody has said it."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdecimal() else 0
