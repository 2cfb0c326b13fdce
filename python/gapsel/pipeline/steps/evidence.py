"""What the report says: the choice beside random and nearest neighbours, and where the documents come from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import __version__, corpus
from gapsel.calibration import scores
from gapsel.config import SIDES
from gapsel.findings import Composition, Example, Findings, Histogram, Ignored, RulesDid, Share, Step, made_of
from gapsel.pipeline.folder.run_folder import peak_memory
from gapsel.pipeline.inputs.labels import Labels, read_labels
from gapsel.pipeline.steps.errorbars import read_error_bars
from gapsel.pipeline.steps.masses import read_mass_path
from gapsel.pipeline.studies.compare import Yardstick, check_compared, compare
from gapsel.pipeline.vectors.sides import has_texts, sides
from gapsel.potentials import gather
from gapsel.selection import Selection, nearest_targets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from gapsel.pipeline.steps.select import Made
    from gapsel.pipeline.work import Run
    from gapsel.records import Potentials
    from gapsel.store import Store

_EXAMPLES = 8
_BINS = 60
_TEXT = 600


def gather_findings(run: Run, made: Made) -> Findings:
    """Measure every way of choosing k rows alike, and collect what the report shows."""
    check_compared(run.settings)
    labels = {side: read_labels(run, side) for side in ("pool", "target")}
    stick, chosen = Yardstick(run, made, labels), made.selection
    values = scores(run.f_of_rows, run.rows.a, run.model.calibration.mean)[: run.pool.n]
    steps = run.folder.record["steps"]
    return Findings(
        version=__version__,
        **_inputs(run),
        **_solution(run.model.potentials),
        k=len(chosen.rows),
        pool_distance=stick.of_pool,
        avoided=made.avoided,
        tasks=stick.tasks(),
        ignored=_ignored(run),
        methods=compare(run, stick),
        certificate=made.certificate,
        rules=made_of(RulesDid, run.folder.facts("select")["rules"]),
        mass_path=read_mass_path(run) if run.settings.mass_path else (),
        error_bars=read_error_bars(run) if run.settings.error_bars else None,
        histogram=_histogram(values, chosen.rows),
        cut=float(chosen.scores[-1]),
        compositions=_compositions(run, chosen.rows, labels),
        chosen=_examples(run, chosen, labels["pool"], _spread(len(chosen.rows))),
        barely_rejected=_barely_rejected(run, chosen.rows, values, labels["pool"]),
        seconds={name: steps[name]["seconds"] for name in ("embed", "fit", "score", "select")},
        peak_memory_bytes=peak_memory(),
    )


def _inputs(run: Run) -> dict[str, Any]:
    """Return the findings on what went in: the files of each side, how many rows they have, and who embedded them."""
    settings, embedded = run.settings, run.folder.facts("embed")
    paths = {side: getattr(settings, side) or getattr(settings, f"{side}_vectors") for side in SIDES}
    return {
        **{side: tuple(map(_shown, of_side)) for side, of_side in paths.items()},
        "embedder": str(run.model.embedder.get("model", "ready-made vectors")),
        "n": run.pool.n,
        "m": run.target_store.n,
        "rejected_rows": sum(embedded[side]["rejected"] for side in sides(settings)),
    }


def _solution(p: Potentials) -> dict[str, Any]:
    """Return the findings on the problem that was solved, and on how the solver ended."""
    evidence, scale = p.evidence, p.scale
    return {
        "mass": p.mass,
        "cost": p.cost.kind + (" on unit vectors" if p.cost.normalize else ""),
        "eps": p.eps,
        "eps_of_row_std": p.eps / scale.row_std if scale.row_std else float("inf"),
        "eps_of_mean": p.eps / scale.mean if scale.mean else float("inf"),
        "perplexity": evidence.perplexity,
        "converged": evidence.converged,
        "marginal_error": evidence.marginal_error,
        "tolerance": evidence.tolerance,
        "full_sweeps": evidence.full_sweeps,
        "fitted_rows": evidence.rows,
        "sampling_error": evidence.sampling_error,
        "steps": tuple(Step(s.name, s.rows, s.eps, s.mass, s.marginal_error, s.seconds) for s in evidence.trace),
    }


def _histogram(values: NDArray[np.float64], chosen: NDArray[np.int64]) -> Histogram:
    edges = np.histogram_bin_edges(values, _BINS)
    counts = (np.histogram(part, edges)[0] for part in (values, values[chosen]))
    return Histogram(tuple(edges.tolist()), *(tuple(part.tolist()) for part in counts))


def _compositions(run: Run, chosen: NDArray[np.int64], labels: Mapping[str, Labels]) -> tuple[Composition, ...]:
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


def _shown(path: str) -> str:
    """Return a path as people write it: from the working folder, if it lies below."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _examples(
    run: Run, chosen: Selection, labels: Labels, ranks: Iterable[int], first_rank: int = 1
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


def _ignored(run: Run) -> tuple[Ignored, ...]:
    store, rows = run.target_store, np.array(run.folder.facts("fit").get("ignored", {}).get("rows", ()), np.int64)
    texts = _texts(run, "target", store, rows[:_EXAMPLES]) + [None] * max(0, len(rows) - _EXAMPLES)
    sources, numbers = map(_shown, store.sources(rows)), store.row_numbers(rows).tolist()
    return tuple(map(Ignored, store.ids(rows), sources, numbers, texts))


def _spread(k: int) -> NDArray[np.int64]:
    """Return some ranks, from 0, from the first to the last of k."""
    return np.linspace(0, k - 1, min(_EXAMPLES, k)).astype(np.int64)


def _barely_rejected(
    run: Run, chosen: NDArray[np.int64], values: NDArray[np.float64], labels: Labels
) -> tuple[Example, ...]:
    """Show the rows of lowest f from the last chosen on that might have been chosen."""
    after = run.f >= run.f[chosen].max()
    after[chosen] = False
    if run.rules.budget.barred is not None:
        after &= ~run.rules.budget.barred
    left = np.flatnonzero(after)
    if not len(left):
        return ()
    rows = left[run.backend.topk(np.ascontiguousarray(run.f[left]), min(_EXAMPLES, len(left)))]
    vectors = gather(run.pool.shards, np.sort(rows))[np.argsort(np.argsort(rows))]
    rejected = Selection(rows, values[rows], nearest_targets((vectors,), run.model.potentials, run.backend))
    return _examples(run, rejected, labels, range(len(rows)), len(chosen) + 1)


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
