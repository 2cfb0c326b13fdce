"""The rules of a run's choice, read from its settings, its lists and the fields of its documents."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import corpus
from gapsel.config import parse_count, parse_quota, rows_for
from gapsel.errors import DataError, UsageError
from gapsel.pipeline.inputs.barred import read_barred, tables
from gapsel.pipeline.vectors.sides import has_texts
from gapsel.potentials import Cap, priced
from gapsel.rules import Budget, Quota, Rules, check_by_words, check_met

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from gapsel.config import Settings
    from gapsel.potentials import Rows, Task
    from gapsel.store import Store

# The field that stands for the file a document came from.
FILE = "file"
NONE = "(none)"
# Of fields with more values than these not all are known by name.
_NAMES = 1 << 16
_MOST_TOKENS = np.iinfo(np.int32).max


def check_rules(settings: Settings) -> None:
    """Raise, before the long work begins, for rules that need what is not there."""
    for lists in filter(None, (settings.exclude, settings.held_out)):
        corpus.sources(lists)
    texts = has_texts(settings, "pool")
    readers = {"held_out": bool(settings.held_out), "max_jaccard": settings.max_jaccard is not None}
    reader = next((name for name, used in readers.items() if used and not texts), None)
    if reader is not None:
        more = ", or go by vectors (--max-cosine)" if reader == "max_jaccard" else ""
        msg = f"{reader} compares texts, and the pool has vectors alone: give the documents beside them (--pool){more}"
        raise UsageError(msg)
    if settings.max_jaccard is not None:
        check_by_words()
    fields = [(field, "at_most") for field, _ in map(parse_quota, settings.at_most) if field != FILE]
    fields += [(settings.token_field, "token_field")] if settings.token_field else []
    if fields and not texts:
        msg = (
            f"{fields[0][1]}: {fields[0][0]!r} is a field of documents, and the pool has vectors alone: give the "
            f"documents beside them (--pool), or go by files ({FILE}=20%)"
        )
        raise UsageError(msg)
    if settings.tokens is not None and settings.token_field is None and (not texts or settings.pool_vectors):
        msg = (
            f"tokens is {settings.tokens}, and nobody has counted those of ready-made vectors: name the field of the "
            "documents (--pool) that has their number (--token-field)"
        )
        raise UsageError(msg)
    for field, setting in fields:
        # Reads as far as the first value, and raises at the end of a pool that has none.
        any(value is not None for part in _values(settings, field, setting) for value in part)


def read_rules(settings: Settings, folder: Path, pool: Store, *, quiet: bool = True) -> Rules:
    """Return the rules for this pool. Raises UsageError where they cannot be kept to."""
    check_rules(settings)
    barred = read_barred(settings, folder, pool, quiet=quiet).flags
    quotas = tuple(_quota(settings, pool, *parse_quota(one)) for one in settings.at_most)
    if settings.tokens is None:
        budget = Budget(pool.n, rows_for(settings.k, pool.n), None, barred)
    else:
        budget = Budget(pool.n, parse_count(settings.tokens), read_tokens(settings, pool), barred)
    check_met(budget, quotas)
    return Rules(budget, quotas)


def caps_of(rules: Rules) -> tuple[Cap, ...]:
    """Return the quotas as what the solver knows them by."""
    return tuple(Cap(quota.share, quota.codes) for quota in rules.quotas)


def solved(task: Task, rules: Rules, f: NDArray[np.float32]) -> Rows:
    """Return the task's rows as it was solved, at the prices of the quotas; f (n,) has in it what rows cost."""
    return priced(task, caps_of(rules), f).rows


def rules_of(
    settings: Settings,
    n: int,
    *,
    k: str,
    tokens: NDArray[np.integer] | None,
    barred: NDArray[np.bool_] | None,
    fields: Mapping[str, NDArray[Any]],
) -> Rules:
    """Return the rules for a pool of n rows from arrays (n,): numbers of tokens, rows that may not be chosen, labels.

    Raises UsageError as `read_rules` does, and where the settings need an array that is not there.
    """
    if (settings.tokens is None) != (tokens is None):
        msg = "a budget of tokens takes both: Selector(tokens=...), how many, and fit(tokens=...), those of each row"
        raise UsageError(msg)
    quotas = []
    for field, share in map(parse_quota, settings.at_most):
        if field not in fields:
            msg = f"at_most is for {field!r}: give the value of each row, fit(fields={{{field!r}: values}})"
            raise UsageError(msg)
        names, codes = np.unique(fields[field], return_inverse=True)
        known = dict(enumerate(map(str, names[:_NAMES].tolist())))
        quotas.append(Quota(field, share, codes.reshape(-1).astype(np.int32), known))
    amount = rows_for(k, n) if settings.tokens is None else parse_count(settings.tokens)
    budget = Budget(n, amount, None if tokens is None else tokens.astype(np.int32), barred)
    check_met(budget, quotas)
    return Rules(budget, tuple(quotas))


def read_tokens(settings: Settings, pool: Store) -> NDArray[np.int32]:
    """Return how many tokens each document (n,) has, 0 where that is not known."""
    counts, start = np.zeros(pool.n, np.int32), 0
    if settings.token_field is None:
        for table in tables(pool):
            counts[start : start + table.num_rows] = table.column("tokens").to_numpy()
            start += table.num_rows
        return counts
    for part in _values(settings, settings.token_field, "token_field"):
        counts[start : start + len(part)] = [token_count(value, start + at, settings) for at, value in enumerate(part)]
        start += len(part)
    return counts


def token_count(value: str | None, row: int, settings: Settings) -> int:
    """Return the number of tokens that a document's field says, 0 for none. Raises DataError for what is no number."""
    if value is None:
        return 0
    if not value.isdecimal() or int(value) > _MOST_TOKENS:
        msg = (
            f"document {row} of the pool: its {settings.token_field!r} is {value[:40]!r} and no number of tokens: "
            "repair it, or name another field (--token-field)"
        )
        raise DataError(msg)
    return int(value)


def _quota(settings: Settings, pool: Store, field: str, share: float) -> Quota:
    """Read which group each document is of; documents without a value are one group."""
    if field == FILE:
        found: Iterator[list[str | None]] = (table.column("source").to_pylist() for table in tables(pool))
    else:
        found = _values(settings, field, "at_most")
    keys, names, start = np.empty(pool.n, np.uint64), dict[int, str](), 0
    for part in found:
        key_of = {value: _key(value) for value in set(part)}
        keys[start : start + len(part)] = [key_of[value] for value in part]
        start += len(part)
        if len(names) < _NAMES:
            names.update({key: NONE if value is None else value for value, key in key_of.items()})
    groups, codes = np.unique(keys, return_inverse=True)
    known = {code: names[key] for code, key in enumerate(groups.tolist()) if key in names}
    return Quota(field, share, codes.reshape(-1).astype(np.int32), known)


def _key(value: str | None) -> int:
    """Return 64 bits that stand for a value: of a billion values two are alike once in forty fields."""
    if value is None:
        return 0
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little")


def _values(settings: Settings, field: str, setting: str) -> Iterator[list[str | None]]:
    """Yield a field of the pool's documents, which a setting names, some at a time, in the order of the pool."""
    found = corpus.labels(
        settings.pool, field, text_field=settings.text_field, id_field=settings.id_field, setting=setting
    )
    return (part for _, _, part in found)
