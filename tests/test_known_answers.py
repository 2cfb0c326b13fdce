"""Cases whose right answer is known beforehand: what the method promises, and what simpler ways do instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gapsel import Selector
from gapsel.backends.cpu import CpuBackend
from gapsel.baselines import Nearest, Problem
from gapsel.records import Cost, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

D = 24


def around(rng: np.random.Generator, centre: NDArray[Any], rows: int, spread: float = 0.12) -> NDArray[Any]:
    return np.asarray(centre + spread * rng.standard_normal((rows, D)), np.float32)


def nearest(pool: NDArray[Any], target: NDArray[Any], k: int) -> NDArray[np.int64]:
    problem = Problem([pool], Target(target, np.full(len(target), 1 / len(target))), Cost(), k)
    return Nearest().choose(problem, CpuBackend(2))


@pytest.mark.parametrize("mass", [0.0, 0.1, 0.3])
def test_what_the_pool_lacks_is_chosen_not_what_it_has(mass: float) -> None:
    """GOT-D's own example: one per cent of the pool is of a kind that half of the target is."""
    rng = np.random.default_rng(0)
    common, rare = np.eye(2, D)
    pool = np.concatenate([around(rng, common, 9900), around(rng, rare, 100)])
    target = np.concatenate([around(rng, common, 40), around(rng, rare, 40)])
    chosen = Selector(k=100, mass=mass).fit(target, pool).select().rows
    assert (chosen >= 9900).mean() > 0.97
    assert (nearest(pool, target, 100) >= 9900).mean() < 0.6, "nearest neighbours see no reason to"


@pytest.mark.parametrize("mass", [0.0, 0.5, 1.0])
def test_copies_of_the_examples_are_found(mass: float) -> None:
    rng = np.random.default_rng(1)
    target = around(rng, np.eye(1, D)[0], 30, spread=0.2)
    pool = np.concatenate([rng.standard_normal((3000, D)).astype(np.float32), target])
    chosen = Selector(k=30, mass=mass).fit(target, pool).select().rows
    assert np.isin(np.arange(3000, 3030), chosen).mean() > 0.95


def test_an_example_that_lies_apart_gets_its_own_share_and_no_more() -> None:
    rng = np.random.default_rng(2)
    kinds = np.eye(2, D)
    pool = np.concatenate([around(rng, kinds[0], 4000), around(rng, kinds[1], 4000)])
    target = np.concatenate([around(rng, kinds[0], 49), around(rng, kinds[1], 1)])
    chosen = Selector(k=500, mass=1.0).fit(target, pool).select().rows
    assert 0 < (chosen >= 4000).sum() <= 2 * 500 / 50


def test_every_kind_of_a_target_gets_its_share_at_mass_1_and_the_strongest_takes_all_at_0() -> None:
    rng = np.random.default_rng(3)
    centres = np.eye(3, D)
    pool = np.concatenate([around(rng, centre, 3000) for centre in centres] + [around(rng, np.ones(D) / 5, 6000)])
    shares = np.array([25, 15, 10])
    target = np.concatenate([around(rng, centre, rows) for centre, rows in zip(centres, shares, strict=True)])
    at = {mass: Selector(k=200, mass=mass).fit(target, pool).select().rows // 3000 for mass in (0.0, 1.0)}
    assert (at[0.0] == 0).mean() > 0.95
    # The k lowest f round off the last rows that are neither full nor empty.
    assert np.allclose([(at[1.0] == kind).mean() for kind in range(3)], shares / 50, atol=0.06)
