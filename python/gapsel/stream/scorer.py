"""Texts or vectors to scores, by a model: the same numbers that a run gives the same documents.

A run keeps its vectors in float16, and so are those made here before they are scored. The same file in parts of the
same size has the run's scores bit for bit. What a text is padded with changes the last bits of its vector, so that with
other texts around it its score may differ: on the demo, with the default encoder in bfloat16, by up to 1.2 % of the
scores' standard deviation. Vectors that are ready have the same scores everywhere.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gapsel import backends
from gapsel.errors import DataError
from gapsel.stream.embedder import load_encoder

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.corpus import Part
    from gapsel.embed import Encoder
    from gapsel.model import Model


class Scorer:
    """A model at work. The encoder is loaded with the first texts, and for vectors never."""

    def __init__(self, model: Model, backend: Backend, load_encoder: Callable[[], Encoder]) -> None:
        self.model = model
        self._backend = backend
        self._load_encoder = load_encoder
        self._encoder: Encoder | None = None

    @classmethod
    def of(
        cls,
        model: Model,
        file: str | os.PathLike[str],
        *,
        encoder: str | os.PathLike[str] | None = None,
        device: str = "auto",
        backend: str = "auto",
        threads: int = 0,
    ) -> Scorer:
        """Put a model that was read from ``file`` to work; see `load_encoder` and `backends.choose`."""
        load = partial(load_encoder, model, file, encoder=encoder, device=device, threads=threads)
        return cls(model, backends.choose(backend, threads), load)

    @property
    def d(self) -> int:
        """How many numbers a vector has."""
        return int(self.model.potentials.target.y.shape[1])

    @property
    def needs_direction(self) -> bool:
        """Whether a vector of zeros has no score."""
        cost = self.model.potentials.cost
        return cost.normalize or cost.kind == "cosine"

    def part(self, part: Part) -> NDArray[np.float64]:
        """Return the scores (r,) of the documents of a part."""
        return self.texts(part.texts or ()) if part.vectors is None else self.vectors(part.vectors)

    def texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the scores (n,) of texts. Raises the errors of Encoder.encode, and those of loading the encoder."""
        if not len(texts):
            return np.zeros(0)
        if self._encoder is None:
            self._encoder = self._load_encoder()
        return self.vectors(self._encoder.encode(texts).vectors.astype(np.float16))

    def vectors(self, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the scores (n,) of vectors (n, d), float16 or float32. Raises DataError for another d."""
        self.check_width(vectors.shape[1])
        if not len(vectors):
            return np.zeros(0)
        return self.model.score(self.model.f([np.ascontiguousarray(vectors)], self._backend))

    def check_width(self, d: int, source: str = "") -> None:
        """Raise DataError, naming their source, unless vectors of d numbers are as wide as the model's."""
        if d != self.d:
            msg = (
                f"{source and f'{source}: '}the vectors have {d} dimensions, the model {self.d}: give vectors of the "
                "encoder that it was fitted with"
            )
            raise DataError(msg)
