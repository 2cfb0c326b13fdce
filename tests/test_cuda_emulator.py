"""The emulator against what CUDA promises, kernels that break its rules, and NumPy's floats of 16 bits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

from cuda_emulator import ORDERS, EmulationError, Module, compiler

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = pytest.mark.skipif(compiler() is None and not os.environ.get("CI"), reason="there is no g++")
SAMPLE = Path(__file__).parent / "cuda_emulator" / "sample.cu"


@pytest.fixture(scope="module")
def sample() -> Module:
    return Module(SAMPLE, ["scale<float>", "scale<__half>"])


@pytest.fixture(params=ORDERS)
def order(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_grid_stride_loop_shuffles_barrier_and_atomics(sample: Module, order: int) -> None:
    x = np.random.default_rng(0).standard_normal(10_001).astype(np.float32)
    out, done = np.zeros(1), np.zeros(1, np.uint32)
    sample.get_function("block_sum")((7,), (256,), (x, len(x), out, done), order=order)
    assert out[0] == pytest.approx(x.sum(dtype=np.float64), abs=1e-3)
    assert done[0] == 7


def test_dynamic_shared_memory(sample: Module, order: int) -> None:
    x = np.arange(96, dtype=np.float32)
    sample.get_function("reverse")((1,), (96,), (x, np.int32(96)), shared_mem=96 * 4, order=order)
    assert x.tolist() == list(range(96))[::-1]


def test_the_last_block_sees_what_the_others_wrote(sample: Module, order: int) -> None:
    x, parts, done, out = (
        np.arange(9, dtype=np.int32),
        np.zeros(9, np.int32),
        np.zeros(1, np.uint32),
        np.zeros(1, np.int32),
    )
    sample.get_function("last_block_adds")((9,), (1,), (x, parts, done, out), order=order)
    assert out[0] == 36


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_templates(sample: Module, dtype: type[np.floating[Any]]) -> None:
    name = {np.float32: "scale<float>", np.float16: "scale<__half>"}[dtype]
    x = np.arange(50, dtype=dtype)
    sample.get_function(name)((2,), (32,), (x, np.float32(0.3), np.int32(49)))
    expected = (np.arange(50, dtype=np.float32) * np.float32(0.3)).astype(dtype)
    expected[49] = 49
    assert x.tolist() == expected.tolist()


def test_the_ways_to_speak_with_a_warp(sample: Module, order: int) -> None:
    x = np.array([(lane * 5) % 7 for lane in range(32)], np.int32)
    out = np.zeros((9, 32), np.int32)
    sample.get_function("speak")((1,), (32,), (x, out), order=order)
    lanes = range(32)
    assert out[0].tolist() == [x[lane * 7 % 32] for lane in lanes]
    assert out[1].tolist() == [x[lane ^ 5] for lane in lanes]
    assert out[2].tolist() == [x[lane + 3 if lane + 3 < 32 else lane] for lane in lanes]
    assert out[3].tolist() == [x[lane - 3 if lane % 8 >= 3 else lane] for lane in lanes]
    assert out[4].view(np.uint32).tolist() == [sum(1 << j for j in lanes if x[j] > 2)] * 32
    assert out[5].view(np.uint32).tolist() == [sum(1 << j for j in lanes if x[j] == x[i]) for i in lanes]
    assert out[6].tolist() == [x.sum()] * 32
    assert out[7].tolist() == [x[:8].max()] * 8 + [x[8:].max()] * 24
    assert out[8].tolist() == [(x > 2).sum()] * 32


def test_one_array_as_two_arguments(sample: Module) -> None:
    x = np.arange(32, dtype=np.int32)
    sample.get_function("copy")((1,), (32,), (x, x))
    assert x.tolist() == list(range(32))
    with pytest.raises(EmulationError, match="a race"):
        sample.get_function("copy")((1,), (31,), (x, x[1:]))


# 16-bit floats

EDGES = [0.0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.99, 65520, 2**-24, 2**-25, 1.5 * 2**-25, 3.4e38]
RNG = np.random.default_rng(0)
FLOATS = np.concatenate([
    np.array(EDGES, np.float32),
    RNG.integers(0, 1 << 32, 4084, dtype=np.uint32).view(np.float32),
    (RNG.standard_normal(2048) * 10.0 ** RNG.integers(-9, 6, 2048)).astype(np.float32),
    (np.arange(2048, dtype=np.uint32) * 0x1000 + 0x38000000).view(np.float32),
])  # fmt: skip


@pytest.mark.parametrize(("name", "dtype"), [("half", np.float16), ("bfloat16", ml_dtypes.bfloat16)])
def test_sixteen_bits(sample: Module, name: str, dtype: type[np.floating[Any]]) -> None:
    codes = np.arange(1 << 16, dtype=np.uint16)
    wide = np.empty(1 << 16, np.float32)
    sample.get_function(f"from_{name}")((256,), (256,), (codes, wide))
    np.testing.assert_array_equal(wide, codes.view(dtype).astype(np.float32))
    assert len(FLOATS) == 8192
    narrow = np.empty(len(FLOATS), np.uint16)
    sample.get_function(f"to_{name}")((32,), (256,), (FLOATS, narrow))
    with np.errstate(over="ignore", invalid="ignore"):
        np.testing.assert_array_equal(narrow.view(dtype).astype(np.float32), FLOATS.astype(dtype).astype(np.float32))


# What is refused

ONE, WARP, TWO_WARPS = 1, 32, 64
WRONG: dict[str, tuple[int, type[np.float32 | np.int32], str]] = {
    "without_barrier": (TWO_WARPS, np.float32, "a race: .* of shared memory"),
    "without_syncwarp": (WARP, np.float32, "a race: .* of shared memory"),
    "without_atomic": (WARP, np.int32, "a race: .* of argument 0"),
    "diverging": (TWO_WARPS, np.int32, "diverged; threads 0-31 have returned; threads 32-63 wait at __syncthreads"),
    "barriers_apart": (TWO_WARPS, np.int32, "diverged; threads 0-31 wait .*; threads 32-63 wait at __syncthreads"),
    "lanes_missing": (WARP, np.int32, "diverged; threads 0-15 wait at __shfl_sync with mask ffffffff"),
    "strange_mask": (WARP, np.int32, "mask 7fffffff does not name the lane itself"),
    "beyond": (ONE, np.int32, "writes 4 bytes outside every array, 0 past the end of argument 0"),
    "before": (ONE, np.int32, "writes 4 bytes outside every array, 4 before the start of argument 0"),
    "beyond_shared": (ONE, np.int32, "an index outside its array"),
    "beyond_dynamic": (ONE, np.int32, "0 past the end of shared memory"),
    "misaligned": (ONE, np.int32, "not aligned"),
    "overflowing": (ONE, np.int32, "a signed sum overflows"),
    "asserting": (ONE, np.int32, "assertion failed: !wrong"),
    "from_nowhere": (ONE, np.int32, "reads 4 bytes"),
    "breaking_const": (ONE, np.int32, "writes byte 0 of argument 0, which is read-only"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_broken_rule_ends_the_launch(sample: Module, name: str, order: int) -> None:
    threads, dtype, message = WRONG[name]
    x = aligned(16 if threads == ONE else threads, dtype)
    kernel = sample.get_function(name)
    kernel((1,), (threads,), (x, np.int32(0)), shared_mem=16, order=order)
    with pytest.raises(EmulationError, match=message) as caught:
        kernel((1,), (threads,), (x, np.int32(1)), shared_mem=16, order=order)
    assert "sample.cu:" in str(caught.value)
    kernel((1,), (threads,), (x, np.int32(0)), shared_mem=16, order=order)


def aligned(n: int, dtype: type[np.float32 | np.int32]) -> NDArray[Any]:
    """Zeros on a boundary of 16 bytes, as the device's arrays are."""
    room = np.zeros(n + 4, dtype)
    first = -room.ctypes.data % 16 // room.itemsize
    return room[first : first + n]


def test_a_race_between_blocks(sample: Module) -> None:
    x = np.zeros(1, np.int32)
    sample.get_function("without_atomic")((9,), (1,), (x, np.int32(0)))
    assert x[0] == 9
    with pytest.raises(EmulationError, match="a race: reads byte 0 of argument 0, which thread 0 of block 0 wrote"):
        sample.get_function("without_atomic")((2,), (1,), (x, np.int32(1)))


def test_refused_calls(sample: Module) -> None:
    x = np.zeros(64, np.float32)
    reverse = sample.get_function("reverse")
    with pytest.raises(EmulationError, match="argument 1 of reverse has 4 bytes, int64 has 8"):
        reverse((1,), (64,), (x, 64), shared_mem=256)
    with pytest.raises(EmulationError, match="takes 2 arguments, 1 were given"):
        reverse((1,), (64,), (x,), shared_mem=256)
    with pytest.raises(EmulationError, match="0 past the end of shared memory"):
        reverse((1,), (64,), (x, np.int32(64)), shared_mem=128)
    with pytest.raises(EmulationError, match="at most 232448"):
        reverse((1,), (64,), (x, np.int32(64)), shared_mem=(227 << 10) + 1)
    with pytest.raises(EmulationError, match="mask ffffffff names lanes that the block lacks"):
        sample.get_function("strange_mask")((1,), (8,), (np.zeros(1, np.int32), np.int32(0)))
    with pytest.raises(EmulationError, match="at most 256"):
        sample.get_function("block_sum")((1,), (512,), (x, 64, np.zeros(1), np.zeros(1, np.uint32)))
    with pytest.raises(EmulationError, match="no kernel 'nothing'"):
        sample.get_function("nothing")
    x.flags.writeable = False
    with pytest.raises(EmulationError, match="read-only"):
        reverse((1,), (64,), (x, np.int32(64)), shared_mem=256)


def test_shared_memory_starts_as_nothing_useful(tmp_path: Path) -> None:
    source = tmp_path / "stale.cu"
    source.write_text(
        'extern "C" __global__ void stale(float* x) {\n    __shared__ float tile[2];\n'
        "    extern __shared__ float more[];\n    x[2 * blockIdx.x] = tile[1], x[2 * blockIdx.x + 1] = more[1];\n"
        "    tile[1] = more[1] = 1;\n}\n",
        encoding="utf-8",
    )
    x = np.zeros(4, np.float32)
    Module(source).get_function("stale")((2,), (1,), (x,), shared_mem=8)
    assert np.isnan(x).all()


def test_what_does_not_compile(tmp_path: Path) -> None:
    source = tmp_path / "broken.cu"
    source.write_text('extern "C" __global__ void broken(float* x) { *x = nonsense; }\n', encoding="utf-8")
    with pytest.raises(EmulationError, match=r"broken\.cu:1:.*nonsense"):
        Module(source)
