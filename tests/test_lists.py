"""Shortlists: which rows they have, what these stand for, and how large they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapsel.backends.cpu import CpuBackend
from gapsel.cost import measure_scale
from gapsel.potentials import Dual, Rows, ascend
from gapsel.potentials.sizes import ListSizes, missed_mass, sizes_by_plain, sizes_nearby
from gapsel.records import Cost, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.potentials.rows import Shortlist

N, K = 5000, 50


def a_list(sizes: ListSizes, f: NDArray[np.float32], *, base: int = 0) -> Shortlist:
    x = np.random.default_rng(0).standard_normal((N, 4)).astype(np.float32)
    rows = Rows.whole([x], K)
    rows = rows.beside([x[:base]]) if base else rows
    f = np.concatenate([f, np.zeros(base, np.float32)])
    return rows.shortlist(f, sizes.lowest, sizes.extra, np.random.default_rng(1), dense=sizes.dense)


@pytest.mark.parametrize("base", [0, 700])
def test_the_lowest_are_there_as_they_are_and_others_stand_for_the_rest(base: int) -> None:
    f = np.random.default_rng(2).standard_normal(N).astype(np.float32)
    rank = np.argsort(np.argsort(f))
    short = a_list(ListSizes(1000, 400, 300), f, base=base)
    own = short.index[short.index < N]
    stands_for = np.asarray(short.rows.capacity)[: len(own)] * K
    lowest, upper, rest = (rank[own] < 200, (rank[own] >= 200) & (rank[own] < 1000), rank[own] >= 1000)
    assert (lowest.sum(), upper.sum(), rest.sum()) == (200, 200, 300)
    np.testing.assert_allclose(stands_for[lowest], 1)
    np.testing.assert_allclose(stands_for[upper], 800 / 200)
    np.testing.assert_allclose(stands_for[rest], 4000 / 300)
    assert stands_for.sum() == pytest.approx(N)
    assert short.rows.base == min(base, 300)
    assert np.sum(short.rows.a) == pytest.approx(1)
    np.testing.assert_array_equal(np.sort(rank[short.lowest]), np.arange(1000))


def test_what_the_lowest_take_is_not_missed() -> None:
    f = np.arange(N, dtype=np.float32)
    short, taken = a_list(ListSizes(1000, 400, 300), f), np.zeros(N)
    taken[[3, 500, 999]] = 0.2
    assert missed_mass(taken, short) == pytest.approx(0)
    taken[[1000, 4999]] = 0.1
    assert missed_mass(taken, short) == pytest.approx(0.2)


@settings(max_examples=300, deadline=None)
@given(
    n=st.integers(300_000, 10**9), m=st.integers(1, 5000), share=st.floats(1e-6, 0.1),
    mass=st.floats(0.01, 1.0), room=st.integers(60_000, 300_000_000),
)  # fmt: skip
def test_lists_have_room_and_are_a_part_of_the_pool(n: int, m: int, share: float, mass: float, room: int) -> None:
    """As long as so many rows as stand for the rest at least are not more than that already."""
    k = max(1.0, share * n)
    for sizes in (sizes_by_plain(n, m, k, mass, room), sizes_nearby(n, m, k, mass, room)):
        assert 0 < sizes.dense <= sizes.lowest <= n
        assert sizes.extra >= min(8 * m, 1024)
        if room < n:
            assert sizes.dense + sizes.extra <= max(min(room, n // 4), 2 * max(8 * m, 1024))


@pytest.mark.parametrize("seed", range(3))
def test_a_list_is_left_when_no_target_is_hungry(seed: int) -> None:
    """At a mass of 1 and a loose tolerance, with three targets that next to nothing of the pool is near to."""
    rng = np.random.default_rng(seed)
    x, y = (rng.standard_normal((rows, 8)).astype(np.float32) for rows in (2000, 40))
    y[:3] += 6
    target, cost = Target(y, np.full(40, 1 / 40)), Cost(normalize=False)
    rows, eps = Rows.whole([x], 100), 0.05 * measure_scale(x, target, cost).mean
    dual = Dual(CpuBackend(1), rows, target, rows.box(1.0, 0.3 * eps), eps, cost)
    loose, fed, never = (
        ascend(dual, np.zeros(40), tolerance=0.3, max_sweeps=60, fed=fed, own_gram=True) for fed in (0.0, 0.5, 2.0)
    )
    assert (loose.point.sweep.q / target.b).min() < 1e-3
    assert (fed.point.sweep.q / target.b).min() >= 0.5
    assert loose.sweeps < fed.sweeps <= never.sweeps == 12, "what cannot be had is not waited for"
