"""The GPU backend's host side, on emulated devices: what is kept, streamed, cut, merged, refused, and survived."""

from __future__ import annotations

import gc
import itertools
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

from cuda_emulator import compiler
from emulated_gpu import DeviceArray, EmulatedGpu, emulated_backend
from gapsel import backends
from gapsel.backends import selftest
from gapsel.backends.gpu import GpuBackend, gram, operands, sources, strip
from gapsel.backends.gpu import span as spans
from gapsel.backends.gpu.device import lost
from gapsel.backends.gpu.operands import Form
from gapsel.backends.gpu.rows import gather
from gapsel.backends.parts import Part, added, swept
from gapsel.errors import DataError, DeviceError, MissingDependencyError, UsageError
from gapsel.potentials import Rows, Task, solve
from gapsel.records import Box, Cost, CostScale, Target
from sweeps import REFERENCE, Problem, assert_agrees, bits, problem

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.skipif(compiler() is None and not os.environ.get("CI"), reason="there is no g++")


def frozen(x: NDArray[Any]) -> NDArray[Any]:
    view = x.view()
    view.flags.writeable = False
    return view


def with_memory(p: Problem, factor: float) -> GpuBackend:
    """A device with so many times the memory that the pool takes."""
    return GpuBackend([EmulatedGpu(int(factor * p.x.nbytes))], trusted=True)


def emulated(backend: GpuBackend) -> EmulatedGpu:
    device = backend.devices[0]
    assert isinstance(device, EmulatedGpu)
    return device


# Chunks


def small_chunks(monkeypatch: pytest.MonkeyPatch, rows: int = 512, window: int = 512) -> None:
    monkeypatch.setattr(strip, "MOST_ROWS", rows)
    monkeypatch.setattr(spans, "WINDOW_ROWS", window)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("window", [512, 1024])
def test_chunks_and_windows_change_no_bit(monkeypatch: pytest.MonkeyPatch, window: int, normalize: bool) -> None:  # noqa: FBT001
    """Three chunks, the last one short; outputs of one or two chunks at a time; bounds of each row."""
    p = problem(1300, 40, 9, dtype=np.float16, normalize=normalize)
    whole = p.sweep(emulated_backend(), k=30)
    small_chunks(monkeypatch, window=window)
    assert bits(p.sweep(emulated_backend(), k=30)) == bits(whole)
    assert_agrees(p, whole, p.sweep(REFERENCE))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("rough", [False, True])
def test_shards_change_no_bit(monkeypatch: pytest.MonkeyPatch, dtype: type[Any], rough: bool) -> None:  # noqa: FBT001
    p = problem(1300, 21, 5, dtype=dtype)
    whole = bits(p.sweep(emulated_backend(), k=9, rough=rough))
    small_chunks(monkeypatch)
    for cuts in ([511, 512, 513], [0, 700, 700, 1299]):
        assert bits(p.sweep(emulated_backend(), np.split(p.x, cuts), k=9, rough=rough)) == whole


def test_more_rows_of_the_gram_than_one_product_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem(700, 30, 7)
    exact = p.sweep(REFERENCE)
    monkeypatch.setattr(gram, "ROWS", 100)
    small_chunks(monkeypatch)
    assert_agrees(p, p.sweep(emulated_backend()), exact)


def test_a_gram_with_negative_weights() -> None:
    """Where eta is far below eps, a row's weight w may be negative."""
    p = problem(400, 30, 7)
    p.box = Box(0.0, 0.01, p.eps / 10)
    assert_agrees(p, p.sweep(emulated_backend()), p.sweep(REFERENCE))


def test_chunks_are_even_and_whole_segments() -> None:
    assert strip.chunk_rows(1_000_000, 10_000, 1536, 1 << 40) == 9728
    assert strip.chunk_rows(100, 10_000, 1536, 1 << 40) == 512
    assert strip.chunk_rows(100_000, 8, 1536, 1 << 40) == 50_176
    assert strip.chunk_rows(1_000_000, 100_000, 1536, 1 << 20) == 512
    assert strip.chunk_rows(1_000_000, 1000, 1536, 1 << 30) == 62_976


# Widths: each strip kernel, and rows too wide for them


@pytest.mark.parametrize(
    ("m", "kernel"),
    [(200, "strip_32_4"), (700, "strip_128_4"), (2600, "strip_256_5"), (6500, "strip_512_5"), (13_000, "stats")],
)
@pytest.mark.parametrize("kind", ["sqeuclidean", "euclidean"])
def test_every_width(m: int, kernel: str, kind: Any) -> None:  # noqa: ANN401
    p, backend = problem(70, m, 5, kind=kind, rel=0.3), emulated_backend()
    found, exact = p.sweep(backend, gram=m < 300), p.sweep(REFERENCE, gram=m < 300)
    assert kernel in emulated(backend).launches
    np.testing.assert_allclose(found.f, exact.f, atol=1e-4)
    np.testing.assert_allclose(found.hard, exact.hard, atol=1e-4)
    assert np.abs(found.swept.q - exact.swept.q).sum() < 1e-4
    assert found.swept.entropy == pytest.approx(exact.swept.entropy, rel=1e-4)
    assert (p.target.b[found.nearest] > 0).all()


@pytest.mark.parametrize("m", [1, 2, 8, 9])
def test_few_columns(m: int) -> None:
    p = problem(40, m, 3)
    assert_agrees(p, p.sweep(emulated_backend()), p.sweep(REFERENCE))


def test_equal_weights_need_no_hard_biases() -> None:
    p = problem(90, 30, 7)
    p.target.b[:] = 1 / 30
    assert_agrees(p, p.sweep(emulated_backend()), p.sweep(REFERENCE))


def test_wide_rows_with_a_gram(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of rows too wide for registers, at a size that the reference holds."""
    monkeypatch.setattr(strip, "STRIPS", ())
    p = problem(300, 60, 7)
    assert_agrees(p, p.sweep(emulated_backend(), k=5), p.sweep(REFERENCE))


# Digits


@pytest.mark.parametrize("exponent", [-14, -20, 10])
def test_float16_of_any_size(exponent: int) -> None:
    """Subnormal numbers too: no kernel may take them for zeros."""
    p = problem(200, 30, 16, dtype=np.float16)
    p.x = (np.asarray(p.x, np.float32) * 2.0**exponent).astype(np.float16)
    p.x = p.x[np.abs(p.x).max(axis=1) > 0]
    p.box = Box.fixed(1 / len(p.x))
    assert_agrees(p, p.sweep(emulated_backend()), p.sweep(REFERENCE))


@pytest.mark.parametrize("scale", [1e-30, 1e-5, 1e15, 1e30])
def test_float32_of_any_size(scale: float) -> None:
    """float16 holds no such numbers: each row gets a power of two of its own."""
    p = problem(200, 30, 16)
    p.x = (p.x * scale).astype(np.float32)
    assert_agrees(p, p.sweep(emulated_backend()), p.sweep(REFERENCE))


def test_one_large_coordinate_does_not_drown_the_others() -> None:
    p = problem(200, 30, 16, normalize=False)
    p.x[:, 0] *= 1000
    assert_agrees(p, p.sweep(emulated_backend()), p.sweep(REFERENCE))


def test_rough_is_off_by_the_rounding_of_y() -> None:
    p = problem(200, 30, 16, dtype=np.float16)
    exact, rough = p.sweep(emulated_backend()), p.sweep(emulated_backend(), rough=True)
    off = float(np.abs(exact.f - rough.f).max())
    assert 0 < off < 2**-10


# What is kept and what is streamed


def test_read_only_pools_are_kept_and_others_are_not() -> None:
    p = problem(600, 20, 9, dtype=np.float16)
    backend, shards = emulated_backend(), [frozen(p.x[:100]), frozen(p.x[100:])]
    first = bits(p.sweep(backend, shards, k=3))
    sent = emulated(backend).streamed
    assert bits(p.sweep(backend, shards, k=3)) == first
    assert emulated(backend).streamed == sent == p.x.nbytes
    assert bits(p.sweep(backend, k=3)) == first
    assert emulated(backend).streamed == 2 * sent


def test_a_change_of_a_writable_pool_is_seen() -> None:
    p, backend = problem(300, 20, 9), emulated_backend()
    before = p.sweep(backend)
    p.x[7] = p.x[8]
    after = p.sweep(backend)
    assert before.f[7] != after.f[7] == after.f[8]


def test_a_pool_is_let_go_with_its_arrays() -> None:
    p, backend = problem(600, 20, 9, dtype=np.float16), emulated_backend()
    shard = frozen(p.x)
    p.sweep(backend, [shard])
    held = emulated(backend).used
    del shard
    gc.collect()
    p.sweep(backend, [frozen(p.x[:1]), frozen(p.x[1:])])
    assert emulated(backend).used <= held


def test_the_oldest_pool_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem(2000, 10, 32, dtype=np.float16)
    monkeypatch.setattr(operands, "TRANSFER", p.x.nbytes // 16)
    backend, pools = with_memory(p, 9), [frozen(p.x.copy()) for _ in range(9)]
    for shard in [*pools, pools[8], pools[4]]:
        p.sweep(backend, [shard], gram=False)
    assert emulated(backend).streamed == 9 * p.x.nbytes
    p.sweep(backend, [pools[0]], gram=False)
    assert emulated(backend).streamed == 10 * p.x.nbytes


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_pool_that_does_not_fit_is_streamed(monkeypatch: pytest.MonkeyPatch, dtype: type[Any]) -> None:
    p = problem(2000, 10, 64, dtype=dtype)
    monkeypatch.setattr(gram, "ROWS", 256)
    held = p.sweep(emulated_backend(), [frozen(p.x)], k=5)
    monkeypatch.setattr(operands, "TRANSFER", p.x.nbytes // 7)
    backend, shards = with_memory(p, 1.35), [frozen(p.x)]
    for sweeps in (1, 2):
        assert bits(p.sweep(backend, shards, k=5)) == bits(held)
        assert emulated(backend).streamed == sweeps * p.x.nbytes


def test_the_target_is_kept_if_read_only() -> None:
    p, backend = problem(100, 20, 9, dtype=np.float16), emulated_backend()
    p.target = replace(p.target, y=frozen(p.target.y))
    first = bits(p.sweep(backend, k=3))
    launches = dict(emulated(backend).launches)
    assert bits(p.sweep(backend, k=3)) == first
    assert emulated(backend).launches["pack"] == launches["pack"] == 1
    p.target = replace(p.target, b=np.where(np.arange(20) == 3, 0.0, p.target.b))
    assert_agrees(p, p.sweep(backend), p.sweep(REFERENCE))


# Memory runs out


def test_out_of_memory_halves_the_block_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem(3000, 40, 9, dtype=np.float16)
    whole, backend = bits(p.sweep(emulated_backend(), k=3)), emulated_backend()
    device, sizes = emulated(backend), list[int]()
    empty = device.empty

    def meagre(shape: Any, dtype: Any) -> Any:  # noqa: ANN401
        if isinstance(shape, tuple) and shape[1:] == (40,) and dtype == np.float32 and shape[0] > 512:
            sizes.append(shape[0])
            raise MemoryError
        return empty(shape, dtype)

    monkeypatch.setattr(device, "empty", meagre)
    assert bits(p.sweep(backend, k=3)) == whole
    assert sizes == [3072, 1536]


def test_a_small_pool_of_few_dimensions_takes_little_memory() -> None:
    """The block of a streamed pool is as long as its bytes allow, but no longer than the pool."""
    p = problem(30, 5, 1, dtype=np.float16, lam=0.0)
    backend = GpuBackend([EmulatedGpu(1 << 22)], trusted=True)
    assert_agrees(p, p.sweep(backend), p.sweep(REFERENCE))


def test_too_little_memory_says_so() -> None:
    p = problem(600, 300, 9)
    with pytest.raises(DeviceError, match=r"GiB free, too little to multiply 512 rows of the pool with \d+ targets"):
        p.sweep(GpuBackend([EmulatedGpu(1 << 19)], trusted=True))


# Several devices


@pytest.mark.parametrize(("count", "used"), [(2, 2), (3, 2), (5, 4)])
@pytest.mark.parametrize("freeze", [False, True])
def test_several_devices(monkeypatch: pytest.MonkeyPatch, count: int, used: int, freeze: bool) -> None:  # noqa: FBT001
    """How many they are changes no bit, nor where a span begins that one of them has."""
    monkeypatch.setattr(spans, "SPAN_ROWS", 512)
    p = problem(1700, 40, 9, dtype=np.float16)
    shards = [frozen(p.x) if freeze else p.x]
    backend = emulated_backend(count)
    found = p.sweep(backend, shards, k=600)
    assert bits(found) == bits(p.sweep(emulated_backend(), shards, k=600))
    assert_agrees(p, found, p.sweep(REFERENCE))
    assert sum(bool(device.launches) for device in backend.devices if isinstance(device, EmulatedGpu)) == used


def test_one_span_of_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans swept one by one, by whoever has their rows alone, add up to the whole."""
    p, k = problem(1300, 40, 9, dtype=np.float16), 20
    monkeypatch.setattr(spans, "SPAN_ROWS", 512)
    whole = p.sweep(emulated_backend(), k=k)
    f, hard, nearest = np.empty(1300, np.float32), np.empty(1300, np.float32), np.empty(1300, np.int32)

    def part(first: int) -> Part:
        at = slice(first, min(first + 512, 1300))
        query = p.query(gram=True, k=k, f=f[at], hard=hard[at], nearest=nearest[at])
        return emulated_backend().part([p.x[at]], replace(query, box=p.box.at(at)), first, 1300)

    parts = map(part, (0, 512, 1024))
    assert bits(replace(whole, swept=swept(added(parts, k)), f=f, hard=hard, nearest=nearest)) == bits(whole)


def test_spans_follow_from_the_number_of_rows() -> None:
    assert spans.span_rows(1700) == 1700
    assert spans.span_rows(10**7) == 1 << 20
    assert spans.span_rows(10**10) == 38 << 20
    assert spans.spans(range(5, 18), 5) == [range(5, 10), range(10, 15), range(15, 18)]
    assert spans.dealt([range(1)] * 5, 2) == [[range(1)] * 3, [range(1)] * 2]


def test_a_bad_row_of_a_span_is_named_by_its_number_in_the_pool() -> None:
    p = problem(600, 20, 8)
    p.x[123, 4] = np.inf
    with pytest.raises(DataError, match="pool row 1123 holds inf at dimension 4"):
        emulated_backend().part([p.x], p.query(), 1000, 4000)


# Arrays of the device


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("cuts", [[], [100, 612]])
def test_arrays_of_the_device_are_read_where_they_lie(dtype: type[Any], cuts: list[int]) -> None:
    p, backend = problem(1300, 20, 8, dtype=dtype), emulated_backend()
    shards: list[Any] = [DeviceArray(shard) for shard in np.split(p.x, cuts)]
    assert bits(p.sweep(backend, shards, k=3)) == bits(p.sweep(emulated_backend(), k=3))
    assert emulated(backend).streamed == 0


def test_arrays_in_several_places_are_refused() -> None:
    p = problem(300, 20, 8)
    with pytest.raises(DataError, match="lie in several places"):
        p.sweep(emulated_backend(), [DeviceArray(p.x[:100]), p.x[100:]])


def test_a_bad_row_of_the_device_is_named() -> None:
    p = problem(300, 20, 8)
    p.x[123, 4] = np.inf
    with pytest.raises(DataError, match="pool row 123 holds inf at dimension 4"):
        p.sweep(emulated_backend(), [DeviceArray(p.x)])


@pytest.mark.parametrize("freeze", [False, True])
def test_bad_rows_are_refused_each_time(freeze: bool) -> None:  # noqa: FBT001
    p, backend = problem(1300, 20, 8, dtype=np.float16), emulated_backend()
    p.x[1200] = 0
    shards = [frozen(p.x) if freeze else p.x]
    for _ in range(2):
        with pytest.raises(DataError, match="pool row 1200 has norm 0"):
            p.sweep(backend, shards)


def test_blocks_end_where_the_type_changes() -> None:
    shards = [np.zeros((3, 2), np.float16), np.zeros((4, 2), np.float16), np.zeros((5, 2), np.float32)]
    rows = gather(shards, 2, [])
    found = [(block.first, block.rows, block.dtype, len(block.parts)) for block in rows.blocks(range(1, 12), 5)]
    assert found == [(1, 5, "float16", 2), (6, 1, "float16", 1), (7, 5, "float32", 1)]
    assert rows.row(3).tolist() == [0, 0]


def test_forms() -> None:
    assert Form.of(frozenset({"float16"}), Cost(), 9) == Form(9, 9, unit=True, direct=True, split=False)
    assert Form.of(frozenset({"bfloat16"}), Cost(), 9) == Form(9, 16, unit=True, direct=False, split=False)
    assert Form.of(frozenset({"float16"}), Cost(normalize=False), 8).split
    assert Form.of(frozenset({"float32", "float16"}), Cost("cosine"), 8).width == 16


# The examination, and devices that fail


@pytest.mark.parametrize("case", selftest.CASES[:2] + selftest.CASES[6:], ids=lambda case: case.name)
def test_the_examination_passes(case: selftest.Case) -> None:
    found = selftest.findings(emulated_backend(), (case,))
    assert {one.quantity for one in found} >= {"f", "hard", "nearest", "q", "value", "entropy", "top"}
    assert all(one.agrees for one in found)


@pytest.mark.parametrize("kernel", ["accumulate", "measure"])
def test_a_kernel_that_does_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    device = EmulatedGpu()
    launch = device.launch

    def lazy(name: str, *args: Any) -> None:  # noqa: ANN401
        if name != kernel:
            launch(name, *args)

    monkeypatch.setattr(device, "launch", lazy)
    monkeypatch.setattr(selftest, "CASES", selftest.CASES[:1])
    with pytest.raises(DeviceError, match="disagrees with the reference: rows to 128 columns: "):
        problem(30, 20, 9).sweep(GpuBackend([device]))


def test_a_product_that_is_a_little_wrong_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    device = EmulatedGpu()
    multiply = device.multiply
    monkeypatch.setattr(
        device, "multiply", lambda *args, alpha, beta=0.0: multiply(*args, alpha=1.0001 * alpha, beta=beta)
    )
    with pytest.raises(DeviceError, match="is off by"):
        selftest.examine(GpuBackend([device], trusted=True), selftest.CASES[:1])


def test_a_device_is_examined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "CASES", selftest.CASES[:1])
    device = EmulatedGpu()
    backend, p = GpuBackend([device]), problem(30, 20, 9, dtype=np.float16)
    p.sweep(backend)
    assert device.launches["measure"] == 2
    p.sweep(backend)
    assert device.launches["measure"] == 3


def test_a_device_that_is_lost_ends_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, count = emulated_backend(2), itertools.count()

    def fail(*_: Any) -> None:  # noqa: ANN401
        if next(count) > 2:
            error = lost("emulated", RuntimeError("cudaErrorDevicesUnavailable"))
            raise error

    device = backend.devices[1]
    monkeypatch.setattr(spans, "SPAN_ROWS", 1024)
    monkeypatch.setattr(device, "launch", fail)
    with pytest.raises(DeviceError, match=r"cudaErrorDevicesUnavailable.*What was finished is kept"):
        problem(1300, 20, 9).sweep(backend)


# The choice


def test_without_cupy_or_a_gpu() -> None:
    try:
        backend = backends.choose("gpu")
    except (MissingDependencyError, DeviceError) as error:
        assert "pip install 'gapsel[gpu]'" in str(error) or "backend cpu" in str(error)  # noqa: PT017
        assert backends.choose().name == "cpu"
    else:
        assert backends.choose().name == backend.name == "gpu"


def test_auto_warns_of_a_gpu_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def examine(self) -> None:
            msg = "the gpu backend disagrees with the reference"
            raise DeviceError(msg)

    monkeypatch.setattr(backends, "find_spec", lambda _: True)
    monkeypatch.setattr("gapsel.backends.gpu.GpuBackend", Broken)
    with pytest.warns(RuntimeWarning, match=r"disagrees with the reference. The CPU is used"):
        assert backends.choose().name == "cpu"


# The sources


def test_sources_are_in_the_package_and_can_be_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "strip_32_1" in sources.source("sweep.cu")
    (tmp_path / "sweep.cu").write_text("// mine", encoding="utf-8")
    monkeypatch.setenv("GAPSEL_CUDA_DIR", str(tmp_path))
    assert sources.source("sweep.cu") == "// mine"
    with pytest.raises(UsageError, match=r"topk.cu: the kernels' source cannot be read .* GAPSEL_CUDA_DIR"):
        sources.source("topk.cu")


def test_a_single_column_of_weight() -> None:
    p = problem(40, 6, 3)
    b = np.zeros(6)
    b[4] = 1.0
    p.target = Target(p.target.y, b)
    found = p.sweep(emulated_backend())
    assert (found.nearest == 4).all()
    assert found.swept.q[4] == pytest.approx(float(p.sweep(REFERENCE).swept.q[4]), rel=1e-6)


def test_a_solve_brings_each_set_of_rows_once() -> None:
    """The solver freezes what it reads, so that samples, shortlists, pool and target stay on the device."""
    p, backend = problem(1500, 12, 5, dtype=np.float16, lam=0.0), emulated_backend()
    rows = Rows.whole([p.x], 15)
    task = Task(rows, p.target, p.cost, CostScale(1.0, 0.3), 0.2, 0.0, tolerance=1e-2)
    found, exact = solve(task, backend), solve(task, REFERENCE)
    assert emulated(backend).launches["strip_32_1"] > 3
    assert emulated(backend).streamed < 1.1 * p.x.nbytes  # the pool, and a few rows near the choice
    assert emulated(backend).launches["pack"] == 1
    np.testing.assert_allclose(found.f, exact.f, atol=1e-3)
