"""The choice of a run under its rules, read off the scores, and what each rule did; the rules for other choices."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import corpus
from gapsel.config import parse_quota
from gapsel.errors import UsageError
from gapsel.findings import GroupShare
from gapsel.pipeline.folder.parts import potentials
from gapsel.pipeline.inputs.barred import read_barred
from gapsel.pipeline.inputs.rules import NONE
from gapsel.rules import Both, ByVectors, ByWords, Copies, Walk, choose, ordered, values_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from gapsel.config import Settings
    from gapsel.pipeline.work import Run
    from gapsel.rules import Budget, Choice, Quota, Rules

# So many groups are named.
_NAMED = 10


def choose_rows(run: Run) -> tuple[NDArray[np.int64], NDArray[np.float32], dict[str, Any]]:
    """Return the chosen rows (k,) in order of (f, row), f there (k,), and what the rules did, as plain JSON values.

    Raises UsageError where no document keeps to the rules.
    """
    limit = limit_of(run.settings, run.model.calibration.mean, run.rows.a_of_pool)

    def read() -> Iterator[NDArray[np.float32]]:
        return potentials(run.path, run.parts)

    choice, f = choose_by(
        read, run.rules, run.settings, eps=run.model.potentials.eps, limit=limit, copies=copies_of(run)
    )  # fmt: skip
    return choice.rows, f, _said(run, choice, limit)


def choose_by(
    read: Callable[[], Iterable[NDArray[np.float32]]],
    rules: Rules,
    settings: Settings,
    *,
    eps: float,
    limit: float | NDArray[np.float64] | None,
    copies: Copies | None,
) -> tuple[Choice, NDArray[np.float32]]:
    """Return the choice from f, which ``read`` yields in batches, its rows in order of (f, row), and f there (k,).

    Raises UsageError where no row keeps to the rules.
    """

    def come() -> Iterator[NDArray[np.float32]]:
        temperature = settings.temperature * eps
        return ordered(read(), barred=rules.budget.barred, limit=limit, temperature=temperature, seed=settings.seed)

    choice = choose(come, rules, copies)
    if not len(choice.rows):
        msg = f"threshold is {settings.threshold}: nothing that may be chosen has such a score, allow a higher one"
        raise UsageError(msg)
    f = values_at(read(), choice.rows)
    order = np.lexsort((choice.rows, f))
    choice.rows = choice.rows[order]
    return choice, f[order]


def begin_choices(run: Run) -> Callable[[], Walk]:
    """Return what begins a choice under the run's rules; simple methods go through it in orders of their own."""
    limit, beyond = limit_of(run.settings, run.model.calibration.mean, run.rows.a_of_pool), None
    if limit is not None:
        within = ordered(potentials(run.path, run.parts), limit=limit)
        beyond = np.concatenate([np.isinf(f) for f in within])
    return lambda: Walk(run.rules, copies_of(run), beyond)


def copies_of(run: Run) -> Copies | None:
    """Return what knows near copies, where they are not to be chosen."""
    settings, ways = run.settings, list[Copies]()
    if settings.max_cosine is not None:
        ways.append(ByVectors(run.pool.shards, settings.max_cosine))
    if settings.max_jaccard is not None:
        ways.append(ByWords(lambda rows: _texts(settings, rows), settings.max_jaccard))
    return Both(*ways) if len(ways) > 1 else next(iter(ways), None)


def _texts(settings: Settings, rows: NDArray[np.int64]) -> Iterator[list[str]]:
    """Yield the texts of rows of the pool (r,), which ascend, some at a time; they are read up to the last of them."""
    start = done = 0
    for batch in corpus.read(settings.pool, text_field=settings.text_field, id_field=settings.id_field):
        stop = int(np.searchsorted(rows, start + len(batch.texts)))
        yield [batch.texts[row] for row in (rows[done:stop] - start).tolist()]
        start, done = start + len(batch.texts), stop
        if done == len(rows):
            return


def limit_of(settings: Settings, mean: float, a: float | NDArray[np.float64]) -> float | NDArray[np.float64] | None:
    """Return the largest f that has a score within the threshold, by the mean of f: of each row, or of all alike."""
    return None if settings.threshold is None else mean + settings.threshold * (1.0 - a)


def _said(run: Run, choice: Choice, limit: float | NDArray[np.float64] | None) -> dict[str, Any]:
    """Say what each rule of the settings did; nothing of those that are not used."""
    settings, budget = run.settings, run.rules.budget
    said: dict[str, Any] = dict(read_barred(settings, run.path, run.pool).said)
    if budget.sizes is not None:
        said["tokens"] = _tokens(run, choice)
    if limit is not None:
        said["threshold"] = {"score": settings.threshold, "documents": _within(run, limit)}
    if settings.max_jaccard is not None or settings.max_cosine is not None:
        said["copies"] = {"documents": choice.copies}
    if settings.temperature:
        said["temperature"] = {
            "in_eps": settings.temperature,
            "in_cost": settings.temperature * run.model.potentials.eps,
        }
    if run.rules.quotas:
        said["at_most"] = [_quota(run, choice, at) for at in range(len(run.rules.quotas))]
    return said


def _tokens(run: Run, choice: Choice) -> dict[str, Any]:
    """Say how the budget of tokens was used, and how many of the chosen the encoder counted only in part."""
    settings, budget = run.settings, run.rules.budget
    units = budget.units(choice.rows)
    cut = int(np.count_nonzero(units >= settings.max_tokens)) if settings.token_field is None else 0
    sizes = np.asarray(budget.sizes)
    return {
        "budget": budget.amount,
        "used": int(units.sum()),
        "too_large": choice.too_large,
        "without": int(np.count_nonzero(sizes < 1)),
        "cut": cut,
        "max_tokens": settings.max_tokens,
    }


def _within(run: Run, limit: float | NDArray[np.float64]) -> int:
    """Return how many documents may be chosen and have a score within the threshold."""
    batches = ordered(potentials(run.path, run.parts), barred=run.rules.budget.barred, limit=limit)
    return sum(int(np.count_nonzero(np.isfinite(f))) for f in batches)


def _quota(run: Run, choice: Choice, at: int) -> dict[str, Any]:
    quota, field = run.rules.quotas[at], parse_quota(run.settings.at_most[at])[0]
    none = [code for code, name in quota.names.items() if name == NONE]
    return {
        "field": field,
        "share": quota.share,
        "groups": int(quota.codes.max()) + 1,
        "without": int(np.count_nonzero(np.isin(quota.codes, none))),
        "passed_over": choice.over_quota[at],
        "full": len(choice.full[at]),
        "names": choice.full[at][:_NAMED],
        "largest": [asdict(one) for one in _largest(run.rules.budget, quota, choice, set(choice.full[at]))],
    }


def _largest(budget: Budget, quota: Quota, choice: Choice, full: set[str]) -> list[GroupShare]:
    """Return the groups that most was chosen of, beside their shares of the pool."""
    units = np.bincount(quota.codes[choice.rows], weights=budget.units(choice.rows))
    rows = np.bincount(quota.codes)
    found = [code for code in np.argsort(-units, kind="stable")[:_NAMED].tolist() if units[code]]
    return [
        GroupShare(name, float(units[code] / budget.amount), float(rows[code] / budget.n), name in full)
        for code, name in ((code, quota.name(code)) for code in found)
    ]
