"""Whether models trained on the choice are better for it: against random, against every other choice, without any.

Differences are taken seed by seed, and what their interval does not tell apart is not told apart here. A choice that
beats gapsel's is named first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gapsel.findings import own_name
from gapsel.report.axes import Axis, Tick, round_top
from gapsel.report.numbers import MINUS, excerpt, integer, known, names, number
from gapsel.report.verdicts import Line
from gapsel.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gapsel.findings import Evaluation, LossMean, MethodLoss

_NAME = 60
_MOST = 6  # names in a list
_PLAIN = 1e6  # losses below this are written out


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One method: its difference from random's loss as places across, None where that is not known."""

    method: MethodLoss
    places: tuple[float, float, float] | None
    ours: bool
    reference: bool


@dataclass(frozen=True, slots=True)
class TrialsSection:
    """All that the page says of an evaluation; ``zero_at`` is the place of random's loss."""

    about: str
    verdicts: tuple[str, ...]
    seen: str | None
    rows: tuple[TrialRow, ...]
    across: tuple[Tick, ...]
    zero_at: float
    has_precision: bool
    seeds: int


def section(found: Evaluation | None) -> TrialsSection | None:
    """Return what the page says, None where nothing was evaluated."""
    ours = _ours(found)
    if found is None or ours is None:
        return None
    rows, across = _rows(found)
    return TrialsSection(
        _about(found),
        tuple(filter(None, (_against_random(ours, found), _beside_others(found), _without(found)))),
        _seen(found),
        rows,
        tuple(Tick(across.at(value), _signed(value, "g")) for value in (across.low, 0.0, across.high)),
        across.at(0.0),
        any(one.precision is not None for one in found.methods),
        len(found.seeds),
    )


def line(found: Evaluation | None) -> Line | None:
    """Return the evaluation as one line of the answer, None where nothing was evaluated."""
    ours = _ours(found)
    if found is None or ours is None or ours.rank is None:
        return None
    ranked = sum(one.rank is not None for one in found.methods)
    others = _beside_others(found)
    return Line(f"rank {ours.rank} of {ranked}", f"{_against_random(ours, found)} {others or ''}".rstrip())


def _ours(found: Evaluation | None) -> MethodLoss | None:
    if found is None:
        return None
    return next((one for one in found.methods if one.name == own_name(found.mass)), None)


def _about(found: Evaluation) -> str:
    """Say what was trained, on what, and by what it is judged."""
    recipe, held = found.recipe, found.held_out
    return (
        f"The judge is a language model of {counted(found.lm.parameters, 'parameter')}: {excerpt(found.lm.model)}. It "
        f"was trained on {counted(recipe.warm_tokens, 'token')} of each choice, then fine-tuned on "
        f"{counted(recipe.tune_tokens, 'token')} of the target, {_times(len(found.seeds))}; what counts is its loss on "
        f"{counted(held.documents, 'held-out text')}, {_loss(found.lm.loss)} nats per token before any of it."
    )


def _times(seeds: int) -> str:
    return "by one seed" if seeds == 1 else f"by each of {integer(seeds)} seeds"


def _against_random(ours: MethodLoss, found: Evaluation) -> str:
    """Say whether the choice was worth making at all."""
    if ours.against is None or not known(ours.against.mean):
        return "The choice was not measured against random documents."
    figures = _figures(ours.against, len(found.seeds))
    if ours.verdict == "better":
        return f"A model trained on gapsel's choice is better than one trained on random documents: {figures}."
    if ours.verdict == "worse":
        return f"A model trained on gapsel's choice is worse than one trained on random documents: {figures}."
    return f"A model trained on gapsel's choice is not told apart from one trained on random documents: {figures}."


def _beside_others(found: Evaluation) -> str | None:
    """Say which choices beat gapsel's, which it beats, and which are not told apart from it."""
    others = [one for one in found.methods if one.rank is not None and one.beside is not None]
    if not others:
        return None
    parts = [
        _group(others, "better", "better"),
        _group(others, "not told apart", "not told apart"),
        _group(others, "worse", "worse"),
    ]
    listed = "; ".join(filter(None, parts))
    return f"Beside gapsel's choice, seed by seed and in nats per token: {listed}."


def _group(others: list[MethodLoss], verdict: str, words: str) -> str:
    found = [one for one in others if one.beside_verdict == verdict]
    if not found:
        return "" if verdict != "better" else "no other choice is better"
    named = names([_with_figure(one) for one in found], _MOST)
    return f"{named} {'is' if len(found) == 1 else 'are'} {words}"


def _with_figure(one: MethodLoss) -> str:
    by = "" if one.beside is None else f" ({_signed(one.beside.mean)})"
    return f"{excerpt(one.name, _NAME)}{by}"


def _without(found: Evaluation) -> str | None:
    """Say what fine-tuning alone does, without any warm-up."""
    bare = next((one for one in found.methods if one.rank is None and one.beside is not None), None)
    if bare is None or bare.beside is None:
        return None
    figures = _figures(bare.beside, len(found.seeds))
    if bare.beside_verdict == "worse":
        return f"Without any warm-up the model is worse than with gapsel's choice: {figures}."
    if bare.beside_verdict == "better":
        return f"Without any warm-up the model is better than with gapsel's choice: {figures}."
    return f"Without any warm-up the model is not told apart from that with gapsel's choice: {figures}."


def _figures(one: LossMean, seeds: int) -> str:
    """Return a difference of losses in words, with its interval."""
    way = "lower" if one.mean < 0 else "higher"
    said = f"its loss is {_loss(abs(one.mean))} {way}"
    if not (known(one.lower) and known(one.upper)):
        return f"{said}, of one seed, which tells no interval"
    return f"{said} (95 % interval {_signed(one.lower)} to {_signed(one.upper)}, {counted(seeds, 'seed')})"


def _seen(found: Evaluation) -> str | None:
    """Say where the judge is partial."""
    chosen = max((one.held_out_chosen for one in found.methods), default=0)
    if not (found.held_out.in_target or chosen):
        return None
    return (
        f"The judge is partial: of the {counted(found.held_out.documents, 'held-out text')}, "
        f"{integer(found.held_out.in_target)} are in the target too, and up to {integer(chosen)} were in a selection."
    )


def _rows(found: Evaluation) -> tuple[tuple[TrialRow, ...], Axis]:
    """Return the methods, the best first and what is no choice last, on one axis around random's loss."""
    ends = [abs(end) for one in found.methods for end in _ends(one.against)]
    reach = round_top(max(ends, default=0.0))
    across = Axis(-reach, reach, 0.0, 100.0)
    order = sorted(found.methods, key=lambda one: (one.rank is None, one.rank or 0))
    rows = (
        TrialRow(one, _places(one, across), one.name == own_name(found.mass), one.rank is not None and not one.against)
        for one in order
    )
    return tuple(rows), across


def _ends(one: LossMean | None) -> Iterable[float]:
    return () if one is None else (end for end in (one.mean, one.lower, one.upper) if known(end))


def _places(one: MethodLoss, across: Axis) -> tuple[float, float, float] | None:
    if one.against is None or not known(one.against.mean):
        return None
    mean = one.against.mean
    low, high = (end if known(end) else mean for end in (one.against.lower, one.against.upper))
    return across.at(low), across.at(mean), across.at(high)


def mean_loss(one: LossMean) -> str:
    """Return a mean with half of its interval, which one seed alone has not."""
    if not known(one.upper) or not known(one.mean):
        return _loss(one.mean)
    return f"{_loss(one.mean)} ± {_loss(one.upper - one.mean)}"


def difference(one: MethodLoss) -> str:
    """Return a method's difference from random with its sign and what is to be thought of it, nothing for random."""
    return f"{_signed(one.against.mean)}, {one.verdict}" if one.against else ""


def _loss(value: float, digits: str = ".3f") -> str:
    return f"{value:{digits}}" if known(value) and abs(value) < _PLAIN else number(value)


def _signed(value: float, digits: str = ".3f") -> str:
    if not known(value):
        return number(value)
    return f"{'+' if value > 0 else MINUS if value < 0 else ''}{_loss(abs(value), digits)}"
