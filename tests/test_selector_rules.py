"""The rules of a choice for arrays: the Selector keeps to budgets, quotas, barred rows, thresholds and copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gapsel import Selector
from gapsel.errors import DataError, UsageError

N, M, D = 500, 10, 6
RNG = np.random.default_rng(0)
GROUPS = RNG.integers(0, 3, N)
X = (RNG.standard_normal((N, D)) + 2.0 * np.eye(D)[GROUPS]).astype(np.float32)
Y = (RNG.standard_normal((M, D)) + 2.0 * np.eye(D)[0]).astype(np.float32)
TOKENS = RNG.integers(1, 50, N)


def fitted(arrays: dict[str, Any] | None = None, **settings: Any) -> Selector:  # noqa: ANN401
    return Selector(**{"k": 50, "backend": "cpu", "threads": 1, "mass": 0.5, **settings}).fit(Y, X, **(arrays or {}))


@pytest.mark.parametrize("mass", [0.0, 0.5])
def test_a_budget_of_tokens(mass: float) -> None:
    selector = fitted({"tokens": TOKENS}, tokens=1000, mass=mass)
    chosen = selector.select()
    assert 990 <= TOKENS[chosen.rows].sum() <= 1000
    assert selector.certify(chosen).percent < 15
    assert selector.distances(chosen).after.upper <= selector.distances(chosen).before.upper
    with pytest.raises(UsageError, match="k is 5, and the budget is 1000 tokens"):
        selector.select(5)


def test_quotas_bars_and_thresholds_and_another_k() -> None:
    barred = np.zeros(N, bool)
    barred[fitted().select(10).rows] = True
    selector = fitted({"barred": barred, "fields": {"group": GROUPS}}, at_most="group=40%")
    for k in (50, 20):
        chosen = selector.select(k)
        assert len(chosen.rows) == k
        assert np.bincount(GROUPS[chosen.rows]).max() == 0.4 * k
        assert not barred[chosen.rows].any()
    cut = float(fitted().select().scores[24])
    assert len(fitted(threshold=cut).select().rows) == 25
    for rows in selector.mass_path([0.0, 1.0]).values():
        assert np.bincount(GROUPS[rows]).max() <= 20
        assert not barred[rows].any()


@pytest.mark.parametrize("mass", [0.5, 1.0])
def test_what_other_masses_and_halves_would_choose_is_solved_for_within_the_quotas(mass: float) -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 4, 1500)
    x, y = (rng.standard_normal((n, D)) + 1.5 * np.eye(D)[of] for n, of in ((1500, groups), (15, np.zeros(15, int))))
    selector = Selector(k=100, mass=mass, at_most="group=30%", backend="cpu", threads=1)
    chosen = selector.fit(y, x, fields={"group": groups}).select()
    path = selector.mass_path([mass])[mass]
    assert np.bincount(groups[path]).max() == 30
    # Without the prices of the quotas it is 0.93 and 0.86.
    assert np.isin(path, chosen.rows).mean() > 0.96
    assert selector.error_bars(chosen).pool.keeps > 0.9


def test_copies_and_chance() -> None:
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    rows = fitted(max_cosine=0.97).select().rows
    assert (unit[rows] @ unit[rows].T)[np.triu_indices(50, 1)].max() < 0.97
    first, second = (fitted(temperature=1.0, seed=seed, mass=0.0).select() for seed in (0, 1))
    assert set(first.rows.tolist()) != set(second.rows.tolist())
    assert (np.diff(first.scores) >= 0).all()


@pytest.mark.parametrize(
    ("arrays", "settings", "error", "message"),
    [
        ({}, {"tokens": "1K"}, UsageError, "a budget of tokens takes both"),
        ({"tokens": TOKENS}, {}, UsageError, "a budget of tokens takes both"),
        ({"tokens": TOKENS[:5]}, {"tokens": "1K"}, DataError, "give one whole number for each row, 500"),
        ({"barred": TOKENS}, {}, DataError, "barred are int64 .* give one true or false for each"),
        ({"barred": np.ones(N, bool)}, {}, UsageError, "of 500 documents 0 may be chosen"),
        ({}, {"at_most": "group=40%"}, UsageError, "at_most is for 'group': give the value of each row"),
        ({"fields": {"group": GROUPS}}, {"at_most": "group=10%"}, UsageError, "group=10% cannot be met"),
        ({}, {"threshold": -99}, UsageError, "threshold is -99.0: nothing that may be chosen"),
        ({}, {"exclude": "ids.txt"}, UsageError, "exclude is a setting of runs over files"),
        ({}, {"max_jaccard": 0.5}, UsageError, "max_jaccard is a setting of runs over files"),
    ],
)
def test_rules_that_cannot_be_kept_are_refused(
    arrays: dict[str, Any], settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fitted(arrays, **settings).select()
