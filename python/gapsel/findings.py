"""What one run found, as plain records: the report draws them, the demo prints them, findings.json keeps them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Interval:
    """The unregularised transport cost between two weighted sets lies between these two numbers."""

    lower: float
    upper: float

    @property
    def middle(self) -> float:
        """The middle of the interval, to compare by where intervals are narrow."""
        return 0.5 * (self.lower + self.upper)


@dataclass(frozen=True, slots=True)
class Distances:
    """What a selection does: the distance to the target of the pool, and of its mixture with the selection.

    At mass 0 the mixture is the pool, at mass 1 the selection alone.
    """

    before: Interval
    after: Interval


@dataclass(frozen=True, slots=True)
class Certificate:
    """How far, at most, the selection is from the best one of its size at its mass.

    ``before`` and ``after`` are the regularised distance to the target of the pool and of the mixture with the
    selection, looked at once more; ``gap`` bounds what any other choice of k could still gain; ``percent`` is the gap
    in per cent of the attainable gain, before - after + gap. ``rest``, which ``after`` and ``gap`` include, is what the
    mixture's distance may lie above the last look's dual value: the rise that Newton's step from there promises, to
    first order, which was 1.1 to 2.4 times the true one wherever that was measured.
    """

    before: float
    after: float
    gap: float
    percent: float
    rest: float


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a way of choosing is to one task of several: distances to it alone, and the rest, as in MethodResult."""

    mixture: Interval
    alone: Interval
    precision: float | None
    coverage: float


@dataclass(frozen=True, slots=True)
class MethodResult:
    """One way of choosing, under the rules of the run, measured like all the others.

    ``mixture`` is the distance to the target of (1 - mass) of the pool and mass of the chosen, which is what the choice
    minimises; ``alone`` that of the chosen by themselves. (At mass 0 the mixture is the pool, at mass 1 the chosen.)
    ``overlap`` is the share of the rows that gapsel chose too; ``precision`` the share of rows whose label is one of
    the target's labels, None without labels, and ``mix`` the share of each label that occurs; ``coverage`` the share of
    targets with a chosen row among their ten nearest of the pool; ``documents`` how many were chosen, ``tokens`` those
    of all rows, None where they were not counted; ``seconds`` what it took to choose, vectors given; ``tasks`` what it
    is to each task of several.
    """

    name: str
    mixture: Interval
    alone: Interval
    overlap: float
    precision: float | None
    coverage: float
    documents: int
    tokens: int | None
    seconds: float
    mix: dict[str, float]
    tasks: tuple[TaskResult, ...]


@dataclass(frozen=True, slots=True)
class TaskShare:
    """One task of several: its examples, its weight in the target, and the distance of the pool to it alone.

    ``closed`` is the share of what it could close by itself, with all k documents, that the choice closes of its
    distance; None where the weights were not found by that.
    """

    name: str
    examples: int
    weight: float
    closed: float | None
    pool_distance: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class MassPoint(MethodResult):
    """What would be chosen at one mass, as it would be mixed in; ``overlap`` is that with the run's own choice."""

    mass: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of choices by halves: the share of k on which two disjoint halves agree, and of the whole's that one keeps."""

    agree: float
    keeps: float


@dataclass(frozen=True, slots=True)
class ErrorBars:
    """How steady a choice of k rows is: what halves of the target, and of the pool, choose, over ``splits`` splits.

    ``inclusion`` (k,) says how often each of the chosen, best first, is chosen by half of the target. ``steady``:
    disjoint halves of the target agree on enough that the target is large enough for the k.
    """

    splits: int
    target: Agreement
    pool: Agreement
    steady: bool
    inclusion: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """One label (a source file or a domain): its share of the pool, of the chosen and, where known, of the target."""

    label: str
    pool: float
    chosen: float
    target: float | None


@dataclass(frozen=True, slots=True)
class Composition:
    """Where the documents come from, by one field ("source" or the label field), largest share of the chosen first."""

    field: str
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One document as the report shows it; rank 1 is the lowest score."""

    id: str
    source: str
    row: int
    rank: int
    score: float
    label: str | None
    text: str | None
    nearest_id: str
    nearest_text: str | None


@dataclass(frozen=True, slots=True)
class Ignored:
    """An example of the target that does not count, since nothing in the pool serves it; a text for the first few."""

    id: str
    source: str
    row: int
    text: str | None


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of the pool's scores between ``edges`` (one more than counts), and of the chosen among them."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    chosen: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One sweep of the solver, for the picture of its convergence."""

    name: str
    rows: int
    eps: float
    mass: float
    marginal_error: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything the report says. ``cut`` is the score of the last document chosen; costs are in units of the cost.

    Where ``fitted_rows`` is below n, the solver read that many random rows, and the whole pool's marginals miss the
    target's by about ``sampling_error``. ``tasks`` are those of a target of several, and
    ``ignored`` the examples of the target, in its order, that a robust fit lets go. Where there is
    a ``base``, what is said of the pool's distance is said of it. ``avoided`` are the distances to the examples that
    are to be avoided: of the pool, or base, and of the mixture, at mass 0 of the chosen alone.
    """

    version: str
    pool: tuple[str, ...]
    target: tuple[str, ...]
    base: tuple[str, ...]
    avoid: tuple[str, ...]
    embedder: str
    n: int
    m: int
    k: int
    rejected_rows: int
    mass: float
    cost: str
    eps: float
    eps_of_row_std: float
    eps_of_mean: float
    perplexity: float
    converged: bool
    marginal_error: float
    tolerance: float
    full_sweeps: int
    fitted_rows: int
    sampling_error: float
    pool_distance: Interval
    avoided: Distances | None
    tasks: tuple[TaskShare, ...]
    ignored: tuple[Ignored, ...]
    methods: tuple[MethodResult, ...]
    certificate: Certificate
    mass_path: tuple[MassPoint, ...]
    error_bars: ErrorBars | None
    histogram: Histogram
    cut: float
    compositions: tuple[Composition, ...]
    chosen: tuple[Example, ...]
    barely_rejected: tuple[Example, ...]
    steps: tuple[Step, ...]
    seconds: dict[str, float]
    peak_memory_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return dataclasses.asdict(self)


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
class Mixture:
    """How much of each domain: the weights of the mixture that is nearest to the target, and what is known of it.

    ``field`` holds the domains, None for clusters; the heaviest come first. ``natural`` is the distance to the target
    of the pool as it is, ``even`` that of the same weight for every domain, ``mixture`` that of the weights found and
    ``chosen`` that of ``k`` documents chosen by them, alone, in ``file`` of the run folder. ``certificate`` bounds what
    any other weights could gain; ``converged`` says that this is little.
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

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Mixture:
        """Make the record of what to_json returned. Raises KeyError or TypeError for anything else."""
        distances = {
            name: values[name] and Interval(**values[name]) for name in ("natural", "even", "mixture", "chosen")
        }
        domains = tuple(DomainShare(**one) for one in values["domains"])
        certificate = Certificate(**values["certificate"])
        return cls(**{**values, **distances, "domains": domains, "certificate": certificate})
