"""cuda/topk.cu against a stable sort: run by the emulator, and on a GPU where there is one."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuda_emulator import ORDERS, Module, compiler
from gapsel.backends.gpu_topk import TILE, Kernels, TopK, merge, topk
from gapsel.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SOURCE = Path(__file__).parent.parent / "cuda" / "topk.cu"
RNG = np.random.default_rng(0)
N = TILE + 77


@dataclass(frozen=True)
class Engine:
    """The kernels and the array module that goes with them."""

    kernels: Kernels
    xp: Any

    def best(self, k: int, *piece: int) -> TopK:
        return TopK(self.kernels, self.xp, k, *piece)

    def topk(self, values: NDArray[np.float32], k: int) -> list[int]:
        rows = topk(self.kernels, self.xp, self.xp.asarray(values), k)
        assert rows.dtype == np.int64
        return list(rows.tolist())


def emulated() -> Engine:
    if compiler() is None and not os.environ.get("CI"):
        pytest.skip("there is no g++")
    return Engine(Module(SOURCE), np)


def on_a_gpu() -> Engine:
    import cupy

    return Engine(cupy.RawModule(code=SOURCE.read_text(encoding="utf-8"), options=("-std=c++17",)), cupy)


def has_gpu() -> bool:
    if importlib.util.find_spec("cupy") is None:
        return False
    import cupy

    return bool(cupy.cuda.is_available())


GPU = has_gpu()
needs_gpu = pytest.mark.skipif(not GPU, reason="there is no GPU")


@pytest.fixture(scope="module", params=[emulated, on_a_gpu] if GPU else [emulated], ids=lambda make: make.__name__)
def engine(request: pytest.FixtureRequest) -> Engine:
    made: Engine = request.param()
    return made


def lowest(values: NDArray[np.float32], k: int) -> list[int]:
    return list(np.argsort(values, kind="stable")[:k])


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
def test_as_a_stable_sort(engine: Engine, kind: str, k: int) -> None:
    assert engine.topk(VALUES[kind], k) == lowest(VALUES[kind], k)


@pytest.mark.parametrize("order", ORDERS[1:])
def test_the_order_of_threads_and_blocks_changes_nothing(order: int) -> None:
    engine = emulated()
    assert isinstance(engine.kernels, Module)
    engine.kernels.order = order
    assert engine.topk(VALUES["ties"], 1000) == lowest(VALUES["ties"], 1000)


@given(
    cuts=st.lists(st.integers(0, 600), max_size=4),
    levels=st.sampled_from([1, 2, 5, 1000]),
    k=st.integers(1, 300),
    piece=st.integers(100, 700),
    far=st.sampled_from([0, 1 << 40]),
    seed=st.integers(0, 99),
)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_pieces_of_a_stream(engine: Engine, cuts: list[int], levels: int, **spec: int) -> None:
    """However a stream is cut, and wherever its rows begin."""
    values = np.random.default_rng(spec["seed"]).integers(levels, size=sum(cuts)).astype(np.float32) - 1
    best, first, far = engine.best(spec["k"], spec["piece"]), 0, spec["far"]
    for cut in cuts:
        best.push(engine.xp.asarray(values[first : first + cut]), far + first)
        first += cut
    rows, kept = best.finish()
    assert rows.tolist() == [far + row for row in lowest(values, spec["k"])]
    assert kept.tolist() == values[np.array(rows.tolist(), np.int64) - far].tolist()


def test_more_tiles_than_threads(engine: Engine) -> None:
    """The scan goes round more than once only above 4 million entries."""
    below, equal = RNG.integers(0, TILE, (2, 2500)).astype(np.uint64)
    tiles, state = np.zeros(2501, np.uint64), np.array([0, 1000, 70, 0, 0], np.int64)
    tiles[:-1] = below << np.uint64(32) | equal
    tiles, state = engine.xp.asarray(tiles), engine.xp.asarray(state)
    engine.kernels.get_function("scan")((1,), (1024,), (tiles, 2500, 1, state))
    found = np.array(tiles.tolist(), np.uint64)
    assert (found >> np.uint64(32)).tolist() == [0, *np.cumsum(below)]
    assert (found & np.uint64(0xFFFFFFFF)).tolist() == [0, *np.cumsum(equal)]
    assert state.tolist() == [0, 1000, 70 + int(below.sum()) + 1000, 70, 0]


def test_pieces_with_rows_of_their_own(engine: Engine) -> None:
    values = RNG.integers(5, size=5000).astype(np.float32)
    rows = np.cumsum(RNG.integers(1, 1 << 33, 5000)).astype(np.int64)
    best, there = engine.best(700, 900), (engine.xp.asarray(values), engine.xp.asarray(rows))
    for first in range(0, 5000, 1300):
        best.push_rows(*(array[first : first + 1300] for array in there))
    assert best.finish()[0].tolist() == rows[lowest(values, 700)].tolist()


def test_merging_parts_equals_one_stream(engine: Engine) -> None:
    """As from several devices, the shards dealt out in turn."""
    values = RNG.integers(4, size=9000).astype(np.float32)
    parts = []
    for device in range(3):
        best = engine.best(777)
        for first in range(device * 1000, 9000, 3000):
            best.push(engine.xp.asarray(values[first : first + 1000]), first)
        parts.append(best.finish())
    rows, kept = merge(engine.kernels, engine.xp, parts[::-1], 777)
    assert rows.tolist() == lowest(values, 777)
    assert kept.tolist() == values[rows.tolist()].tolist()


def test_zeros_of_either_sign_tie(engine: Engine) -> None:
    assert engine.topk(np.array([0, -0.0, 0, -1e-45], np.float32), 3) == [3, 0, 1]


def test_refused(engine: Engine) -> None:
    with pytest.raises(UsageError, match="k is 2 but there are only 1 rows"):
        engine.topk(np.ones(1, np.float32), 2)
    values = np.ones(2 * TILE, np.float32)
    values[[4097, 4129, 5000]] = np.nan
    for k in (0, 1):
        with pytest.raises(DataError, match=r"values\[4097\] is NaN"):
            engine.topk(values, k)
    values[[4097, 4129, 5000]] = -np.nan
    with pytest.raises(DataError, match=r"values\[4097\] is NaN"):
        engine.topk(values, 1)


# On a GPU alone


@needs_gpu
def test_ten_million_of_thirty() -> None:
    engine = on_a_gpu()
    values = np.round(np.random.default_rng(1).standard_normal(30_000_000), 4).astype(np.float32)
    rows = topk(engine.kernels, engine.xp, engine.xp.asarray(values), 10_000_000)
    assert np.array_equal(rows.get(), np.argsort(values, kind="stable")[:10_000_000])


@needs_gpu
def test_more_rows_than_an_int_counts() -> None:
    engine = on_a_gpu()
    n = (1 << 31) + 3 * TILE + 5
    if engine.xp.cuda.runtime.memGetInfo()[0] < 6 * n:
        pytest.skip("the GPU has too little memory")
    values = engine.xp.ones(n, np.float32)
    low = [0, 5, (1 << 31) - 1, 1 << 31, (1 << 31) + TILE, n - 1]
    values[engine.xp.asarray(low)] = -1
    assert topk(engine.kernels, engine.xp, values, 8).tolist() == [*low, 1, 2]
