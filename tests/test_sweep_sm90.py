"""The Hopper kernel: its logic on the CPU against float64, under adverse delays; its host side; its machine code."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cuda_compiler import compiled
from cuda_emulator.build import compiler
from gapsel.backends import hopper
from gapsel.backends.hopper import driver
from gapsel.errors import DeviceError
from hopper_emulator import CUBIN, SOURCE, EmulatedDriver, library

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

emulated = pytest.mark.skipif(compiler() is None and not os.environ.get("CI"), reason="there is no g++")
FIELDS = [field[0] for field in hopper.Arguments._fields_]
HI, HI_LO = ((0, 0),), ((0, 1), (1, 0), (0, 0))
ABSENT = -1e38


def aligned(shape: int | tuple[int, ...], dtype: DTypeLike, value: float = 0.0) -> NDArray[Any]:
    """An array at a multiple of 64, as the device's are."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    out = raw[start : start + size].view(dtype).reshape(shape)
    out[...] = value
    return out


def halves(values: NDArray[np.float64]) -> NDArray[np.float16]:
    """(2, rows, d), row by row in memory: the nearest halves, and the halves of what is left."""
    rows, d = values.shape
    out = aligned((rows, 2, d), np.float16).transpose(1, 0, 2)
    out[0] = values
    out[1] = values - out[0]
    return out


@dataclass
class Result:
    """What a launch writes: per row, and q (m,)."""

    top: NDArray[Any]
    total: NDArray[Any]
    moment: NDArray[Any]
    peak: NDArray[Any]
    nearest: NDArray[Any]
    q: NDArray[Any]

    @property
    def soft(self) -> NDArray[np.float64]:
        """log2 of the sum of 2^z."""
        return np.asarray(self.top + np.log2(self.total.astype(np.float64)))

    @property
    def entropy(self) -> NDArray[np.float64]:
        """In bits."""
        return np.asarray(np.log2(self.total.astype(np.float64)) - self.moment.astype(np.float64) / self.total)


class Problem:
    """Random operands, biases and bounds; ``peaky`` logits are hundreds apart."""

    def __init__(self, n: int, m: int, d: int, *, peaky: float = 1.0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.n, self.m, self.d = n, m, d
        self.x, self.y = (halves(rng.standard_normal((count, d))) for count in (n, m))
        self.bias, self.hard = (-3 * rng.random(m) for _ in range(2))
        self.factor = (0.5 + rng.random(n)).astype(np.float32)
        self.lo = rng.random(n) / n
        self.hi = self.lo + rng.random(n) / n
        self.squares = rng.random(n).astype(np.float32)
        self.lo[: n // 10] = self.hi[: n // 10] = 0
        self.price = 0.3 * rng.standard_normal(n)
        self.scale, self.constant, self.shift, self.unit, self.eta = peaky, 1.3, 0.7, 5.0, 0.2

    def exact(self, pairs: Sequence[tuple[int, int]]) -> Result:
        """The formulas of the kernel's header, in float64."""
        dots = sum(self.x[i].astype(np.float64) @ self.y[j].astype(np.float64).T for i, j in pairs)
        products = np.asarray(self.scale * self.factor[:, None].astype(np.float64) * dots)
        z, hard = products + self.bias, products + self.hard
        top = z.max(axis=1)
        e = 2.0 ** (z - top[:, None])
        total, moment = e.sum(axis=1), (e * (z - top[:, None])).sum(axis=1)
        f = self.constant + 0.3 * self.squares - (top + np.log2(total) + self.shift) / self.unit
        r = self.lo + (self.hi - self.lo) * np.exp(-np.logaddexp(0.0, (f + self.price) / self.eta))
        q = self.n * (r / total) @ e
        return Result(top, total, moment, hard.max(axis=1), hard.argmax(axis=1), q)

    def launch(
        self,
        device: EmulatedDriver,
        shape: hopper.Shape,
        pairs: Sequence[tuple[int, int]],
        rows: slice | None = None,
        q: NDArray[np.uint64] | None = None,
    ) -> Result:
        """The kernel, on some of the rows; q, if given, is added to and stays in the kernel's units."""
        x = self.x[:, rows or slice(None)]
        n = x.shape[1]
        kept: list[NDArray[Any]] = []

        def on_device(values: NDArray[Any] | float, length: int, dtype: DTypeLike, absent: float = 0.0) -> int:
            array = aligned(length, dtype, absent)
            array[: np.size(values)] = values
            kept.append(array)
            return int(array.ctypes.data)

        width, nan = shape.width(self.m), float("nan")
        part = rows or slice(None)
        sums = aligned(self.m, np.uint64) if q is None else q
        arguments = hopper.Arguments(
            x=device.tensor_map(planes(x), hopper.ROWS_OF_BLOCK),
            y=device.tensor_map(planes(self.y), shape.columns_of_box),
            factor=on_device(self.factor[part], n, np.float32),
            square_of_row=on_device(self.squares[part], n, np.float32),
            of_square=0.3,
            bias=on_device(self.bias, width, np.float32, ABSENT),
            hard=on_device(self.hard, width, np.float32, ABSENT),
            lo=on_device(self.lo[part], n, np.float64),
            hi=on_device(self.hi[part], n, np.float64),
            price=on_device(self.price[part], n, np.float64),
            q=sums.ctypes.data,
            strips=on_device(255, shape.strip_bytes(self.m), np.uint8),
            scale=self.scale, constant=self.constant, shift=self.shift, unit=self.unit, eta=self.eta,
            mass_unit=self.n, q_unit=self.q_unit, n=n, m=self.m,
        )  # fmt: skip
        outputs = {name: aligned(n, np.float32, nan) for name in ("top", "total", "moment", "peak")}
        outputs["nearest"] = aligned(n, np.int32, -1)
        for name, array in outputs.items():
            setattr(arguments, name, array.ctypes.data)
        hopper.multiply(arguments, self.d, pairs)
        device.launch(device.load(CUBIN), shape.blocks, 0, arguments)
        return Result(**outputs, q=sums / self.q_unit)

    @property
    def q_unit(self) -> float:
        return hopper.q_unit(self.n * float(self.hi.sum()))


def planes(x: NDArray[np.float16]) -> hopper.Planes:
    count, rows, depth = x.shape
    return hopper.Planes(x.ctypes.data, count, rows, depth, x.strides[1], x.strides[0])


@cache
def device(columns: int, *, exact: bool, nearest: bool, change: tuple[str, str] | None = None) -> EmulatedDriver:
    return EmulatedDriver(library(hopper.Shape(columns, exact, nearest, 2).defines, change))


def assert_agrees(problem: Problem, found: Result, exact: Result, *, float_strips: bool, nearest: bool) -> None:
    # Products of d halves near 1 in float32, times the scale; halves of exponentials have 11 digits.
    error = 4e-7 * problem.scale * problem.d
    np.testing.assert_allclose(found.top, exact.top, atol=error)
    np.testing.assert_allclose(found.soft, exact.soft, atol=error)
    np.testing.assert_allclose(found.peak, exact.peak, atol=error)
    np.testing.assert_allclose(found.entropy, exact.entropy, atol=20 * error)
    if nearest:
        np.testing.assert_array_equal(found.nearest, exact.nearest)
    relative = error * (1 + 1 / (problem.unit * problem.eta)) + (1e-6 if float_strips else 3e-4)
    assert np.abs(found.q - exact.q).sum() <= relative * exact.q.sum()
    np.testing.assert_allclose(found.q, exact.q, rtol=3 * relative, atol=1e-9 * exact.q.sum())


CASES = {
    "the least": (1, 1, 8, 1, HI),
    "two rounds, and a neighbour without rows": (300, 130, 64, 1, HI),
    "three products, clusters of unlike rounds": (600, 300, 200, 2, HI_LO),
    "more tiles than stages": (257, 700, 72, 2, HI),
    "more steps than stages": (130, 257, 400, 1, HI),
}


@emulated
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("columns", "exact", "nearest"), [(256, False, True), (128, True, False)])
def test_every_shape(case: str, columns: int, *, exact: bool, nearest: bool) -> None:
    n, m, d, clusters, pairs = CASES[case]
    problem = Problem(n, m, d)
    shape = hopper.Shape(columns, exact, nearest, 2 * clusters)
    machine = device(columns, exact=exact, nearest=nearest)
    machine.seed(n)
    found = problem.launch(machine, shape, pairs)
    assert_agrees(problem, found, problem.exact(pairs), float_strips=exact, nearest=nearest)


@emulated
@pytest.mark.parametrize("exact", [False, True])
def test_peaky_rows(*, exact: bool) -> None:
    """Logits hundreds apart: tops rise from tile to tile, and most exponentials vanish."""
    problem = Problem(150, 400, 24, peaky=60.0)
    found = problem.launch(device(128, exact=exact, nearest=True), hopper.Shape(128, exact, nearest=True, blocks=2), HI)
    truth = problem.exact(HI)
    np.testing.assert_allclose(found.soft, truth.soft, atol=1e-3)
    np.testing.assert_array_equal(found.nearest, truth.nearest)
    assert found.q.sum() == pytest.approx(truth.q.sum(), rel=1e-3)
    assert np.abs(found.q - truth.q).sum() <= 5e-3 * truth.q.sum()


@emulated
def test_bits_depend_on_neither_turns_nor_grid_nor_cuts() -> None:
    problem = Problem(640, 200, 40)
    machine, shape = device(128, exact=True, nearest=False), hopper.Shape(128, exact=True, nearest=False, blocks=2)
    machine.seed(1)
    first = problem.launch(machine, shape, HI)
    machine.seed(2)
    again = problem.launch(machine, hopper.Shape(128, exact=True, nearest=False, blocks=4), HI)
    sums = aligned(problem.m, np.uint64)
    cuts = [problem.launch(machine, shape, HI, rows, sums) for rows in (slice(128), slice(128, 512), slice(512, 640))]
    for name in ("top", "total", "moment", "peak"):
        whole = getattr(first, name)
        assert np.array_equal(whole, getattr(again, name))
        assert np.array_equal(whole, np.concatenate([getattr(cut, name) for cut in cuts]))
    assert np.array_equal(first.q, again.q)
    assert np.array_equal(first.q, cuts[-1].q)


@emulated
def test_ties_go_to_the_lower_column() -> None:
    problem = Problem(140, 260, 16)
    problem.y[:, 130:] = problem.y[:, :130]
    problem.hard[130:] = problem.hard[:130]
    found = problem.launch(
        device(256, exact=False, nearest=True), hopper.Shape(256, exact=False, nearest=True, blocks=2), HI
    )
    assert (found.nearest < 130).all()


# What would be wrong on a device, and has to be wrong or stuck here.
MISTAKES = {
    "a stage is freed before its products are done": ("products_wait<1>(products);", ""),
    "a stage is read before it is full": ("barrier_wait(&shared.full[ring.slot], ring.phase);", ""),
    "products begin while registers may still be read": ("products_open();", ""),
    "the engine does not know the barriers": ("barrier_init_fence();", ""),
    "registers are read before their products are done": ("products_wait<0>(products);", "products_wait<1>(products);"),
    "the strip is overwritten while it is read": (
        "barrier_wait(&shared.strip_empty[strip.slot], strip.phase ^ 1);",
        "",
    ),
    "the strip is read before it is whole": ("barrier_wait(&shared.strip_full[strip.slot], strip.phase);", ""),
    "only one block's consumers free a stage": ("ranks * consumers * warpgroup / 32", "consumers * warpgroup / 32"),
    "too few biases in turn": ("columns[stages + 1];", "columns[2];"),
    "rows of the descriptor's groups lie elsewhere": ("(1024ull >> 4) << 32", "(512ull >> 4) << 32"),
    "a cluster's halves of y change places": ("to.y + rank * (bytes", "to.y + (1 - rank) * (bytes"),
}


@emulated
@pytest.mark.parametrize("change", MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_seen(change: tuple[str, str]) -> None:
    problem = Problem(800, 400, 72)
    shape = hopper.Shape(128, exact=False, nearest=False, blocks=2)
    machine = device(128, exact=False, nearest=False, change=change)
    for seed in range(6):
        machine.seed(seed)
        try:
            found = problem.launch(machine, shape, HI)
            assert_agrees(problem, found, problem.exact(HI), float_strips=False, nearest=False)
        except (AssertionError, DeviceError):
            return
    pytest.fail("nothing was noticed")


@emulated
def test_the_argument_lies_as_in_the_kernel() -> None:
    fields = [getattr(hopper.Arguments, name).offset for name in FIELDS if name != "padding"]
    assert device(128, exact=True, nearest=False).layout() == [*fields, ctypes.sizeof(hopper.Arguments)]


@emulated
def test_what_the_driver_refuses_is_told() -> None:
    machine = device(128, exact=True, nearest=False)
    with pytest.raises(DeviceError, match="cuModuleLoadData fails with 1: this is no cubin"):
        machine.load(b"text")
    with pytest.raises(DeviceError, match="cuTensorMapEncodeTiled fails with 1: a stride does not fit"):
        machine.tensor_map(hopper.Planes(0, 1, 8, 9, row_stride=18, plane_stride=18), 64)
    with pytest.raises(DeviceError, match="cuTensorMapEncodeTiled fails with 1: a stride is no multiple"):
        machine.tensor_map(hopper.Planes(0, 2, 8, 8, row_stride=16, plane_stride=128), 64)


@pytest.mark.parametrize(
    ("m", "columns"), [(1, 128), (128, 128), (129, 256), (256, 256), (300, 128), (513, 256), (600, 256), (10_000, 256)]
)
def test_tiles_are_narrow_where_that_multiplies_less(m: int, columns: int) -> None:
    shape = hopper.Shape.of(10**6, m, 132, exact=False, nearest=False)
    assert (shape.columns, shape.blocks) == (columns, 132)
    assert shape.width(m) % columns == 0
    assert m <= shape.width(m) < m + columns


def test_a_grid_is_no_larger_than_its_rows() -> None:
    assert [hopper.Shape.of(n, 9, 132, exact=True, nearest=True).blocks for n in (1, 256, 257, 10**5)] == [2, 2, 4, 132]


@pytest.mark.parametrize("mass", [1e-12, 0.3, 1.0, 7e9, 1e20])
def test_the_whole_mass_fits_into_64_bits(mass: float) -> None:
    assert 2.0**59 < hopper.q_unit(mass) * mass <= 2.0**61


# Machine code


@pytest.mark.skipif(sys.platform != "linux", reason="NVRTC comes for Linux")
@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("columns", [128, 256])
def test_threads_start_with_the_registers_that_they_share_out(columns: int, *, exact: bool, nearest: bool) -> None:
    """Fewer, and a warpgroup would wait for ever; products that wait for one another are told in a remark."""
    found = compiled(SOURCE, "90a", hopper.Shape(columns, exact, nearest, 2).defines)
    assert [kernel.registers for kernel in found.kernels] == [hopper.REGISTERS]
    assert not found.remarks


@pytest.fixture
def nvrtc() -> driver.Compiler:
    try:
        return driver.Compiler()
    except DeviceError:
        if os.environ.get("CI") and sys.platform == "linux":
            raise
        pytest.skip("there is no NVRTC")


def test_the_compilers_builtins_are_loaded_before_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder, loaded = tmp_path / "nvidia" / "cu13" / "lib", list[str]()
    folder.mkdir(parents=True)
    for name in ("libnvrtc.so.13", "libnvrtc-builtins.so.13.0", "libcudart.so.13"):
        (folder / name).touch()

    def load(path: str) -> SimpleNamespace:
        loaded.append(path.removeprefix(f"{folder}/"))
        return SimpleNamespace(nvrtcVersion=lambda *_: 0)

    monkeypatch.setattr(driver, "sys", SimpleNamespace(path=[str(tmp_path)]))
    monkeypatch.setattr(driver, "ctypes", SimpleNamespace(CDLL=load, c_int=ctypes.c_int, byref=ctypes.byref))
    driver.Compiler()
    assert loaded == ["libnvrtc-builtins.so.13.0", "libnvrtc.so.13"]


def test_cubins_are_kept(nvrtc: driver.Compiler, tmp_path: Path) -> None:
    del nvrtc
    source = tmp_path / "one.cu"
    source.write_text('extern "C" __global__ void sweep_sm90(int* out) { *out = NUMBER; }', encoding="utf-8")
    kept = tmp_path / "kept"
    first = driver.cubin(source, ["-DNUMBER=1"], kept)
    assert first.startswith(CUBIN)
    (file,) = kept.iterdir()
    file.write_bytes(b"from the cache")
    assert driver.cubin(source, ["-DNUMBER=1"], kept) == b"from the cache"
    assert driver.cubin(source, ["-DNUMBER=2"], kept).startswith(CUBIN)
    with pytest.raises(DeviceError, match=r"one\.cu does not compile for sm_90a"):
        driver.cubin(source, ["-DNUMBER=;;x"], kept)


def test_a_trial_is_noted_by_device_and_source(nvrtc: driver.Compiler, tmp_path: Path) -> None:
    del nvrtc
    source = tmp_path / "one.cu"
    source.write_text("// first", encoding="utf-8")
    marks = {driver.trial_mark(source, device, tmp_path) for device in ("one", "one", "another")}
    source.write_text("// second", encoding="utf-8")
    assert len(marks | {driver.trial_mark(source, "one", tmp_path)}) == 3
