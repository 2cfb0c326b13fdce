"""The encoder on the sample: tokens of a document, seconds of a token, vectors to measure sweeps with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gapsel import embed
from gapsel.pipeline.inputs.losses import loss_options
from gapsel.pipeline.vectors.encoding import which
from gapsel.plan.machines import token_flop
from gapsel.plan.sample import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.config import Settings
    from gapsel.corpus.rows import Row
    from gapsel.embed import Encoder
    from gapsel.plan.calibrate import Stopwatch

# Documents whose tokens are counted, and those that are embedded, in portions until enough time has passed.
_COUNTED, _PORTION, _SECONDS = 1024, 96, 2.0
EMBEDDED, FEW = 512, 64
_TWO_SIDED = 1.96
# Characters of a token; layers, hidden and inner width of the default encoder.
_CHARACTERS, _MINI = 4.0, (6, 384, 1536)


@dataclass(frozen=True, slots=True)
class Encoding:
    """``tokens`` (s,) of some documents, cut as the settings say; their ``vectors`` (r, d); tokens a second."""

    tokens: NDArray[np.int32]
    vectors: NDArray[np.float32]
    rate: float
    token_flop: float
    model: str

    def mean_tokens(self, most: int = 0) -> Estimate:
        """Return the mean tokens of a document, cut at ``most`` if that is given."""
        tokens = np.minimum(self.tokens, most) if most else self.tokens
        mean, error = float(tokens.mean()), _TWO_SIDED * float(tokens.std()) / len(tokens) ** 0.5
        return Estimate(mean, mean - error, mean + error)


def guess(rows: Sequence[Row], most: int) -> Encoding:
    """Return what can be said without an encoder, of the default one: tokens by characters, no vectors, no pace."""
    tokens = np.array([min(len(row.text) / _CHARACTERS + 2, most) for row in rows], np.int32)
    return Encoding(tokens, np.empty((0, 0), np.float32), 0.0, token_flop(*_MINI, float(tokens.mean())), "not at hand")


def load(settings: Settings) -> Encoder:
    """Load the encoder as a run would."""
    return embed.load(**which(settings), device=settings.device, threads=settings.threads)


def load_losses(settings: Settings) -> Encoder:
    """Load the model that says losses as a run would."""
    return embed.load(**loss_options(settings), device=settings.device, threads=settings.threads)


def measure(
    encoder: Encoder, rows: Sequence[Row], watch: Stopwatch, threads: int, *, seed: int = 0, most: int = EMBEDDED
) -> Encoding:
    """Tokenize some of the rows, and embed ``most`` of them or as many as a few seconds allow.

    ``threads`` is what the processor's time is divided by; 0: the clock counts, since it is a GPU that works.
    """
    rng = np.random.default_rng(seed)
    texts = [rows[at].text for at in rng.permutation(len(rows))[:_COUNTED]]
    tokens = encoder.tokenize(texts).tokens
    encoder.encode(texts[:8])  # what is only done once
    vectors: list[NDArray[np.float32]] = []
    used = took = 0.0
    for start in range(0, min(len(texts), most), _PORTION):
        if took > _SECONDS:
            break
        portion = texts[start : start + _PORTION]
        timed = watch.once(partial(_embed, encoder, portion, vectors))
        took += timed.processor / threads if threads else timed.clock
        used += float(tokens[start : start + _PORTION].sum())
    return Encoding(tokens, np.concatenate(vectors), used / took, _flop(encoder, float(tokens.mean())), _name(encoder))


def _embed(encoder: Encoder, texts: list[str], vectors: list[NDArray[np.float32]]) -> None:
    vectors.append(encoder.encode(texts).vectors)


def _flop(encoder: Encoder, width: float) -> float:
    config = encoder.model.config
    hidden, layers = int(config.hidden_size), int(getattr(config, "num_hidden_layers", 12))
    passes = 2 if encoder.fingerprint.get("features") == "gradient" else 1
    return passes * token_flop(layers, hidden, int(getattr(config, "intermediate_size", None) or 4 * hidden), width)


def _name(encoder: Encoder) -> str:
    return str(encoder.fingerprint["model"])
