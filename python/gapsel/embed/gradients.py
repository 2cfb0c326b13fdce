"""Gradients as features: what a model would learn from a document, on few dimensions.

    x = P concat over layers of [ (v + tiny)^(-1/4) * dloss/dB ]

``lora`` has the gradients, ``moments`` v, ``projection`` P. Layer after layer is projected as the backward pass comes
by, and no more than one layer's gradients are in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapsel.embed.lora import RANK, lora_gradients, lora_layers
from gapsel.embed.moments import Moments
from gapsel.embed.projection import Fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from gapsel.embed.encoder import Encoder, Padded
    from gapsel.embed.language import Language


class Gradients:
    """The projected gradients of a language model's documents; see Features. Without moments they are those of SGD."""

    def __init__(self, language: Language, d: int, moments: Moments | None = None) -> None:
        self.language, self.d, self.layers = language, d, lora_layers(language.network)
        self._folds = [
            Fold(
                layer.outputs * RANK, d, at,
                np.ones(layer.outputs * RANK, np.float32) if moments is None else moments.scale(layer.name),
                language.network.device,
            )
            for at, layer in enumerate(self.layers)
        ]  # fmt: skip

    def __call__(self, batch: Padded) -> torch.Tensor:
        """See Features."""
        import torch

        out = torch.zeros(len(batch.ids), self.d, dtype=self.layers[0].down.dtype, device=self.language.network.device)

        def seen(at: int, gradients: torch.Tensor) -> None:
            out.add_(self._folds[at](gradients.flatten(1)))

        lora_gradients(self.language, self.layers, batch, seen)
        return out

    def squares(self, batch: Padded, sums: list[torch.Tensor]) -> None:
        """Add the squared gradients of a batch's documents to ``sums``, (outputs, RANK) float64 for every layer."""

        def seen(at: int, gradients: torch.Tensor) -> None:
            sums[at] += gradients.double().square().sum(dim=0)

        lora_gradients(self.language, self.layers, batch, seen)


def second_moments(encoder: Encoder, gradients: Gradients, texts: Sequence[str]) -> Moments:
    """Return the second moments of the gradients of texts."""
    import torch

    sums = [
        torch.zeros(layer.outputs, RANK, dtype=torch.float64, device=layer.down.device) for layer in gradients.layers
    ]
    for _, batch in encoder.batches(encoder.tokenize(texts)):
        gradients.squares(batch, sums)
    means = [(total / len(texts)).float().cpu().numpy() for total in sums]
    v = {layer.name: mean for layer, mean in zip(gradients.layers, means, strict=True)}
    return Moments(v, len(texts), str(encoder.fingerprint["hash"]))
