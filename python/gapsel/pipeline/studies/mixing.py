"""A door beside the others: how much of each domain, and the documents chosen by that; mixture.json and mixture/.

It follows from the vectors alone. Domains are the values of a field, or clusters of the vectors. The mixture is all of
the training data, so that the mass plays no part.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import starmap
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from gapsel.calibration import mean_of, scores
from gapsel.config import BUDGET, RULES, Settings
from gapsel.distance import distance
from gapsel.errors import DataError, UsageError
from gapsel.files import write_json
from gapsel.findings import DomainShare, MixedTask, Mixture
from gapsel.mixture import Domains, Problem, apportion, capacities, chosen_within, mix, weigh
from gapsel.mixture.clusters import clusters
from gapsel.pipeline.folder import journal
from gapsel.pipeline.folder.results import SELECTED
from gapsel.pipeline.folder.run_folder import plain, read_as, sign
from gapsel.pipeline.inputs.barred import lists_hash
from gapsel.pipeline.inputs.labels import check_labels, read_labels
from gapsel.pipeline.inputs.weights import content_hash
from gapsel.pipeline.steps.fit import read_target, weigh_pool
from gapsel.pipeline.steps.order import advance_to
from gapsel.pipeline.steps.page import MIXTURE, remember_study, renew_page
from gapsel.pipeline.steps.select import write_selected
from gapsel.pipeline.vectors.sides import check_d
from gapsel.potentials import gather
from gapsel.progress import track
from gapsel.records import Box, Cost, Query
from gapsel.selection import Selection
from gapsel.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from gapsel.backends import Backend
    from gapsel.findings import Interval
    from gapsel.mixture import Mixed, Weighed
    from gapsel.pipeline.inputs.targets import Tasks
    from gapsel.pipeline.work import Run
    from gapsel.potentials import Rows, Weighing
    from gapsel.records import CostScale

FOLDER = "mixture"
CLUSTERS = 64
# What documents without a label are called.
NO_LABEL = "(none)"
# Each domain needs rows of its own in every sample, and a field with more values is hardly one of domains.
_MOST_DOMAINS = 1024
_NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """The domain of each row: ``codes`` (n,) int32, what they stand for, and the ``field`` that said so."""

    codes: NDArray[np.int32]
    names: tuple[str, ...]
    field: str | None


def mix_run(run: Run) -> Mixture:
    """Find the weights, unless they are there, and write mixture.json."""
    by_field = run.settings.clusters is None and run.settings.label_field is not None
    if by_field:
        check_labels(run.settings)
    if run.settings.choose:
        _check_rules(run.settings)
    advance_to(run, "embed")
    weigh_pool(run)
    signature, file = _signature(run), run.path / MIXTURE
    done = run.folder.record.get("mixture", {})
    if done.get("signature") == signature and all((run.path / name).exists() for name in done["files"]):
        run.say("mix: done before")
        renew_page(run)
        return read_as(file, Mixture, "a mixture")
    run.say("mix ...")
    began = time.perf_counter()
    found = _mixed(run, _named(run, by_field=by_field))
    _begin_to_write(run)
    write_json(file, plain(found.to_json()))
    files = [MIXTURE, *([found.file] if found.file else [])]
    _discard_others(run, found.file)
    facts = {"seconds": round(time.perf_counter() - began, 3), "files": files, "settings": run.settings.of("mix")}
    remember_study(run.folder, "mixture", signature, facts)
    renew_page(run)
    journal.clear(run.path)
    return found


def _begin_to_write(run: Run) -> None:
    """Record that what the folder had of a mixture is no more what its record says, before the first change of it."""
    run.folder.remember("mixture", {})


def _discard_others(run: Run, file: str | None) -> None:
    """Delete documents that were chosen by another mixture; ``file`` has those of this one, if there are any."""
    for old in (run.path / FOLDER).glob(SELECTED):
        if f"{FOLDER}/{old.name}" != file:
            old.unlink()


def _check_rules(settings: Settings) -> None:
    """Raise UsageError for rules of a choice that this one does not keep to."""
    usual = Settings()
    rules = ("tokens", "at_most", *RULES)
    wanted = next((name for name in rules if getattr(settings, name) != getattr(usual, name)), None)
    if wanted is not None:
        msg = (
            f"{wanted} is {getattr(settings, wanted)!r}, and documents of a mixture are chosen by their number (-k) "
            "and by lists (--exclude, --held-out) alone: mix without --choose, or in a folder without that setting (-o)"
        )
        raise UsageError(msg)


def described(problem: Problem, mixed: Mixed, named: Named, backend: Backend) -> Mixture:
    """Say what was found, with the distances before and after."""
    domains = problem.domains

    def of_weights(w: NDArray[np.float64]) -> Interval:
        return _away(problem, backend, domains.occurring(w), domains.heavy(w))

    return Mixture(
        field=named.field,
        domains=tuple(
            DomainShare(
                named.names[d], int(domains.counts[d]), float(domains.natural[d]), float(mixed.weights[d]),
                float(mixed.slopes[d]),
            )
            for d in order_of(mixed)
        ),
        natural=of_weights(domains.natural),
        even=of_weights(np.full(domains.u, 1.0 / domains.u)),
        mixture=of_weights(mixed.weights),
        chosen=None,
        certificate=mixed.certificate,
        eps=mixed.eps,
        marginal_error=mixed.marginal_error,
        converged=mixed.converged,
        full_sweeps=mixed.sweeps,
    )  # fmt: skip


def with_weights(found: Mixture, tasks: Tasks, weighed: Weighed, ids: Sequence[str]) -> Mixture:
    """Add to what was found what there is to say of the target's weights; ``ids`` are those of ignored examples."""
    found = replace(found, ignored=tuple(ids))
    if not tasks.several:
        return found
    shares, balance = tasks.shares(weighed.problem.target.b).tolist(), weighed.balance
    closed = [None] * len(shares) if balance is None else [None if np.isnan(one) else one for one in balance.shares]
    each = zip(tasks.names, tasks.counts.tolist(), shares, closed, strict=True)
    return replace(found, tasks=tuple(starmap(MixedTask, each)), level=None if balance is None else balance.level)


def named_domains(labels: ArrayLike, n: int) -> Named:
    """Return the domains of n rows by their labels (n,), texts or numbers; those without one are a domain too.

    Raises DataError for what are no n labels, UsageError as check_domains does.
    """
    try:
        found = pa.array(labels).dictionary_encode()
    except (pa.ArrowException, TypeError, ValueError) as error:
        msg = f"domains: cannot be read as labels ({error}): give one text or number for each row of the pool"
        raise DataError(msg) from error
    if len(found) != n:
        msg = f"domains: {counted(len(found), 'label')} for {counted(n, 'row')} of the pool: give one for each"
        raise DataError(msg)
    names = [str(name) for name in found.dictionary.to_pylist()]
    codes = found.indices.fill_null(len(names)).to_numpy(zero_copy_only=False).astype(np.int32)
    named = Named(codes, (*names, NO_LABEL) if found.null_count else tuple(names), None)
    check_domains(named)
    return named


def order_of(mixed: Mixed) -> list[int]:
    """Return the domains, heaviest first; those without weight by what they would do."""
    order: list[int] = np.lexsort((mixed.slopes, -mixed.weights)).tolist()
    return order


def _away(p: Problem, backend: Backend, rows: Rows, heavy: int = 0) -> Interval:
    return distance(backend, rows, p.target, p.cost, p.scale, heavy=heavy, seed=p.seed)


def check_domains(named: Named) -> None:
    """Raise UsageError unless there are several domains, and not too many."""
    count, place = len(named.names), "domains" if named.field is None else f"label_field is {named.field!r}"
    other = "name another field (--label-field), or have clusters made (--clusters)"
    if count == 1:
        msg = f"{place}: one value, {named.names[0]!r}, for all documents: a mixture needs two domains or more; {other}"
        raise UsageError(msg)
    if count > _MOST_DOMAINS:
        some = ", ".join(map(repr, named.names[:_NAMES_SHOWN]))
        msg = f"{place}: {count:,} values ({some} ...), and a mixture has at most {_MOST_DOMAINS:,} domains: {other}"
        raise UsageError(msg)


def _signature(run: Run) -> str:
    settings = run.settings.of("mix")
    if not run.settings.choose:
        settings = {name: value for name, value in settings.items() if name not in BUDGET}
    lists = lists_hash(run.settings) if run.settings.choose else None
    weights = [content_hash(run.pool_weights), content_hash(run.settings.target_weights)]
    return sign(run.signatures["embed"], settings, weights, lists)


def _named(run: Run, *, by_field: bool) -> Named:
    s = run.settings
    if by_field:
        labels = read_labels(run, "pool")
        names = tuple(NO_LABEL if name is None else name for name in labels.names)
        named = Named(labels.codes, names, s.label_field)
    else:
        codes = clusters(run.rows, s.clusters or CLUSTERS, run.backend, cost=Cost(s.cost, s.normalize), seed=s.seed)
        named = Named(codes, tuple(f"cluster {at}" for at in range(int(codes.max()) + 1)), None)
    check_domains(named)
    return named


def _mixed(run: Run, named: Named) -> Mixture:
    """Find the weights, and choose by them if that is asked for."""
    problem, weighing = _problem(run, named)
    with track("mix", None, "sweeps", enabled=not run.quiet) as advance:
        weighed = weigh(problem, weighing, run.backend)
        problem = weighed.problem
        mixed = mix(problem, run.backend, lambda: advance(1))
    found = described(problem, mixed, named, run.backend)
    found = with_weights(found, run.tasks, weighed, run.target_store.ids(weighed.ignored))
    return _chosen(run, problem, mixed, found) if run.settings.choose else found


def _chosen(run: Run, problem: Problem, mixed: Mixed, found: Mixture) -> Mixture:
    """Choose k documents, from each domain its share; write and measure them."""
    barred = run.rules.budget.barred
    counts = apportion(mixed.weights, run.k, problem.domains.counted(barred))
    rows = chosen_within(problem, mixed, counts, run.backend, barred)
    chosen = [int(counts[d]) for d in order_of(mixed)]
    return replace(
        found,
        domains=tuple(replace(one, chosen=count) for one, count in zip(found.domains, chosen, strict=True)),
        chosen=_away(problem, run.backend, run.rows.only(rows)),
        k=run.k,
        file=_write(run, problem, mixed, rows),
    )


def _problem(run: Run, named: Named) -> tuple[Problem, Weighing]:
    """Return what is asked, and how its target is to be weighed."""
    s = run.settings
    target, weighing = run.tasks.posed(read_target(run), s)
    if run.avoid_store is not None:
        msg = "mix weighs domains for the target alone, and this run avoids something: begin a run without that (-o)"
        raise UsageError(msg)
    if run.base_store is not None:
        msg = "mix weighs the domains of the pool, and this run has a base beside it: begin a run without one (-o)"
        raise UsageError(msg)
    check_d("pool", run.pool.d, run.target_store.d)
    task = run.task(target, Cost(s.cost, s.normalize))
    domains = Domains.of(run.rows, named.codes)
    hi = capacities(domains.counted(run.rules.budget.barred), run.k) if s.choose else np.ones(domains.u)
    eps = mixture_eps(s, task.scale)
    return Problem(
        domains, target, task.cost, task.scale, eps, hi, s.tolerance, s.max_sweeps, s.seed
    ), weighing  # fmt: skip


def mixture_eps(settings: Settings, scale: CostScale) -> float:
    """Return the absolute eps: that of a mass of 1, since the mixture stands for all of the target."""
    return scale.eps(replace(settings, mass=1.0).relative_eps)


def _write(run: Run, problem: Problem, mixed: Mixed, rows: NDArray[np.int64]) -> str:
    """Write the chosen rows (k,) as `gapsel select` does, into a folder of their own; return the file's name."""
    a = run.rows.a if isinstance(run.rows.a, float) else run.rows.a[rows]
    values = scores(mixed.f[rows], a, mean_of(mixed.f, run.rows.a))
    chosen = Selection(rows, values, _nearest(rows, problem, run.backend))
    folder = run.path / FOLDER
    folder.mkdir(exist_ok=True)
    _begin_to_write(run)
    return f"{FOLDER}/{write_selected(run, folder, chosen).name}"


def _nearest(rows: NDArray[np.int64], problem: Problem, backend: Backend) -> NDArray[np.int32]:
    """Return the row of the target of least cost for each of the rows (k,), in their order."""
    ascending = np.argsort(rows)
    found, nearest = np.empty(len(rows), np.int32), np.empty(len(rows), np.int32)
    g, box = np.zeros(len(problem.target.b)), Box.fixed(1.0 / len(rows))
    query = Query(problem.target, g, box, problem.eps, problem.cost, nearest=found)
    backend.sweep((gather(problem.domains.shards, rows[ascending]),), query)
    nearest[ascending] = found
    return nearest
