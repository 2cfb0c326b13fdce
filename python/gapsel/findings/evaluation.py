"""Does the selection help? What `gapsel evaluate` found, of what evaluation.json keeps."""

from __future__ import annotations

from dataclasses import dataclass


def own_name(mass: float) -> str:
    """Return what gapsel's choice at a mass is called."""
    return f"gapsel, mass {mass:g}"


@dataclass(frozen=True, slots=True)
class LossMean:
    """A mean over seeds with the ends of its 95 % interval, nan where there is one seed alone; nats per token."""

    mean: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class MethodLoss:
    """What came of training on one method's choice: held-out loss after the warm-up and after the fine-tuning.

    ``against`` is the difference of the latter from random's, ``beside`` from that of the run's own choice, both seed
    by seed, with a verdict each: "better", "worse" or "not told apart". ``rank`` 1 is the lowest mean, None for what is
    no choice. ``precision`` is the share of chosen documents whose label is one of the target's.
    """

    name: str
    rank: int | None
    warmed: LossMean
    tuned: LossMean
    against: LossMean | None
    verdict: str | None
    beside: LossMean | None
    beside_verdict: str | None
    precision: float | None = None
    held_out_chosen: int = 0


@dataclass(frozen=True, slots=True)
class Judge:
    """The language model that was trained; ``loss`` is that of the held-out texts before any of it."""

    model: str
    parameters: int
    loss: float


@dataclass(frozen=True, slots=True)
class HeldOutTexts:
    """The texts that the model was judged by; so many of them are ``in_target`` too."""

    documents: int
    tokens: int
    bytes: int
    in_target: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """Tokens of the warm-up on a selection, and of the fine-tuning on the target."""

    warm_tokens: int
    tune_tokens: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Every method's choice of ``k`` documents, the run's own at ``mass``, judged by a model that was trained on it."""

    k: int
    mass: float
    seeds: tuple[int, ...]
    recipe: Recipe
    lm: Judge
    held_out: HeldOutTexts
    methods: tuple[MethodLoss, ...]
