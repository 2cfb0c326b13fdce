"""The baselines against brute force, and what all promise: distinct rows, any cut of the pool, any k up to n."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gapsel import memory
from gapsel.backends.cpu import CpuBackend
from gapsel.backends.reference import ReferenceBackend
from gapsel.baselines import (
    BY_VECTORS,
    Baseline,
    Nearest,
    Problem,
    Random,
    RoundRobin,
    nearest_rows,
    neighbours,
    roundrobin,
)
from gapsel.baselines.problem import tiles
from gapsel.cost import cost_matrix
from gapsel.errors import DataError, UsageError
from gapsel.records import COST_KINDS, Cost, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = NDArray[Any]

CPU, REFERENCE = CpuBackend(1), ReferenceBackend()
COSTS = st.builds(Cost, st.sampled_from(COST_KINDS), st.booleans())
PLAIN = Cost("sqeuclidean", normalize=False)
problems = given(seed=st.integers(0, 999), n=st.integers(1, 60), m=st.integers(1, 8), cost=COSTS, data=st.data())
each_baseline = pytest.mark.parametrize("baseline", BY_VECTORS, ids=lambda baseline: baseline.name)


def target_of(y: Array, b: Array | None = None) -> Target:
    return Target(np.ascontiguousarray(y, np.float32), np.full(len(y), 1 / len(y)) if b is None else b / b.sum())


def random_problem(seed: int, n: int, m: int, d: int = 6) -> tuple[Array, Target]:
    """A pool with a mean far from zero and rows of many norms."""
    rng = np.random.default_rng(seed)
    x = (2 + rng.standard_normal((n, d)) * rng.uniform(0.5, 2, (n, 1))).astype(np.float32)
    return x, target_of(1 + rng.standard_normal((m, d)))


def grid_problem(seed: int, n: int, m: int) -> tuple[Array, Target]:
    """Small whole coordinates: the plain cost is exact in float32, and many costs are equal."""
    rng = np.random.default_rng(seed)
    return rng.integers(-2, 3, (n, 2)).astype(np.float32), target_of(rng.integers(-2, 3, (m, 2)))


def cut(x: Array, at: list[int]) -> list[Array]:
    """Cut a pool into shards, some of them empty."""
    return [np.ascontiguousarray(part) for part in np.split(x, sorted(place % (len(x) + 1) for place in at))]


def choose(baseline: Baseline, x: Array | list[Array], target: Target, k: int, cost: Cost = PLAIN) -> list[int]:
    shards = x if isinstance(x, list) else [x]
    rows = baseline.choose(Problem(shards, target, cost, k), CPU)
    assert rows.shape == (k,)
    assert rows.dtype == np.int64
    return [int(row) for row in rows]


def brute_round_robin(c: Array, k: int) -> list[int]:
    """Take turns over the whole matrix of costs (n, m)."""
    chosen: list[int] = []
    for column in itertools.islice(itertools.cycle(range(c.shape[1])), k):
        chosen.append(next(int(row) for row in np.argsort(c[:, column], kind="stable") if row not in chosen))
    return chosen


# ---- what all promise


@each_baseline
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(1, 40), m=st.integers(1, 6), data=st.data())
def test_rows_are_distinct_and_the_cut_changes_nothing(
    baseline: Baseline, seed: int, n: int, m: int, data: st.DataObject
) -> None:
    x, target = random_problem(seed, n, m)
    k = data.draw(st.integers(1, n))
    whole = choose(baseline, x, target, k, Cost())
    assert len(set(whole)) == k
    assert set(whole) <= set(range(n))
    assert choose(baseline, cut(x, data.draw(st.lists(st.integers(0, 99), max_size=4))), target, k, Cost()) == whole


@each_baseline
@pytest.mark.parametrize("m", [1, 7])
def test_k_may_be_the_whole_pool(baseline: Baseline, m: int) -> None:
    x, target = random_problem(0, 300, m)
    assert sorted(choose(baseline, x, target, 300)) == list(range(300))


@each_baseline
def test_half_precision_pool(baseline: Baseline) -> None:
    x, target = random_problem(0, 50, 3)
    half = x.astype(np.float16)
    assert choose(baseline, half, target, 9) == choose(baseline, half.astype(np.float32), target, 9)


@each_baseline
def test_what_does_not_fit_is_refused(baseline: Baseline) -> None:
    x, target = random_problem(0, 10, 3)
    for k in (0, 11):
        with pytest.raises(UsageError, match=f"k is {k}: the pool has 10 rows"):
            choose(baseline, x, target, k)
    with pytest.raises(UsageError, match="the pool has 0 rows"):
        choose(baseline, [], target, 1)
    with pytest.raises(DataError, match=r"shard 1 has shape \(10, 5\): give \(rows, 6\)"):
        choose(baseline, [x, x[:, :5]], target, 1)
    with pytest.raises(DataError, match="at least one of positive weight"):
        choose(baseline, x, Target(target.y, np.zeros(3)), 1)


@pytest.mark.parametrize("baseline", [Nearest(), RoundRobin()], ids=lambda baseline: baseline.name)
@pytest.mark.parametrize(("value", "cost"), [(0.0, Cost()), (np.nan, Cost()), (np.inf, PLAIN)])
def test_a_row_without_cost_is_named(baseline: Baseline, value: float, cost: Cost) -> None:
    x, target = random_problem(0, 10, 3)
    x[7] = value
    with pytest.raises(DataError, match="row 7"):
        choose(baseline, [x[:4], x[4:]], target, 2, cost)


@pytest.mark.parametrize("baseline", [Nearest(), RoundRobin()], ids=lambda baseline: baseline.name)
def test_targets_of_weight_zero_take_part_in_nothing(baseline: Baseline) -> None:
    x, target = random_problem(0, 50, 4)
    without = target_of(target.y[[0, 2]])
    assert choose(baseline, x, Target(target.y, np.array([0.5, 0, 0.5, 0])), 20) == choose(baseline, x, without, 20)


def test_names_differ() -> None:
    assert len({baseline.name for baseline in BY_VECTORS}) == len(BY_VECTORS)


# ---- random


def test_random_depends_on_the_seed_alone() -> None:
    x, target = random_problem(0, 1000, 2)
    by_seed = [Random().choose(Problem([x], target, PLAIN, 20, seed), CPU).tolist() for seed in (0, 0, 1)]
    assert by_seed[0] == by_seed[1] != by_seed[2]
    assert by_seed[0] == Random().choose(Problem([x * 2], target, Cost(), 20), REFERENCE).tolist()


def test_random_is_uniform_in_row_and_in_rank() -> None:
    x, target = random_problem(0, 5, 1)
    counts = np.zeros((5, 3))
    for seed in range(2000):
        counts[Random().choose(Problem([x], target, PLAIN, 3, seed), CPU), range(3)] += 1
    # Each row has each rank 400 times, give or take 18.
    assert abs(counts - 400).max() < 90


# ---- nearest neighbours


@settings(max_examples=60, deadline=None)
@problems
def test_nearest_is_brute_force(seed: int, n: int, m: int, cost: Cost, data: st.DataObject) -> None:
    x, target = random_problem(seed, n, m)
    k = data.draw(st.integers(1, n))
    smallest = cost_matrix(x, target.y, cost).min(axis=1)
    chosen = choose(Nearest(), x, target, k, cost)
    # Costs so close that float32 cannot tell them apart may come in either order.
    np.testing.assert_allclose(smallest[chosen], np.sort(smallest)[:k], rtol=1e-3, atol=1e-5)


def test_nearest_gives_ties_to_the_lower_row() -> None:
    x, target = grid_problem(1, 60, 3)
    expected = np.argsort(cost_matrix(x, target.y, PLAIN).min(axis=1), kind="stable")
    assert Nearest().choose(Problem([x], target, PLAIN, 60), REFERENCE).tolist() == expected.tolist()
    x, target = random_problem(1, 60, 3)
    chosen = choose(Nearest(), np.concatenate([x, x]), target, 120, Cost())
    assert chosen[1::2] == [row + 60 for row in chosen[::2]]


# ---- round-robin neighbours


@settings(max_examples=100, deadline=None)
@problems
def test_round_robin_is_brute_force(seed: int, n: int, m: int, cost: Cost, data: st.DataObject) -> None:
    x, target = random_problem(seed, n, m)
    k = data.draw(st.integers(1, n))
    c, free = cost_matrix(x, target.y, cost), np.ones(n, np.bool_)
    for turn, row in enumerate(choose(RoundRobin(), x, target, k, cost)):
        own = c[:, turn % m]
        # Costs so close that float32 cannot tell them apart may come in either order.
        assert own[row] <= own[free].min() * (1 + 1e-4) + 1e-5
        free[row] = False


def test_round_robin_is_brute_force_in_order() -> None:
    x, target = random_problem(11, 60, 7)
    assert choose(RoundRobin(), x, target, 60) == brute_round_robin(cost_matrix(x, target.y, PLAIN), 60)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 999),
    n=st.integers(1, 60),
    m=st.integers(1, 8),
    limits=st.tuples(st.integers(1, 3), st.integers(1, 100), st.sampled_from([1, 4, 32])),
    data=st.data(),
)
def test_round_robin_with_ties_and_lists_that_are_used_up(
    seed: int, n: int, m: int, limits: tuple[int, int, int], data: st.DataObject
) -> None:
    x, target = grid_problem(seed, n, m)
    k = data.draw(st.integers(1, n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roundrobin, "_SLACK", 0)
        patch.setattr(neighbours, "_TILE_ROWS", limits[2])
        for name, value in zip(("_SPARE", "_LIST_NUMBERS"), limits[:2], strict=True):
            patch.setattr(roundrobin, name, value)
        chosen = choose(RoundRobin(), cut(x, data.draw(st.lists(st.integers(0, 99), max_size=3))), target, k)
    assert chosen == brute_round_robin(cost_matrix(x, target.y, PLAIN), k)


def test_round_robin_takes_turns_whatever_the_weights() -> None:
    x = np.array([[0.0], [1], [2], [10], [11], [30]], np.float32)
    y = np.array([[0.0], [0.2], [10]])
    assert choose(RoundRobin(), x, target_of(y), 6) == [0, 1, 3, 2, 4, 5]
    assert choose(RoundRobin(), x, target_of(y, np.array([1.0, 50, 3])), 6) == [0, 1, 3, 2, 4, 5]


def test_round_robin_far_from_the_origin() -> None:
    x, target = random_problem(3, 200, 5)
    far = np.float32(4096)
    x, target = np.round(x * 64) / 64, target_of(np.round(target.y * 64) / 64)
    moved = choose(RoundRobin(), x + far, target_of(target.y + far), 100)
    c = cost_matrix(x, target.y, PLAIN)
    near = brute_round_robin(c, 100)
    turns = np.arange(100) % 5
    np.testing.assert_allclose(c[moved, turns].sum(), c[near, turns].sum(), rtol=1e-4)


def test_round_robin_reads_the_pool_once_for_a_usual_k(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def counted(shards: list[Array], height: int) -> Iterator[tuple[int, int, Array]]:
        reads.append(height)
        return tiles(shards, height)

    monkeypatch.setattr(neighbours, "tiles", counted)
    x, target = random_problem(5, 20_000, 50)
    choose(RoundRobin(), x, target, 400, Cost())
    assert len(reads) == 1


@pytest.mark.parametrize("cost", [PLAIN, Cost()], ids=["plain", "unit"])
def test_threads_change_no_row_and_leave_the_memory_alone(cost: Cost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles wait for each other, so that later ones are done first; and equal costs are many."""
    monkeypatch.setattr(neighbours, "_TILE_ROWS", 64)
    x, target = grid_problem(7, 3000, 9) if cost is PLAIN else random_problem(7, 3000, 9)
    taken = np.arange(3000) % 3 == 0
    shards = cut(x, [1, 700, 701])
    expected = nearest_rows(shards, target.y, cost, 40, taken)
    below, turns = neighbours._below, itertools.cycle([0.003, 0, 0.001])

    def late(values: Array, cut: Array, start: int) -> Array:
        time.sleep(next(turns))
        return below(values, cut, start)

    monkeypatch.setattr(neighbours, "_below", late)
    for threads in (0, 2, 5):
        assert np.array_equal(nearest_rows(shards, target.y, cost, 40, taken, threads=threads), expected)
    c = cost_matrix(x, target.y, cost)[~taken]
    if cost is PLAIN:
        assert np.array_equal(np.argsort(c.T, axis=1, kind="stable")[:, :40], np.cumsum(~taken)[expected] - 1)
    assert neighbours._at_a_time(4, 4096, target.y) == 4
    memory.allow(1)
    try:
        assert neighbours._at_a_time(4, 4096, target.y) == 1
    finally:
        memory.allow(None)


def test_the_first_bad_row_is_named_whoever_sees_one_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_TILE_ROWS", 64)
    x, target = random_problem(8, 3000, 9)
    x[[2222, 1111]] = 0
    for threads in (1, 4):
        with pytest.raises(DataError, match="pool row 1111 has norm 0"):
            nearest_rows([x], target.y, Cost(), 10, threads=threads)


@settings(max_examples=200, deadline=None)
@given(values=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20))
def test_keys_are_in_the_order_of_value_and_row(values: list[float]) -> None:
    keys = neighbours._keys(np.array([values], np.float32), np.arange(len(values)))
    assert np.argsort(keys[0]).tolist() == np.argsort(np.array(values, np.float32), kind="stable").tolist()


@pytest.mark.parametrize(("m", "height"), [(1, 4096), (1024, 4096), (1025, 2048), (1 << 23, 1)])
def test_tiles_are_lower_where_there_are_many_targets(m: int, height: int) -> None:
    assert neighbours._tile_height(m) == height
