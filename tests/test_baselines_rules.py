"""Simple methods under the rules of a run: each keeps to all of them, in its own order, by brute force."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gapsel.backends.reference import ReferenceBackend
from gapsel.baselines import Baseline, Centroid, Curated, Kde, Nearest, Problem, Random, RoundRobin, roundrobin
from gapsel.cost import cost_matrix
from gapsel.records import Cost, Target
from gapsel.rules import Budget, ByVectors, Quota, Rules, Walk
from test_rules import greedy, problems

Array = NDArray[Any]

REFERENCE = ReferenceBackend()
PLAIN = Cost("sqeuclidean", normalize=False)
every = pytest.mark.parametrize(
    "baseline", [Random(), Nearest(), RoundRobin(), Centroid(), Kde(), Curated()], ids=lambda one: one.name
)
in_one_order = pytest.mark.parametrize("baseline", [Nearest(), Centroid(), Curated()], ids=lambda one: one.name)


def problem_of(n: int, rules: Rules | None, seed: int = 0, k: int = 1, beyond: Array | None = None) -> Problem:
    """Whole coordinates, so that many costs are equal; half of the rows have the target's label."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(-2, 3, (n, 2)).astype(np.float32), rng.integers(-2, 3, (4, 2)).astype(np.float32)
    akin = np.arange(n) % 2 == 0
    begin = None if rules is None else lambda: Walk(rules, None, beyond)
    return Problem([x], Target(y, np.full(4, 0.25)), PLAIN, k, akin=akin, begin=begin)


def keeps_to(rules: Rules, rows: list[int]) -> bool:
    """Whether a set of rows keeps to every rule."""
    budget, chosen = rules.budget, np.array(rows, np.int64)
    units = budget.units(chosen)
    within = [
        np.bincount(quota.codes[chosen], units).max(initial=0) <= quota.most(budget.amount) for quota in rules.quotas
    ]
    barred = budget.barred is not None and bool(budget.barred[chosen].any())
    return len(set(rows)) == len(rows) and units.sum() <= budget.amount and all(within) and not barred


@every
@given(case=problems(), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_all_rules_are_kept_and_the_budget_is_used(baseline: Baseline, case: tuple[Array, Rules], seed: int) -> None:
    f, rules = case
    beyond = f > np.median(f)
    rows = baseline.choose(problem_of(len(f), rules, seed, beyond=beyond), REFERENCE).tolist()
    assert keeps_to(rules, rows)
    assert not beyond[rows].any()
    left = rules.budget.amount - int(rules.budget.units(np.array(rows, np.int64)).sum())
    others = set(range(len(f))) - set(rows) - set(np.flatnonzero(beyond).tolist())
    if 100 * left > rules.budget.amount:
        assert not [row for row in others if keeps_to(rules, [*rows, row])], "there is room for more"


@in_one_order
@given(case=problems())
@settings(max_examples=30, deadline=None)
def test_a_method_goes_through_its_own_order(baseline: Baseline, case: tuple[Array, Rules]) -> None:
    f, rules = case
    order = baseline.choose(problem_of(len(f), None, k=len(f)), REFERENCE)
    rank = np.argsort(order).astype(np.float32)
    assert baseline.choose(problem_of(len(f), rules), REFERENCE).tolist() == greedy(rank, rules)


def taking_turns(c: Array, rules: Rules) -> list[int]:
    """Round-robin neighbours as they are said, on the whole matrix of costs (n, m)."""
    walk, free, chosen = Walk(rules), np.ones(len(c), np.bool_), list[int]()
    cycle, again = itertools.cycle(range(c.shape[1])), list[int]()
    while not walk.full:
        free &= walk.room()
        turns, offered = again or [next(cycle) for _ in range(walk.expects)], list[int]()
        for target in turns[: free.sum()]:
            row = next(int(row) for row in np.argsort(c[:, target], kind="stable") if free[row])
            free[row] = False
            offered.append(row)
        if not offered:
            return chosen
        taken = walk.offer(np.array(offered))
        chosen += [row for row, one in zip(offered, taken, strict=True) if one]
        again = [] if again else [turns[at] for at in np.flatnonzero(~taken)]
    return chosen


@given(case=problems(), seed=st.integers(0, 99), spare=st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_round_robin_under_rules_is_brute_force(case: tuple[Array, Rules], seed: int, spare: int) -> None:
    f, rules = case
    problem = problem_of(len(f), rules, seed)
    c = cost_matrix(problem.shards[0], problem.target.y, PLAIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roundrobin, "_SLACK", 0)
        patch.setattr(roundrobin, "_SPARE", spare)
        assert RoundRobin().choose(problem, REFERENCE).tolist() == taking_turns(c, rules)


def test_a_target_whose_rows_are_refused_takes_others() -> None:
    """Both targets have their share, though the group that one of them would take from is full after a single row."""
    x = np.array([[0.0], [0.1], [0.2], [0.3], [5.0], [10.0], [10.1], [10.2]], np.float32)
    quota = Quota("domain", 0.25, np.array([0, 0, 0, 0, 1, 2, 3, 4], np.int32), {})
    problem = Problem(
        [x], Target(np.array([[0.0], [10.0]], np.float32), np.full(2, 0.5)), PLAIN, 4,
        begin=lambda: Walk(Rules(Budget(8, 4), (quota,))),
    )  # fmt: skip
    assert RoundRobin().choose(problem, REFERENCE).tolist() == [0, 5, 6, 4]


def test_random_is_uniform_among_those_that_may_be_chosen() -> None:
    barred = np.array([True, False, False, False, True, False])
    counts = np.zeros(6)
    for seed in range(1000):
        x, y = np.zeros((6, 1), np.float32), Target(np.zeros((1, 1), np.float32), np.ones(1))
        rules = Rules(Budget(6, 2, None, barred))
        counts[Random().choose(Problem([x], y, PLAIN, 2, seed, begin=lambda: Walk(rules)), REFERENCE)] += 1  # noqa: B023
    # Each of the four has one of the two places 500 times, give or take 16.
    assert (counts[barred] == 0).all()
    assert abs(counts[~barred] - 500).max() < 70


@every
def test_near_copies_are_passed_over(baseline: Baseline) -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((20, 6)), 10, axis=0).astype(np.float32)
    y = Target(rng.standard_normal((3, 6)).astype(np.float32), np.full(3, 1 / 3))
    rules, akin = Rules(Budget(200, 20)), np.ones(200, np.bool_)
    problem = Problem([x], y, Cost(), 20, akin=akin, begin=lambda: Walk(rules, ByVectors([x], 0.999)))
    rows = baseline.choose(problem, REFERENCE)
    assert sorted(rows // 10) == list(range(20)), "one of each ten copies"
