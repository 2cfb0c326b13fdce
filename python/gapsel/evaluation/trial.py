"""One method, one seed: a model is warmed up on the method's selection, then fine-tuned on the target.

Its loss on held-out texts of the target is taken after each of the two. The seed gives the order of the documents, and
what dropout drops where the model has any. The model itself is left as it was.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel.evaluation.blocks import batches
from gapsel.evaluation.training import train

if TYPE_CHECKING:
    from gapsel.evaluation.blocks import Documents
    from gapsel.evaluation.lm import HeldOut, Lm

# Models of more parameters are trained at a lower rate: 1e-3 at a million, 1e-4 at a hundred million.
_RATE, _PARAMETERS = 1e-3, 1e6


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained: tokens of a context, contexts of a step, tokens of each part, and the highest rate."""

    context: int
    warm_tokens: int
    tune_tokens: int
    rate: float | None = None
    rows: int = 8

    def steps(self, tokens: int) -> int:
        """Return how many steps so many tokens take."""
        return max(1, round(tokens / (self.rows * self.context)))

    def rate_for(self, parameters: int) -> float:
        """Return the highest learning rate: what is said, or by the size of the model."""
        return self.rate or _RATE * (_PARAMETERS / parameters) ** 0.5


@dataclass(frozen=True, slots=True)
class Trial:
    """Loss of held-out target texts, in nats per token, after the warm-up alone and after the fine-tuning."""

    warmed: float
    tuned: float


def trial(lm: Lm, selection: Documents | None, target: Documents, held: HeldOut, *, recipe: Recipe, seed: int) -> Trial:
    """Warm up on a selection, or on nothing, fine-tune on the target, and return the losses. Raises as `batches`."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        changed = replace(lm, model=copy.deepcopy(lm.model))
        if selection is not None:
            _train(changed, selection, recipe.warm_tokens, recipe, [seed, 0])
        warmed = changed.loss(held)
        _train(changed, target, recipe.tune_tokens, recipe, [seed, 1])
        return Trial(warmed, changed.loss(held))


def _train(lm: Lm, documents: Documents, tokens: int, recipe: Recipe, seed: list[int]) -> None:
    """Train the model in place on so many tokens of the documents."""
    steps, shape = recipe.steps(tokens), (recipe.rows, recipe.context)
    given = batches(documents, lm.separator, shape, steps, np.random.default_rng(seed))
    train(lm.model, given, steps, recipe.rate_for(lm.parameters))
