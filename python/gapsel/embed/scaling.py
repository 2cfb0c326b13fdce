"""Features that are scaled by what a sample of the pool is like: gradients, and hidden states."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gapsel.embed import gradients
from gapsel.embed.gradients import Gradients
from gapsel.embed.identity import rehashed
from gapsel.embed.pooling import Pooled
from gapsel.embed.standard import spread, standard
from gapsel.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapsel.embed.encoder import Encoder, Features
    from gapsel.embed.moments import Moments

# What `--features` are scaled.
SCALED = ("hidden", "gradient")


def sample_moments(encoder: Encoder, texts: Sequence[str]) -> Moments:
    """Return what an encoder's features are scaled by, measured on texts: of gradient or hidden features."""
    features = _of(encoder)
    if isinstance(features, Gradients):
        return gradients.second_moments(encoder, features, texts)
    return spread(encoder, texts)


def scaled(encoder: Encoder, moments: Moments) -> Encoder:
    """Return the encoder with its gradients divided as Adam would, or its hidden states on one footing.

    Raises DataError for another encoder's moments.
    """
    features = _of(encoder)
    if moments.made_for != encoder.fingerprint["hash"]:
        msg = (
            f"the moments were made with another model or other settings than {encoder.fingerprint['model']!r} now: "
            "put the old ones back, or embed again into a new folder"
        )
        raise DataError(msg)
    made: Features = (
        Gradients(features.language, features.d, moments)
        if isinstance(features, Gradients)
        else standard(features, moments)
    )
    return replace(encoder, features=made, fingerprint=rehashed(encoder.fingerprint, moments=moments.hash))


def _of(encoder: Encoder) -> Gradients | Pooled:
    kind, features = encoder.fingerprint.get("features"), encoder.features
    if kind not in SCALED or not isinstance(features, (Gradients, Pooled)):
        msg = "moments are of gradient or hidden features as they are loaded: load the encoder with those"
        raise TypeError(msg)
    return features
