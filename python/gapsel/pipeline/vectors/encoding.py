"""Who says the vectors of documents: this process, or the workers of a cluster with the same encoder, or a file.

The unit of work is a whole batch of documents either way: what a document is padded with can change its last bit, and
so neither a stop in between nor who embeds which batch changes one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gapsel import embed
from gapsel.errors import DataError
from gapsel.pipeline.vectors.ahead import ahead
from gapsel.pipeline.vectors.given import Stream, check_block, dtype_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import DTypeLike

    from gapsel import corpus, store
    from gapsel.config import Settings

# The share of a GPU that a worker takes, unless said: one tokenizes while the other's batches are at work.
_GPU_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Piece:
    """A batch of documents, from row ``first`` of its side on."""

    batch: corpus.Batch
    first: int

    @property
    def stop(self) -> int:
        """The row after its last."""
        return self.first + len(self.batch.ids)


class Embedder(Protocol):
    """Whoever says the vectors of documents."""

    @property
    def dim(self) -> int:
        """Dimensions."""
        ...

    @property
    def fingerprint(self) -> Mapping[str, object]:
        """What makes the vectors, in JSON's types."""
        ...

    @property
    def stored_dtype(self) -> DTypeLike:
        """The type that holds the vectors on disk."""
        ...

    def encoded(self, pieces: Iterator[Piece], advance: Callable[[int], None]) -> Iterator[tuple[Piece, embed.Encoded]]:
        """Yield the pieces in order with their vectors; ``advance`` is told how many documents are done."""
        ...

    def close(self) -> None:
        """Let go of what other work on the same machines may want."""
        ...


class Here:
    """This process; texts are read and tokenized one batch ahead of the model."""

    def __init__(self, encoder: embed.Encoder) -> None:
        self._encoder, self.stored_dtype = encoder, _stored(encoder)
        self.dim, self.fingerprint = encoder.dim, encoder.fingerprint

    def encoded(self, pieces: Iterator[Piece], advance: Callable[[int], None]) -> Iterator[tuple[Piece, embed.Encoded]]:
        """See Embedder."""
        for piece, tokens in ahead((piece, self._encoder.tokenize(piece.batch.texts)) for piece in pieces):
            yield piece, self._encoder.forward(tokens, advance)

    def close(self) -> None:
        """See Embedder."""


class There:
    """The workers of the Ray cluster, on its GPUs if it has any; they load what ``encoder`` is by the same ``options``.

    ``moments`` are what its features are scaled by, if they are.
    """

    def __init__(
        self,
        encoder: embed.Encoder,
        options: Mapping[str, Any],
        settings: Settings,
        moments: embed.Moments | None = None,
    ) -> None:
        from gapsel.backends.ray import cluster
        from gapsel.backends.ray.crew import Crew

        cluster.join()
        self.dim, self.fingerprint, self.stored_dtype = encoder.dim, encoder.fingerprint, _stored(encoder)
        gpus = (settings.gpu_share or _GPU_SHARE) if settings.device != "cpu" and cluster.has_gpus() else 0.0
        there = {**options, "device": "cuda" if gpus else "cpu", "dtype": encoder.fingerprint["dtype"]}
        make = partial(worker, there, moments, str(encoder.fingerprint["hash"]))
        self._crew: Crew[list[str], embed.Encoded] = Crew(make, settings.threads, gpus)

    def encoded(self, pieces: Iterator[Piece], advance: Callable[[int], None]) -> Iterator[tuple[Piece, embed.Encoded]]:
        """See Embedder."""
        sent: deque[Piece] = deque()

        def items() -> Iterator[Callable[[], list[str]]]:
            for piece in pieces:
                sent.append(piece)
                yield partial(list, piece.batch.texts)

        for encoded in self._crew.map(items()):
            piece = sent.popleft()
            advance(len(piece.batch.ids))
            yield piece, encoded

    def close(self) -> None:
        """See Embedder."""
        self._crew.dismiss()


class Given:
    """Ready-made vectors, row for row beside the documents of ``side``. Raises DataError for those of no use."""

    def __init__(self, files: Sequence[store.Given], side: str, *, normalize: bool) -> None:
        self._files, self._side, self._normalize = files, side, normalize
        self.dim, self.fingerprint, self.stored_dtype = files[0].d, {"vectors": "ready-made"}, dtype_of(files)

    def encoded(self, pieces: Iterator[Piece], advance: Callable[[int], None]) -> Iterator[tuple[Piece, embed.Encoded]]:
        """See Embedder."""
        stream = None
        for piece in ahead(pieces):
            stream = stream or Stream(self._files, piece.first)
            count = len(piece.batch.ids)
            vectors = stream.take(count)
            check_block(vectors, self.stored_dtype, self._side, piece.first, normalize=self._normalize)
            advance(count)
            yield piece, embed.Encoded(vectors, np.zeros(count, np.int32))

    def close(self) -> None:
        """See Embedder."""


def _stored(encoder: embed.Encoder) -> DTypeLike:
    """Return the type that holds what an encoder says: unit vectors lose nothing in float16 that matters."""
    return np.float16 if encoder.unit else np.float32


def which(settings: Settings) -> dict[str, Any]:
    """Return what decides the encoder, as `embed.load` takes it; where it runs is said beside it."""
    names = ("model", "features", "gradient_dims", "pooling", "max_tokens", "dtype")
    return {name: getattr(settings, name) for name in names}


def worker(
    options: dict[str, Any], moments: embed.Moments | None, identity: str, threads: int
) -> Callable[[list[str]], embed.Encoded]:
    """Return what a worker does with texts. Raises DataError where its model is another one than the caller's."""
    encoder = embed.load(threads=threads, **options)
    if moments is not None:
        encoder = embed.scaled(encoder, moments)
    if encoder.fingerprint["hash"] != identity:
        msg = f"{options['model']}: holds other files on a machine of the cluster than on this one: copy the same there"
        raise DataError(msg)
    return encoder.encode
