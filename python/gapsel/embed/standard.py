"""Hidden states on one footing: in every dimension less the pool's mean, over its standard deviation.

    x' = (x - mean) / sqrt(v + tiny)         x: pooled states, of unit norm; v: their variance over a sample of the pool

A few dimensions of a language model's states carry most of their variance, and distances are then about those. tiny is
a share of the mean v, so that a dimension in which nothing differs stays out. What came of it: docs/features.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.embed.moments import Moments

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from gapsel.embed.encoder import Encoder, Padded
    from gapsel.embed.pooling import Pooled

_TINY = 1e-4
# Unit vectors of less variance than this, all dimensions together, are of one document over and over.
_NONE = 1e-6


@dataclass(frozen=True, slots=True)
class Standard:
    """Pooled hidden states of unit norm, less a ``mean`` (d,), times a ``scale`` (d,)."""

    pooled: Pooled
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    def __call__(self, batch: Padded) -> torch.Tensor:
        """See Features."""
        import torch

        x = torch.nn.functional.normalize(self.pooled(batch), dim=1)
        mean, scale = (torch.from_numpy(one).to(x.device) for one in (self.mean, self.scale))
        return (x - mean) * scale


def spread(encoder: Encoder, texts: Sequence[str]) -> Moments:
    """Return mean and variance of the unit vectors of texts, dimension by dimension."""
    x = encoder.encode(texts).vectors.astype(np.float64)
    found = {"mean": x.mean(axis=0), "variance": x.var(axis=0)}
    v = {name: one.astype(np.float32) for name, one in found.items()}
    return Moments(v, len(texts), str(encoder.fingerprint["hash"]))


def standard(pooled: Pooled, moments: Moments) -> Standard:
    """Return the features on one footing; as they are where the sample was of one document over and over."""
    mean, v = moments.v["mean"], moments.v["variance"].astype(np.float64)
    if v.sum() < _NONE:
        return Standard(pooled, np.zeros_like(mean), np.ones_like(mean))
    return Standard(pooled, mean, (1 / np.sqrt(v + _TINY * v.mean())).astype(np.float32))
