"""The Gram of peaked plans, whose rows go into it by the few columns that carry nearly all of their mass."""

from __future__ import annotations

import numpy as np
import pytest

from gapsel.backends.cpu import CpuBackend
from gapsel.cost import cost_matrix
from sweeps import ISAS, REFERENCE, Problem, assert_agrees, bits, problem

# As in rust/gram.rs: a row is one of few columns where no more than one in so many has this share of its mass.
SPARSE, LEAST = 32, 2.0**-16


def peaked(n: int, seed: int = 0) -> Problem:
    """A problem of 400 targets in which some rows have few columns and some have many."""
    p = problem(n, 400, 16, rel=0.002, seed=seed)
    z = (p.g - cost_matrix(p.x, p.target.y, p.cost)) / p.eps + np.log(np.maximum(p.target.b, 1e-300))
    plan = np.exp(z - z.max(axis=1, keepdims=True))
    plan /= plan.sum(axis=1, keepdims=True)
    few = (plan > LEAST).sum(axis=1) <= (p.target.b > 0).sum() // SPARSE
    assert 0.2 < few.mean() < 0.95
    return p


@pytest.mark.parametrize("seed", range(3))
def test_the_gram_agrees_with_the_reference(cpu: CpuBackend, seed: int) -> None:
    p = peaked(700, seed)
    assert_agrees(p, p.sweep(cpu), p.sweep(REFERENCE))


@pytest.mark.parametrize("isa", ISAS)
def test_threads_and_shards_change_no_bit(isa: str) -> None:
    p = peaked(9000)
    whole = bits(p.sweep(CpuBackend(1, isa), k=50))
    for threads in (2, 3):
        assert bits(p.sweep(CpuBackend(threads, isa), np.split(p.x, [77, 5000]), k=50)) == whole
