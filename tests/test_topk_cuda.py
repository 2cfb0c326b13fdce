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
from gapsel.backends.gpu_topk import TILE, Kernels, TopK
from gapsel.errors import DataError

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
        best = self.best(k)
        best.push(self.xp.asarray(values), 0)
        rows, kept = best.finish()
        assert (rows.dtype, kept.dtype) == (np.int64, np.float32)
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


def test_zeros_of_either_sign_tie(engine: Engine) -> None:
    assert engine.topk(np.array([0, -0.0, 0, -1e-45], np.float32), 3) == [3, 0, 1]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("planted", [[300, 332, 5000], [4097, 4129, 5000]])
@pytest.mark.parametrize(("k", "piece"), [(0, TILE), (1, TILE), (10, 1000)])
def test_what_is_not_a_number_is_refused(engine: Engine, sign: int, planted: list[int], k: int, piece: int) -> None:
    """The first one is named, also after what is kept has been gone through again."""
    values = np.ones(2 * TILE, np.float32)
    values[planted] = sign * np.nan
    best = engine.best(k, piece)
    best.push(engine.xp.asarray(values), 1 << 33)
    with pytest.raises(DataError, match=rf"values\[{(1 << 33) + planted[0]}\] is NaN"):
        best.finish()


# On a GPU alone


@needs_gpu
def test_ten_million_of_thirty() -> None:
    values = np.round(np.random.default_rng(1).standard_normal(30_000_000), 4).astype(np.float32)
    assert on_a_gpu().topk(values, 10_000_000) == lowest(values, 10_000_000)


@needs_gpu
def test_more_rows_than_an_int_counts() -> None:
    engine = on_a_gpu()
    n = (1 << 31) + 3 * TILE + 5
    if engine.xp.cuda.runtime.memGetInfo()[0] < 6 * n:
        pytest.skip("the GPU has too little memory")
    values = engine.xp.ones(n, np.float32)
    low = [0, 5, (1 << 31) - 1, 1 << 31, (1 << 31) + TILE, n - 1]
    values[engine.xp.asarray(low)] = -1
    best = engine.best(8)
    best.push(values, 0)
    assert best.finish()[0].tolist() == [*low, 1, 2]
