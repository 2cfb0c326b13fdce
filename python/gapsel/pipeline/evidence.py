"""What the report says: the choice beside random and nearest neighbours, and where the documents come from."""

from __future__ import annotations

from collections import Counter
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
    run: Run, chosen: NDArray[np.int64], labels: Mapping[str, Sequence[str | None]], of_pool: Interval
) -> tuple[MethodResult, ...]:
    p = run.model.potentials
    problem = baselines.Problem(run.pool.shards, p.target, p.cost, run.k, run.settings.seed)
    ways = {one.name: one.choose(problem, run.backend) for one in baselines.USUAL}
    wanted = {label for label in labels["target"] if label is not None}
    return tuple(
        MethodResult(
            name,
            *_distances(run, rows, of_pool),
            overlap=len(np.intersect1d(rows, chosen)) / run.k,
            precision=float(np.mean([labels["pool"][row] in wanted for row in rows])) if wanted else None,
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


def _compositions(
    run: Run, chosen: NDArray[np.int64], labels: Mapping[str, Sequence[str | None]]
) -> tuple[Composition, ...]:
    sources = Counter({_shown(source): rows for source, rows in run.pool.source_counts().items()})
    found = [_composition("source", sources, Counter(map(_shown, run.pool.sources(chosen))), None)]
    if labels["pool"]:
        pool = Counter(map(_name, labels["pool"]))
        of_target = Counter(map(_name, labels["target"])) if any(labels["target"]) else None
        of_chosen = Counter(_name(labels["pool"][row]) for row in chosen)
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


def _labels(run: Run, side: str) -> list[str | None]:
    """Return the label of every row of a side, in the store's order; empty where there are none to be had."""
    settings = run.settings
    if settings.label_field is None or not has_texts(settings, side):
        return []
    paths: Sequence[str] = getattr(settings, side)
    found = corpus.labels(paths, settings.label_field, text_field=settings.text_field, id_field=settings.id_field)
    try:
        return [label for _, _, part in found for label in part]
    except corpus.MissingLabelError:
        # The target's examples need no labels; those of the pool do, since the user asked for them.
        if side == "pool":
            raise
        return []


def _examples(
    run: Run, chosen: Selection, labels: Sequence[str | None], ranks: Iterable[int], first_rank: int = 1
) -> tuple[Example, ...]:
    at = np.fromiter(ranks, np.int64)
    rows, nearest = chosen.rows[at], chosen.nearest[at]
    texts, near_texts = _texts(run, "pool", run.pool, rows), _texts(run, "target", run.target_store, nearest)
    ids, near_ids = run.pool.ids(rows), run.target_store.ids(nearest)
    sources, numbers = run.pool.sources(rows), run.pool.row_numbers(rows)
    return tuple(
        Example(
            id=ids[i], source=_shown(sources[i]), row=int(numbers[i]), rank=int(at[i]) + first_rank,
            score=float(chosen.scores[at[i]]), label=labels[rows[i]] if labels else None, text=texts[i],
            nearest_id=near_ids[i], nearest_text=near_texts[i],
        )
        for i in range(len(at))
    )  # fmt: skip


def _barely_rejected(run: Run, values: NDArray[np.float64], labels: Sequence[str | None]) -> tuple[Example, ...]:
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
    missing, found = set(wanted), dict[tuple[str, int], str]()
    settings = run.settings
    for batch in corpus.read(getattr(settings, side), text_field=settings.text_field, id_field=settings.id_field):
        if not missing:
            break
        for row, text in zip(map(int, batch.rows), batch.texts, strict=True):
            if (batch.source, row) in missing:
                missing.discard((batch.source, row))
                found[batch.source, row] = text[:_TEXT]
    return [found.get(key) for key in wanted]
