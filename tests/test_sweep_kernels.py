"""Kernels of cuda/sweep.cu by themselves, at sizes that a whole sweep would take too long to reach here."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cuda_emulator import ORDERS, Module, compiler

pytestmark = pytest.mark.skipif(compiler() is None and not os.environ.get("CI"), reason="there is no g++")
SOURCE = Path(__file__).parent.parent / "cuda" / "sweep.cu"
SEGMENT = 16  # as the source has it
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def kernels() -> Module:
    return Module(SOURCE)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("groups", [1, 1100])
def test_column_sums_in_the_order_of_the_rows(kernels: Module, order: int, groups: int) -> None:
    """More than 512 groups, 16,384 rows, are more than a block adds in one round."""
    part, q = RNG.standard_normal((groups, 40)).astype(np.float32), RNG.standard_normal(40)
    expected = q.copy()
    for first in range(0, groups, SEGMENT):
        segment = np.zeros(40)
        for row in part[first : first + SEGMENT]:
            segment += row
        expected += segment
    kernels.get_function("accumulate")((2,), (1024,), (part, groups, 40, q), order=order)
    np.testing.assert_array_equal(q, expected)


def test_rows_that_stay_keep_their_order(kernels: Module) -> None:
    mass = (RNG.random(2500) < 0.4).astype(np.float32)
    kept, count = np.full(2500, -1, np.int32), np.zeros(1, np.int32)
    kernels.get_function("compact")((1,), (1024,), (mass, len(mass), kept, count))
    assert kept[: count[0]].tolist() == np.flatnonzero(mass).tolist()
    assert (kept[count[0] :] == -1).all()
