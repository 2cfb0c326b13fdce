"""What the report says: the choice beside random and nearest neighbours, and where the documents come from."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gapsel import __version__, baselines, corpus
from gapsel.calibration import scores
from gapsel.distance import distance
from gapsel.errors import UsageError
from gapsel.findings import Composition, Example, Findings, Histogram, MethodResult, Share, Step
from gapsel.pipeline.folder import peak_memory
from gapsel.pipeline.vectors import has_texts
from gapsel.potentials import gather
from gapsel.selection import Selection, nearest_targets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from gapsel.config import Settings
    from gapsel.findings import Certificate, Interval
    from gapsel.pipeline.work import Run
    from gapsel.potentials import Rows
    from gapsel.store import Store

_EXAMPLES = 8
_BINS = 60
_TEXT = 600


def gather_findings(run: Run, chosen: Selection, certificate: Certificate) -> Findings:
    """Measure every way of choosing k rows alike, and collect what the report shows."""
    check_labels(run.settings)
    p, record = run.model.potentials, run.folder.record
    labels = {side: _labels(run, side) for side in ("pool", "target")}
    pool_distance = _distance(run, run.rows)
    values = scores(run.f, run.rows.a, run.model.calibration.mean)
    embedder = run.model.embedder
    steps = record["steps"]
    return Findings(
        version=__version__,
        pool=tuple(map(_shown, run.settings.pool or run.settings.pool_vectors)),
        target=tuple(map(_shown, run.settings.target or run.settings.target_vectors)),
        embedder=str(embedder.get("model", "ready-made vectors")),
        n=run.pool.n,
        m=run.target_store.n,
        k=run.k,
        rejected_rows=sum(steps["embed"][side]["rejected"] for side in ("pool", "target")),
        mass=p.mass,
        cost=p.cost.kind + (" on unit vectors" if p.cost.normalize else ""),
        eps=p.eps,
        eps_of_row_std=p.eps / p.scale.row_std if p.scale.row_std else float("inf"),
        eps_of_mean=p.eps / p.scale.mean if p.scale.mean else float("inf"),
        perplexity=p.evidence.perplexity,
        converged=p.evidence.converged,
        marginal_error=p.evidence.marginal_error,
        tolerance=p.evidence.tolerance,
        full_sweeps=p.evidence.full_sweeps,
        fitted_rows=p.evidence.rows,
        sampling_error=p.evidence.sampling_error,
        pool_distance=pool_distance,
        methods=_compare(run, chosen.rows, labels, pool_distance),
        certificate=certificate,
        histogram=_histogram(values, chosen.rows),
        cut=float(chosen.scores[-1]),
        compositions=_compositions(run, chosen.rows, labels),
        chosen=_examples(run, chosen, labels["pool"], np.linspace(0, run.k - 1, min(_EXAMPLES, run.k)).astype(int)),
        barely_rejected=_barely_rejected(run, values, labels["pool"]),
        steps=tuple(Step(s.name, s.rows, s.eps, s.mass, s.marginal_error, s.seconds) for s in p.evidence.trace),
        seconds={name: steps[name]["seconds"] for name in ("embed", "fit", "score", "select")},
        peak_memory_bytes=peak_memory(),
    )


def _histogram(values: NDArray[np.float64], chosen: NDArray[np.int64]) -> Histogram:
    edges = np.histogram_bin_edges(values, _BINS)
    counts = (np.histogram(part, edges)[0] for part in (values, values[chosen]))
    return Histogram(tuple(edges.tolist()), *(tuple(part.tolist()) for part in counts))


def _compare(
    run: Run, chosen: NDArray[np.int64], labels: Mapping[str, _Labels], of_pool: Interval
) -> tuple[MethodResult, ...]:
    p = run.model.potentials
    problem = baselines.Problem(run.pool.shards, p.target, p.cost, run.k, run.settings.seed)
    ways = {one.name: one.choose(problem, run.backend) for one in baselines.USUAL}
    wanted = {label for label in labels["target"].names if label is not None}
    return tuple(
        MethodResult(
            name,
            *_distances(run, rows, of_pool),
            overlap=len(np.intersect1d(rows, chosen)) / run.k,
            precision=labels["pool"].among(rows, wanted) if wanted else None,
        )
        for name, rows in {**ways, "gapsel": chosen}.items()
    )


def _distances(run: Run, rows: NDArray[np.int64], of_pool: Interval) -> tuple[Interval, Interval]:
    """Return the distance of the mixture with these rows, and of the rows alone."""
    mass = run.model.potentials.mass
    alone = _distance(run, run.rows.only(rows))
    if mass in (0, 1):
        return (alone if mass else of_pool), alone
    return _distance(run, run.rows.mixed(rows, mass), len(rows)), alone


def _distance(run: Run, rows: Rows, heavy: int = 0) -> Interval:
    p = run.model.potentials
    return distance(run.backend, rows, p.target, p.cost, p.scale, heavy=heavy, seed=run.settings.seed)


def _compositions(run: Run, chosen: NDArray[np.int64], labels: Mapping[str, _Labels]) -> tuple[Composition, ...]:
    sources = Counter({_shown(source): rows for source, rows in run.pool.source_counts().items()})
    found = [_composition("source", sources, Counter(map(_shown, run.pool.sources(chosen))), None)]
    if labels["pool"]:
        of_target = labels["target"].count() if any(labels["target"].names) else None
        pool, of_chosen = labels["pool"].count(), labels["pool"].count(chosen)
        found.append(_composition(str(run.settings.label_field), pool, of_chosen, of_target))
    return tuple(found)


def _composition(field: str, pool: Counter[str], chosen: Counter[str], target: Counter[str] | None) -> Composition:
    shares = [
        Share(
            label,
            pool[label] / pool.total(),
            chosen[label] / chosen.total(),
            None if target is None else target[label] / target.total(),
        )
        for label in {*pool, *(target or ())}
    ]
    return Composition(field, tuple(sorted(shares, key=lambda share: (-share.chosen, -share.pool, share.label))))


def _name(label: str | None) -> str:
    return "(none)" if label is None else label


def check_labels(settings: Settings) -> None:
    """Raise, before the long work begins, where labels are asked for that are not there."""
    if settings.label_field is None:
        return
    if not has_texts(settings, "pool"):
        msg = (
            f"label_field is {settings.label_field!r}, and the pool has no texts to take labels from: give them beside "
            "the vectors (--pool), or leave the labels out"
        )
        raise UsageError(msg)
    found = corpus.labels(
        settings.pool, settings.label_field, text_field=settings.text_field, id_field=settings.id_field
    )
    # Reads as far as the first label, and raises at the end of a pool that has none.
    any(label is not None for _, _, part in found for label in part)


def _shown(path: str) -> str:
    """Return a path as people write it: from the working folder, if it lies below."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


@dataclass(frozen=True, slots=True)
class _Labels:
    """The labels of one side: ``codes`` (n,) int32 in the store's order, and the ``names`` they stand for.

    Without labels both are empty.
    """

    codes: NDArray[np.int32]
    names: tuple[str | None, ...] = ()

    def __bool__(self) -> bool:
        return bool(len(self.codes))

    def of(self, row: int) -> str | None:
        """Return the label of one row, None where there is none."""
        return self.names[self.codes[row]] if self else None

    def among(self, rows: NDArray[np.int64], wanted: set[str]) -> float:
        """Return the share of some rows whose label is wanted."""
        codes = [code for code, name in enumerate(self.names) if name in wanted]
        return float(np.isin(self.codes[rows], codes).mean())

    def count(self, rows: NDArray[np.int64] | None = None) -> Counter[str]:
        """Return how often each label occurs, in all rows or in some."""
        counts = np.bincount(self.codes if rows is None else self.codes[rows], minlength=len(self.names))
        return Counter({_name(name): int(count) for name, count in zip(self.names, counts, strict=True) if count})


def _labels(run: Run, side: str) -> _Labels:
    """Read the labels of a side; empty where there are none to be had."""
    none, settings = _Labels(np.zeros(0, np.int32)), run.settings
    if settings.label_field is None or not has_texts(settings, side):
        return none
    paths: Sequence[str] = getattr(settings, side)
    found = corpus.labels(paths, settings.label_field, text_field=settings.text_field, id_field=settings.id_field)
    code_of, codes = dict[str | None, int](), array("i")
    try:
        for _, _, part in found:
            codes.extend(code_of.setdefault(label, len(code_of)) for label in part)
    except corpus.MissingLabelError:
        # The target's examples need no labels; those of the pool do, since the user asked for them.
        if side == "pool":
            raise
        return none
    return _Labels(np.frombuffer(codes, np.int32), tuple(code_of))


def _examples(
    run: Run, chosen: Selection, labels: _Labels, ranks: Iterable[int], first_rank: int = 1
) -> tuple[Example, ...]:
    at = np.fromiter(ranks, np.int64)
    rows, nearest = chosen.rows[at], chosen.nearest[at]
    texts, near_texts = _texts(run, "pool", run.pool, rows), _texts(run, "target", run.target_store, nearest)
    ids, near_ids = run.pool.ids(rows), run.target_store.ids(nearest)
    sources, numbers = run.pool.sources(rows), run.pool.row_numbers(rows)
    return tuple(
        Example(
            id=ids[i], source=_shown(sources[i]), row=int(numbers[i]), rank=int(at[i]) + first_rank,
            score=float(chosen.scores[at[i]]), label=labels.of(rows[i]), text=texts[i],
            nearest_id=near_ids[i], nearest_text=near_texts[i],
        )
        for i in range(len(at))
    )  # fmt: skip


def _barely_rejected(run: Run, values: NDArray[np.float64], labels: _Labels) -> tuple[Example, ...]:
    rows = run.backend.topk(run.f, min(run.k + _EXAMPLES, run.pool.n))[run.k :]
    if not len(rows):
        return ()
    vectors = gather(run.pool.shards, np.sort(rows))[np.argsort(np.argsort(rows))]
    rejected = Selection(rows, values[rows], nearest_targets((vectors,), run.model.potentials, run.backend))
    return _examples(run, rejected, labels, range(len(rows)), run.k + 1)


def _texts(run: Run, side: str, store: Store, rows: NDArray[np.integer]) -> list[str | None]:
    """Return the texts of a few rows, cut to what the report shows; None for ready-made vectors."""
    if not has_texts(run.settings, side):
        return [None] * len(rows)
    wanted = list(zip(store.sources(rows), map(int, store.row_numbers(rows)), strict=True))
    settings, found = run.settings, dict[tuple[str, int], str]()
    for source in dict.fromkeys(source for source, _ in wanted):
        own = [row for one, row in wanted if one == source]
        texts = corpus.texts_at(source, own, text_field=settings.text_field, id_field=settings.id_field)
        found.update({(source, row): text[:_TEXT] for row, text in texts.items()})
    return [found.get(key) for key in wanted]
