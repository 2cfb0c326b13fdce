"""cuda/topk.cu, run by the emulator, against a stable sort."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuda_emulator import ORDERS, Module, compiler
from gapsel.backends.gpu_topk import TILE, TopK, merge, topk
from gapsel.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = pytest.mark.skipif(compiler() is None and not os.environ.get("CI"), reason="there is no g++")
SOURCE = Path(__file__).parent.parent / "cuda" / "topk.cu"
RNG = np.random.default_rng(0)
N = TILE + 77


def lowest(values: NDArray[np.float32], k: int) -> list[int]:
    return list(np.argsort(values, kind="stable")[:k])


@pytest.fixture(scope="module")
def kernels() -> Module:
    return Module(SOURCE)


VALUES: dict[str, NDArray[np.float32]] = {
    "spread": RNG.standard_normal(N).astype(np.float32),
    "peaky": (1.5 + 1e-6 * RNG.standard_normal(N)).astype(np.float32),
    "ties": RNG.integers(-3, 3, N).astype(np.float32),
    "one value": np.full(N, -2.5, np.float32),
    "falling": -np.arange(N, dtype=np.float32),
    "any magnitude": (RNG.standard_normal(N) * 10.0 ** RNG.integers(-45, 38, N)).astype(np.float32),
    "infinities": RNG.choice(np.array([np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45], np.float32), N),
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("k", [0, 1, 100, N - 1, N])
def test_as_a_stable_sort(kernels: Module, kind: str, k: int) -> None:
    rows = topk(kernels, np, VALUES[kind], k)
    assert rows.dtype == np.int64
    assert rows.tolist() == lowest(VALUES[kind], k)


@pytest.mark.parametrize("order", ORDERS[1:])
def test_the_order_of_threads_and_blocks_changes_nothing(kernels: Module, order: int) -> None:
    kernels.order = order
    rows = topk(kernels, np, VALUES["ties"], 1000)
    kernels.order = 0
    assert rows.tolist() == lowest(VALUES["ties"], 1000)


@given(
    cuts=st.lists(st.integers(0, 600), max_size=4),
    levels=st.sampled_from([1, 2, 5, 1000]),
    k=st.integers(1, 300),
    piece=st.integers(100, 700),
    far=st.sampled_from([0, 1 << 40]),
    seed=st.integers(0, 99),
)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_pieces_of_a_stream(  # noqa: PLR0917
    kernels: Module, cuts: list[int], levels: int, k: int, piece: int, far: int, seed: int
) -> None:
    """However a stream is cut, and wherever its rows begin."""
    values = np.random.default_rng(seed).integers(levels, size=sum(cuts)).astype(np.float32) - 1
    best, first = TopK(kernels, np, k, piece), 0
    for cut in cuts:
        best.push(values[first : first + cut], far + first)
        first += cut
    rows, kept = best.finish()
    assert rows.tolist() == [far + row for row in lowest(values, k)]
    assert kept.tolist() == values[rows - far].tolist()


def test_more_tiles_than_threads(kernels: Module) -> None:
    """The scan goes round more than once only above 4 million entries."""
    below, equal = RNG.integers(0, TILE, (2, 2500)).astype(np.uint64)
    tiles, state = np.zeros(2501, np.uint64), np.array([0, 1000, 70, 0, 0], np.int64)
    tiles[:-1] = below << np.uint64(32) | equal
    kernels.get_function("scan")((1,), (1024,), (tiles, 2500, 1, state))
    assert (tiles >> np.uint64(32)).tolist() == [0, *np.cumsum(below)]
    assert (tiles & np.uint64(0xFFFFFFFF)).tolist() == [0, *np.cumsum(equal)]
    assert state.tolist() == [0, 1000, 70 + int(below.sum()) + 1000, 70, 0]


def test_pieces_with_rows_of_their_own(kernels: Module) -> None:
    values = RNG.integers(5, size=5000).astype(np.float32)
    rows = np.cumsum(RNG.integers(1, 1 << 33, 5000)).astype(np.int64)
    best = TopK(kernels, np, 700, 900)
    for first in range(0, 5000, 1300):
        best.push_rows(values[first : first + 1300], rows[first : first + 1300])
    assert best.finish()[0].tolist() == rows[lowest(values, 700)].tolist()


def test_merging_parts_equals_one_stream(kernels: Module) -> None:
    """As from several devices, the shards dealt out in turn."""
    values = RNG.integers(4, size=9000).astype(np.float32)
    parts = []
    for device in range(3):
        best = TopK(kernels, np, 777)
        for first in range(device * 1000, 9000, 3000):
            best.push(values[first : first + 1000], first)
        parts.append(best.finish())
    rows, kept = merge(kernels, np, parts[::-1], 777)
    assert rows.tolist() == lowest(values, 777)
    assert kept.tolist() == values[rows].tolist()


def test_zeros_of_either_sign_tie(kernels: Module) -> None:
    assert topk(kernels, np, np.array([0, -0.0, 0, -1e-45], np.float32), 3).tolist() == [3, 0, 1]


def test_refused(kernels: Module) -> None:
    with pytest.raises(UsageError, match="k is 2 but there are only 1 rows"):
        topk(kernels, np, np.ones(1, np.float32), 2)
    values = np.ones(2 * TILE, np.float32)
    values[[4097, 5000]] = np.nan
    with pytest.raises(DataError, match=r"values\[4097\] is NaN"):
        topk(kernels, np, values, 1)
    values[[4097, 5000]] = -np.nan
    with pytest.raises(DataError, match=r"values\[4097\] is NaN"):
        topk(kernels, np, values, 1)
