"""The trials of several methods, judged: the mean loss of each, its rank, and its difference from random's.

The trials of one seed share the order of the fine-tuning, so methods are compared seed by seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gapsel.evaluation.intervals import Mean, Verdict, mean_of, verdict_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gapsel.evaluation.trial import Trial


@dataclass(frozen=True, slots=True)
class Judged:
    """What the trials of a method show: losses in nats per token after the warm-up and after the fine-tuning.

    ``against`` is the paired difference of the latter from the reference's, below 0 where this method is better; the
    reference has none, nor a ``verdict``. ``beside`` and ``beside_verdict`` are that from gapsel's own choice.
    ``rank`` is by the mean after the fine-tuning, 1 being the lowest.
    """

    name: str
    rank: int | None
    warmed: Mean
    tuned: Mean
    against: Mean | None
    verdict: Verdict | None
    beside: Mean | None
    beside_verdict: Verdict | None


def judge(trials: Mapping[str, Sequence[Trial]], reference: str, unranked: str, own: str) -> list[Judged]:
    """Judge methods by their trials, one for each seed in the same order; ``unranked`` takes part in no ranking."""
    tuned = {name: mean_of([one.tuned for one in many]) for name, many in trials.items()}
    order = sorted((name for name in trials if name != unranked), key=lambda name: tuned[name].mean)
    found = []
    for name, many in trials.items():
        against, beside = (None if name == other else _difference(many, trials[other]) for other in (reference, own))
        found.append(
            Judged(
                name=name,
                rank=order.index(name) + 1 if name in order else None,
                warmed=mean_of([one.warmed for one in many]),
                tuned=tuned[name],
                against=against,
                verdict=None if against is None else verdict_of(against),
                beside=beside,
                beside_verdict=None if beside is None else verdict_of(beside),
            )
        )
    return found


def _difference(trials: Sequence[Trial], others: Sequence[Trial]) -> Mean:
    return mean_of([one.tuned - other.tuned for one, other in zip(trials, others, strict=True)])
