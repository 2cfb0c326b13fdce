"""What a plan does not know, in words: better than a figure that may be wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapsel.plan.looks import BALANCE_ROUNDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gapsel.config import Settings

# The simple methods whose looks are counted.
_COUNTED = ("random", "nearest", "roundrobin")


def unknown(s: Settings, *, gpus: int = 0) -> tuple[str, ...]:
    """Return what of a run with these settings the plan does not count, or only guesses."""
    return (*_of_target(s), *_of_rules(s), *_of_machines(s, gpus), *_of_studies(s))


def _of_target(s: Settings) -> Iterator[str]:
    if s.paths_per_task and s.balance == "gap":
        yield (
            f"balance: the weights of the tasks take 1 to 16 rounds on a shortlist, which only the data know; "
            f"{BALANCE_ROUNDS} are counted, at every mass"
        )


def _of_rules(s: Settings) -> Iterator[str]:
    if s.tokens is not None:
        yield "tokens: the documents that will be chosen may be longer or shorter than the mean, and so fewer or more"
    compared = [name for name in ("held_out", "max_jaccard", "max_cosine") if getattr(s, name)]
    if compared:
        yield f"{', '.join(compared)}: the time to compare documents is not counted, but for reading them"
    if s.threshold is not None:
        yield "threshold: how many documents have such a score is not known before the fit; k is counted in full"


def _of_machines(s: Settings, gpus: int) -> Iterator[str]:
    if not s.on_cluster or gpus:
        return
    if s.backend == "gpu":
        yield "ray: the cluster's GPUs are not asked: say how many (--gpus N --nodes N) for times by stated figures"
    else:
        yield "ray: the cluster is not asked; the times are those of this machine by itself"


def _of_studies(s: Settings) -> Iterator[str]:
    if s.studies:
        yield f"{', '.join(s.studies)}: not counted in the time"
    more = [name for name in s.methods if name not in _COUNTED]
    if more:
        yield f"methods: the time of {', '.join(more)} is not counted in the report"
