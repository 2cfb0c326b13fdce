"""The GPU backend with Hopper's kernel as its product stage, on emulated devices."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

from cuda_emulator import compiler
from emulated_gpu import DeviceArray, EmulatedGpu, emulated
from gapsel.backends import selftest
from gapsel.backends.gpu import GpuBackend, fused
from hopper_emulator import CUBIN, EmulatedDriver, library
from sweeps import REFERENCE, Problem, Result, assert_agrees, bits, problem

if TYPE_CHECKING:
    from gapsel.backends import Backend
    from gapsel.backends.hopper import Arguments, Planes, Shape, TensorMap

pytestmark = pytest.mark.skipif(compiler() is None and not os.environ.get("CI"), reason="there is no g++")


@cache
def driver(defines: tuple[str, ...]) -> EmulatedDriver:
    return EmulatedDriver(library(defines))


class EmulatedKernels:
    """Kernels of a device with two multiprocessors; ``wrong`` ones err by that much."""

    def __init__(self, wrong: float = 0.0) -> None:
        self.multiprocessors, self.wrong = 2, wrong
        self.launched: list[Shape] = []
        self._any: EmulatedDriver | None = None

    def tensor_map(self, planes: Planes, box_rows: int) -> TensorMap:
        return driver(("-DGAPSEL_COLUMNS=128", "-DGAPSEL_EXACT=0", "-DGAPSEL_NEAREST=0")).tensor_map(planes, box_rows)

    def launch(self, shape: Shape, arguments: Arguments, stream: int) -> None:
        self.launched.append(shape)
        arguments.scale *= 1 + self.wrong
        machine = driver(shape.defines)
        machine.launch(machine.load(CUBIN), shape.blocks, stream, arguments)


def backend(kernels: EmulatedKernels, *, trusted: bool = True) -> GpuBackend:
    device = EmulatedGpu()
    device.fused = kernels
    return GpuBackend([device], trusted=trusted)


def look(p: Problem, machine: Backend, shards: list[Any] | None = None, *, rough: bool = False) -> Result:
    """A sweep without a Gram, and zeros in its place, so that all else can be compared."""
    found = p.sweep(machine, shards, k=9, gram=False, rough=rough)
    return replace(found, swept=replace(found.swept, gram=np.zeros((len(p.g), len(p.g)))))


@pytest.mark.parametrize(
    ("dtype", "normalize"),
    [(np.float16, True), (np.float16, False), (np.float32, True), (ml_dtypes.bfloat16, True)],
)
def test_exact_sweeps(dtype: type[Any], *, normalize: bool) -> None:
    """More rows than one round of two multiprocessors takes; rows that are multiplied as they lie, or packed."""
    p, kernels = problem(300, 140, 24, dtype=dtype, normalize=normalize), EmulatedKernels()
    found, exact = look(p, backend(kernels)), look(p, REFERENCE)
    assert_agrees(p, found, exact)
    assert found.swept.top is not None
    assert np.array_equal(found.swept.top[1], np.sort(found.f)[:9])
    assert [(shape.exact, shape.nearest) for shape in kernels.launched] == [(True, True)]


def test_rough_sweeps() -> None:
    p, kernels = problem(300, 300, 72, rel=0.2, dtype=np.float16), EmulatedKernels()
    found = look(p, backend(kernels), rough=True)
    assert_agrees(p, found, look(p, REFERENCE), 2**-9)
    assert [shape.exact for shape in kernels.launched] == [False]


def test_cuts_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    p, kernels = problem(1100, 40, 8, dtype=np.float16), EmulatedKernels()
    whole = bits(look(p, backend(kernels)))
    monkeypatch.setattr(fused, "_ROUNDS", 2)
    cut = look(p, backend(kernels), np.split(p.x, [400, 401]))
    assert len(kernels.launched) == 1 + 3
    assert bits(cut) == whole


def test_rows_at_an_odd_address_are_copied() -> None:
    p, kernels = problem(200, 30, 8, dtype=np.float16), EmulatedKernels()
    room = np.empty(p.x.size + 9, np.float16)
    start = (-room.ctypes.data // 2 + 1) % 8
    odd = room[start : start + p.x.size].reshape(p.x.shape)
    odd[:] = p.x
    assert odd.ctypes.data % 16 == 2
    found = look(p, backend(kernels), [DeviceArray(odd)])
    assert kernels.launched
    assert bits(found) == bits(look(p, backend(kernels)))


def test_what_the_portable_stage_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Gram, distances, rows that the copy engine cannot read, strips that do not fit, and where it is asked for."""
    kernels, p = EmulatedKernels(), problem(60, 30, 8, dtype=np.float16)
    p.sweep(backend(kernels), gram=True)
    problem(60, 30, 8, kind="euclidean").sweep(backend(kernels), gram=False)
    problem(60, 30, 9, dtype=np.float16).sweep(backend(kernels), gram=False)
    p.sweep(GpuBackend(backend(kernels).devices, trusted=True, fused=False), gram=False)
    monkeypatch.setattr(fused, "_STRIPS", 1 << 30)
    p.sweep(backend(kernels), gram=False)
    assert not kernels.launched
    monkeypatch.undo()
    p.sweep(backend(kernels), gram=False)
    assert kernels.launched


# The examination


def test_the_examination_passes() -> None:
    kernels = EmulatedKernels()
    cases = [replace(case, rows=min(case.rows, 300)) for case in selftest.FUSED_CASES]
    findings = selftest.findings(backend(kernels), cases)
    assert len(kernels.launched) == len(cases)
    assert all(finding.agrees for finding in findings)


def test_a_kernel_that_fails_its_trial_is_never_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "CASES", selftest.CASES[:1])
    kernels, p = EmulatedKernels(), problem(60, 30, 8, dtype=np.float16)
    machine = backend(kernels, trusted=False)
    emulated(machine).faults = "its trial ended with -6: an illegal instruction"
    with pytest.warns(RuntimeWarning, match="is left out; the portable ones do. its trial ended with -6"):
        found = look(p, machine)
    assert not kernels.launched
    assert_agrees(p, found, look(p, REFERENCE))


def test_a_kernel_that_errs_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "CASES", selftest.CASES[:1])
    monkeypatch.setattr(selftest, "FUSED_CASES", selftest.FUSED_CASES[-1:])
    kernels, p = EmulatedKernels(wrong=0.01), problem(60, 30, 8, dtype=np.float16)
    machine = backend(kernels, trusted=False)
    with pytest.warns(RuntimeWarning, match="is left out; the portable ones do"):
        found = look(p, machine)
    assert machine.devices[0].fused is None
    assert len(kernels.launched) == 1
    assert_agrees(p, found, look(p, REFERENCE))
