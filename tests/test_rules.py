"""Budgets and quotas against brute force: what is chosen keeps to every rule, and the bound is the linear optimum."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapsel.errors import UsageError
from gapsel.rules import Budget, Quota, Rules, check_met, choose, least_mean

Array = np.ndarray[Any, np.dtype[Any]]


def quota(codes: list[int], share: float, field: str = "source") -> Quota:
    return Quota(field, share, np.array(codes, np.int32), {code: f"s{code}" for code in codes})


def chosen(f: list[float], rules: Rules) -> list[int]:
    return list(map(int, choose(lambda: [np.array(f, np.float32)], rules).rows))


def greedy(f: Array, rules: Rules) -> list[int]:
    """The rules as they are said, one row after the other."""
    budget = rules.budget
    rows, left = list[int](), budget.amount
    for row in sorted(range(len(f)), key=lambda row: (f[row], row)):
        size = 1 if budget.sizes is None else int(budget.sizes[row])
        if budget.barred is not None and budget.barred[row]:
            continue
        if size > left:
            if 100 * left <= budget.amount:
                break
            continue
        within = [
            sum(1 if budget.sizes is None else int(budget.sizes[i]) for i in rows if one.codes[i] == one.codes[row])
            + size <= one.most(budget.amount)
            for one in rules.quotas
        ]  # fmt: skip
        if all(within):
            rows.append(row)
            left -= size
    return rows


@st.composite
def problems(draw: st.DrawFn) -> tuple[Array, Rules]:
    """Some f with ties, and a budget that some rows, quotas and barred ones leave room for."""
    n = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    f = rng.integers(0, 12, n).astype(np.float32)
    barred = rng.random(n) < 0.2 if draw(st.booleans()) else None
    sizes = rng.integers(0, 9, n).astype(np.int32) if draw(st.booleans()) else None
    there = n if sizes is None else int(sizes.sum())
    quotas = tuple(
        Quota(f"field {at}", draw(st.sampled_from([0.2, 0.5, 0.7])), rng.integers(0, 3, n).astype(np.int32), {})
        for at in range(draw(st.integers(0, 2)))
    )
    try:
        return f, Rules(Budget(n, draw(st.integers(1, max(1, there))), sizes, barred), quotas)
    except UsageError:
        return f, Rules(Budget(n, n), quotas[:0])


@given(problems())
@settings(max_examples=60, deadline=None)
def test_the_choice_is_the_one_row_after_row(problem: tuple[Array, Rules]) -> None:
    f, rules = problem
    masked = f if rules.budget.barred is None else np.where(rules.budget.barred, np.float32(np.inf), f)
    assert choose(lambda: np.array_split(masked, 3), rules).rows.tolist() == greedy(f, rules)


@given(problems())
@settings(max_examples=25, deadline=None)
def test_no_choice_has_a_smaller_mean_than_the_bound(problem: tuple[Array, Rules]) -> None:
    """Tried on every subset of eight rows that keeps to budget and quotas."""
    f, rules = problem[0][:8], problem[1]
    sizes = None if rules.budget.sizes is None else np.maximum(rules.budget.sizes[:8], 1)
    budget = Budget(len(f), (len(f) + 1) // 2 if sizes is None else int(sizes.sum() + sizes.max()) // 2, sizes)
    quotas = tuple(one.part(np.arange(len(f))) for one in rules.quotas)
    units = budget.units(slice(None))
    for count in range(1, len(f) + 1):
        for subset in map(list, itertools.combinations(range(len(f)), count)):
            used = int(units[subset].sum())
            over = any(
                np.bincount(one.codes[subset], units[subset]).max() > one.most(budget.amount) for one in quotas
            )  # fmt: skip
            if used <= budget.amount and not over:
                mean = float(units[subset] @ f[subset]) / used
                assert least_mean(f, budget, quotas, used) <= mean + 1e-6


@given(problems())
@settings(max_examples=25, deadline=None)
def test_the_bound_of_one_quota_is_the_linear_programs_optimum(problem: tuple[Array, Rules]) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    f, rules = problem
    budget, quotas = rules.budget, rules.quotas[:1]
    most = [one.most(budget.amount) for one in quotas]
    groups = [np.equal.outer(np.unique(one.codes), one.codes) for one in quotas]
    found = optimize.linprog(
        f, A_eq=np.ones((1, len(f))), b_eq=[budget.amount], bounds=np.c_[np.zeros(len(f)), budget.allowed()],
        A_ub=groups[0] if quotas else None, b_ub=np.full(len(groups[0]), most[0]) if quotas else None,
    )  # fmt: skip
    if found.success:
        assert least_mean(f, budget, quotas, budget.amount) == pytest.approx(found.fun / budget.amount, abs=1e-6)


def test_tokens_fill_the_budget_and_pass_over_what_does_not_fit() -> None:
    sizes = np.array([40, 70, 30, 20, 9, 5], np.int32)
    rules = Rules(Budget(6, 100, sizes))
    assert chosen([0, 1, 2, 3, 4, 5], rules) == [0, 2, 3, 4]
    shares = rules.budget.shares(np.array([0, 2, 3, 4]))
    assert shares is not None
    assert shares.tolist() == pytest.approx([40 / 99, 30 / 99, 20 / 99, 9 / 99])
    assert np.asarray(rules.budget.capacity()).tolist() == [0.4, 0.7, 0.3, 0.2, 0.09, 0.05]


def test_a_quota_holds_and_says_which_group_is_full() -> None:
    rules = Rules(Budget(6, 4), (quota([0, 0, 0, 1, 1, 1], 0.5),))
    found = choose(lambda: [np.arange(6, dtype=np.float32)], rules)
    assert found.rows.tolist() == [0, 1, 3, 4]
    assert (found.over_quota, found.full) == ([1], [["s0", "s1"]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Budget(5, 4, barred=np.array([1, 1, 0, 0, 0], bool)), "k is 4, and of 5 documents 3 may be chosen"),
        (lambda: Budget(2, 3, np.array([4, 5], np.int32)), "3 tokens, and the shortest document has 4"),
        (lambda: Budget(2, 30, np.array([4, 5], np.int32)), "30 tokens, and the documents that may be chosen have 9"),
        (lambda: check_met(Budget(2, 2), (quota([7, 7], 0.5),)), "source=50% cannot be met: the pool has 1 group of"),
    ],
)
def test_a_budget_that_cannot_be_filled_is_refused(make: Any, message: str) -> None:  # noqa: ANN401
    with pytest.raises(UsageError, match=message):
        make()


def test_shares_are_exact_where_floats_are_not() -> None:
    assert [quota([0], share).most(100) for share in (0.29, 0.57, 0.58)] == [29, 57, 58]


def test_few_of_many_are_looked_at_again_and_again_until_quotas_are_met() -> None:
    """The lowest 3,000 rows are of one group, which may be a quarter of the choice."""
    f = np.arange(4000, dtype=np.float32)
    rules = Rules(
        Budget(4000, 40), (Quota("source", 0.25, (f >= 3000).astype(np.int32) * (1 + (f % 3)).astype(np.int32), {}),)
    )
    assert choose(lambda: [f], rules).rows.tolist() == [*range(10), *range(3000, 3030)]
