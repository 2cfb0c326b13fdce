"""How much of each domain: what `gapsel mix` found, which mixture.json keeps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from gapsel.findings.distances import Certificate, Interval  # noqa: TC001 - made_of reads the types


@dataclass(frozen=True, slots=True)
class DomainShare:
    """One domain in a mixture: its rows, its ``natural`` share of the pool, the ``weight`` found for it.

    ``slope`` is how fast the distance changes as weight goes to it from the mixture: about 0 where it takes part, above
    where less of it is better, below where more would be but it has no more rows. ``chosen`` are the documents chosen
    from it, None where none were to be chosen.
    """

    domain: str
    rows: int
    natural: float
    weight: float
    slope: float
    chosen: int | None = None


@dataclass(frozen=True, slots=True)
class MixedTask:
    """One task of several in a mixture: its examples, its weight in the target, the share that it closes.

    ``closed`` is of what it could close of its distance if the mixture were made for it alone, None where the weights
    were not found by that, or where no mixture closes anything.
    """

    name: str
    examples: int
    weight: float
    closed: float | None


@dataclass(frozen=True, slots=True)
class Mixture:
    """How much of each domain: the weights of the mixture that is nearest to the target, and what is known of it.

    ``field`` holds the domains, None for clusters; the heaviest come first. ``natural`` is the distance to the target
    of the pool as it is, ``even`` that of the same weight for every domain, ``mixture`` that of the weights found and
    ``chosen`` that of ``k`` documents chosen by them, alone, in ``file`` of the run folder. ``certificate`` bounds what
    any other weights could gain; ``converged`` says that this is little. ``tasks`` are those of several, ``level``
    whether each closes as much as the others, None where that was not asked for; ``ignored`` are the ids, or where
    there are none the rows, of the examples that are ignored.
    """

    field: str | None
    domains: tuple[DomainShare, ...]
    natural: Interval
    even: Interval
    mixture: Interval
    chosen: Interval | None
    certificate: Certificate
    eps: float
    marginal_error: float
    converged: bool
    full_sweeps: int
    k: int | None = None
    file: str | None = None
    tasks: tuple[MixedTask, ...] = ()
    level: bool | None = None
    ignored: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return dataclasses.asdict(self)
