"""The bound on what transport lies above a dual value: it holds wherever the look is, and is tight at the solution."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapsel.backends.reference import share_kept
from gapsel.primal import excess, most_stood_for
from gapsel.records import COST_KINDS, Box, Cost, CostKind, Query
from solving import CPU, REFERENCE, base, cloud, costs, make, scaled_to_the_end, weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.potentials import Task
    from gapsel.records import Sweep


def looked(task: Task, g: NDArray[np.float64], backend: Backend) -> tuple[Query, Sweep, NDArray[np.float32]]:
    f = np.empty(task.rows.n, np.float32)
    query = Query(task.target, g, Box.fixed(base(task)), task.eps, task.cost, gram=True, f=f)
    return query, backend.sweep(task.rows.shards, query), f


def best_g(task: Task) -> NDArray[np.float64]:
    """The other side of f at the solution: g_j = -eps log sum_i a_i exp((f_i - c_ij) / eps)."""
    z = (scaled_to_the_end(task)[0][:, None] - costs(task)) / task.eps
    return np.asarray(-task.eps * np.log(base(task) @ np.exp(z)))


@pytest.mark.parametrize("backend", [REFERENCE, CPU], ids=["reference", "cpu"])
@given(
    n=st.integers(1, 20),
    m=st.integers(1, 6),
    kind=st.sampled_from(COST_KINDS),
    normalize=st.booleans(),
    away=st.sampled_from([0.01, 0.1, 1.0, 5.0]),
    empty=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_transport_is_never_further_above(  # noqa: PLR0917
    backend: Backend, n: int, m: int, kind: CostKind, away: float, seed: int, *, normalize: bool, empty: bool
) -> None:
    """However few rows the Gram has, whether some weigh nothing, and without a Gram."""
    rng, a = np.random.default_rng(seed), weights(n, seed) ** 2
    a[1::2] *= not empty
    x, y = cloud(n, 3, seed), cloud(m, 3, seed + 1, shift=0.5)
    task = make(x, y, a=a, b=weights(m, seed + 2), cost=Cost(kind, normalize))
    g = best_g(task) + away * task.eps * rng.standard_normal(m)
    query, sweep, f = looked(task, g, backend)
    lacks = scaled_to_the_end(task)[2] - (float(task.target.b @ g) + sweep.value)
    rounding = 3e-6 * (1.0 + costs(task).max())
    for one in (sweep, replace(sweep, gram=None, gram_q=None)):
        assert excess(query, one, f, 3) >= lacks - rounding


@pytest.mark.parametrize("cost", [Cost(), Cost(normalize=False), Cost("euclidean"), Cost("cosine")], ids=repr)
def test_near_the_solution_it_is_what_is_lacking(cost: Cost) -> None:
    task = make(cloud(50, 3), cloud(4, 3, seed=1), cost=cost)
    g = best_g(task) + 0.03 * task.eps * np.random.default_rng(0).standard_normal(4)
    query, sweep, f = looked(task, g, REFERENCE)
    lacks = scaled_to_the_end(task)[2] - (float(task.target.b @ g) + sweep.value)
    assert lacks > 1e-6
    assert excess(query, sweep, f, 3) == pytest.approx(lacks, rel=0.05)


def test_rows_stand_for_no_more_than_is_said() -> None:
    """The reference says how many the lightest row that may be kept stands for; rows without weight are not."""
    r = np.r_[weights(400), 0.0]
    kept = share_kept(r, 30, 8)
    assert most_stood_for(r, 30, 401, 8) == pytest.approx(1.0 / kept[kept > 0].min())
