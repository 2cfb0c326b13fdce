"""What one run found: the report draws it, the demo prints it, findings.json keeps it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from gapsel.findings.distances import Certificate, Distances, Interval  # noqa: TC001 - made_of reads the types
from gapsel.findings.rules import RulesDid  # noqa: TC001 - made_of reads the types


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

    ``chosen`` is the share of the chosen whose nearest example is of this task. ``closed`` is the share of what it
    could close by itself, with all k documents, that the choice closes of its distance; None where the weights were
    not found by that.
    """

    name: str
    examples: int
    weight: float
    chosen: float
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
    are to be avoided: of the pool, or base, and of the mixture, at mass 0 of the chosen alone. ``rules`` is what the
    choice kept to beside its number of documents.
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
    rules: RulesDid
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
