"""What an evaluation trains on and judges by: selections, target, held-out part, as texts and as a model's tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from gapsel import corpus, evaluation
from gapsel.pipeline.studies.compare import texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gapsel.config import Settings
    from gapsel.pipeline.studies.choices import Choice

# Documents are taken to have so many tokens at least: more of a selection than the warm-up can use is not read.
_FEWEST_TOKENS = 8


@dataclass(frozen=True)
class Texts:
    """The texts of a run; of the ``chosen`` of each seed those that are trained on."""

    settings: Settings
    chosen: Mapping[int, Sequence[Choice]]

    @cached_property
    def held_out(self) -> list[str]:
        """The held-out examples of the task."""
        s = self.settings
        batches = corpus.read(s.test, text_field=s.text_field, id_field=s.id_field)
        return [text for batch in batches for text in batch.texts]

    @cached_property
    def target(self) -> list[str]:
        """The examples that the choice was made by."""
        return list(texts(self.settings, "target"))

    @cached_property
    def selected(self) -> dict[int, str]:
        """The text of every row that some training reads."""
        rows = {row for seed, found in self.chosen.items() for one in found for row in self.rows(one, seed)}
        return {row: text for row, text in enumerate(texts(self.settings, "pool")) if row in rows}

    def rows(self, choice: Choice, seed: int) -> list[int]:
        """Return the rows of a choice that are trained on: all, or as many random ones as the warm-up can use."""
        most = max(1, self.settings.warm_tokens // _FEWEST_TOKENS)
        if len(choice.rows) <= most:
            return [int(row) for row in choice.rows]
        return [int(row) for row in np.random.default_rng(seed).permutation(choice.rows)[:most]]


@dataclass(frozen=True)
class Tokens:
    """The same as a model's tokens."""

    texts: Texts
    lm: evaluation.Lm
    context: int

    @cached_property
    def held_out(self) -> evaluation.HeldOut:
        """The held-out examples as blocks."""
        return self.lm.held_out(self.texts.held_out, self.context)

    @cached_property
    def target(self) -> list[NDArray[np.int32]]:
        """The target's documents."""
        return self.lm.tokens(self.texts.target)

    @cached_property
    def selected(self) -> dict[int, NDArray[np.int32]]:
        """The documents of every row that some training reads."""
        found = self.texts.selected
        return dict(zip(found, self.lm.tokens(list(found.values())), strict=True))
