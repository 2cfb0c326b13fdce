"""The device over CuPy, with a stand-in for CuPy: products, copies, kernels' arguments, the ring of pinned memory."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import stand_in_cupy
from cuda_emulator import compiler
from emulated_gpu import emulated_backend
from gapsel import backends
from gapsel.backends import selftest
from gapsel.backends.gpu import GpuBackend, copies, cupy_device, gpus, operands, trial
from gapsel.backends.gpu.cupy_device import CupyDevice, all_devices
from gapsel.errors import DataError, DeviceError, MissingDependencyError
from sweeps import REFERENCE, assert_agrees, bits, problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = pytest.mark.skipif(compiler() is None and not os.environ.get("CI"), reason="there is no g++")


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401
    found = stand_in_cupy.cupy()
    monkeypatch.setitem(sys.modules, "cupy", found)
    monkeypatch.setattr(selftest, "CASES", selftest.CASES[:1])
    return found


@pytest.fixture
def device(cupy: Any) -> CupyDevice:  # noqa: ANN401, ARG001
    (device,) = all_devices()
    return device


def test_facts(device: CupyDevice) -> None:
    facts = device.facts
    assert (facts.name, facts.capability, facts.memory, facts.driver) == ("stand-in", (8, 0), 1 << 30, "13.2")
    assert device.fused is None


def test_products_of_strided_rows(device: CupyDevice) -> None:
    rng = np.random.default_rng(0)
    x, y, out = (
        device.upload(rng.standard_normal(shape).astype(kind))
        for shape, kind in (((7, 12), np.float16), ((5, 20), np.float16), ((7, 5), np.float32))
    )
    before = device.download(out)
    device.multiply(x[:, 4:8], y[:, 8:12], out, alpha=0.5, beta=2.0)
    expected = 0.5 * device.download(x)[:, 4:8].astype(float) @ device.download(y)[:, 8:12].astype(float).T + 2 * before
    np.testing.assert_allclose(device.download(out), expected, rtol=1e-6)
    u, v = x[:6], device.upload(rng.standard_normal((6, 9)).astype(np.float16))
    part = device.empty((12, 9), np.float32)
    device.inner(u, v, part)
    np.testing.assert_allclose(
        device.download(part), device.download(u).astype(float).T @ device.download(v).astype(float), rtol=1e-6
    )


def test_copies(device: CupyDevice) -> None:
    source = device.upload(np.arange(60, dtype=np.float16).reshape(6, 10))
    target = device.zeros((6, 12), np.float16)
    device.copy(source[:, :4], target[:, 4:8])
    assert device.download(target)[:, 4:8].tolist() == device.download(source)[:, :4].tolist()
    assert not device.download(target)[:, :4].any()
    device.copy(source[2:4], source[:2])
    assert device.download(source)[0].tolist() == list(range(20, 30))
    device.zero(source[1:])
    assert not device.download(source)[1:].any()


@pytest.mark.parametrize("sizes", [[10], [40, 40, 7], [64] * 9])
def test_what_is_streamed_arrives_whole_and_in_order(device: CupyDevice, sizes: list[int]) -> None:
    """Copies happen as late as they may: a pinned block that were filled anew too early would arrive twice.

    And a copy to a place on the device that did not wait for the download from it would be refused.
    """
    rng = np.random.default_rng(0)
    blocks = [tuple(np.array_split(rng.integers(0, 255, size).astype(np.uint8), 3)) for size in sizes]
    for _ in range(2):
        arrived = [bytes(device.download(block)) for block in device.stream(blocks, 64)]
        assert arrived == [np.concatenate(block).tobytes() for block in blocks]


def test_a_stream_that_is_left_early(device: CupyDevice) -> None:
    blocks = [(np.full(8, value, np.uint8),) for value in range(6)]
    for block in device.stream(blocks, 8):
        if device.download(block)[0] == 2:
            break
    assert [int(device.download(block)[0]) for block in device.stream(blocks, 8)] == list(range(6))
    next(device.stream(blocks, 8))
    assert [len(block) for block in device.stream([(np.ones(9, np.uint8),)], 9)] == [9]
    assert not any(stream.waiting for stream in stand_in_cupy.STREAMS.values())


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("rough", [False, True])
def test_sweeps_give_the_emulated_devices_bits(
    cupy: Any,  # noqa: ANN401, ARG001
    monkeypatch: pytest.MonkeyPatch,
    dtype: type[np.floating[Any]],
    rough: bool,  # noqa: FBT001
) -> None:
    p = problem(700, 30, 16, dtype=dtype)
    monkeypatch.setattr(operands, "TRANSFER", 200 * p.x.itemsize * 16)
    monkeypatch.setattr(copies, "_COPY", 1000)
    found = p.sweep(GpuBackend(), k=9, rough=rough)
    assert bits(found) == bits(p.sweep(emulated_backend(), k=9, rough=rough))
    if not rough:
        assert_agrees(p, found, p.sweep(REFERENCE))


@dataclass
class OnDevice:
    """A tensor of a library that speaks DLPack."""

    values: NDArray[Any]
    place: tuple[int, int] = (2, 0)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.place


def test_arrays_of_other_libraries(device: CupyDevice) -> None:
    p = problem(300, 20, 8, dtype=np.float16)
    found = p.sweep(GpuBackend([device], trusted=True), [OnDevice(p.x)], k=3)
    assert bits(found) == bits(p.sweep(emulated_backend(), k=3))
    assert device.adopt(OnDevice(p.x, (2, 1))) is None
    assert device.adopt(OnDevice(p.x, (1, 0))) is None
    assert device.adopt([1.0]) is None


@pytest.mark.parametrize("error", [BufferError("it requires gradients"), NotImplementedError("no bfloat16")])
def test_an_array_that_cannot_be_adopted(cupy: Any, device: CupyDevice, error: Exception) -> None:  # noqa: ANN401
    cupy.from_dlpack = lambda _: _raise(error)
    with pytest.raises(DataError, match=f"cannot be read where it lies: {error}"):
        device.adopt(OnDevice(np.ones((2, 2))))


def test_the_kernel_for_hopper_is_tried_first(device: CupyDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(cupy_device, "trial_mark", lambda source, device: f"{source.name} on {device}")
    monkeypatch.setattr(trial, "pass_once", lambda mark, command: tried.append((mark, command)))
    monkeypatch.setenv("GAPSEL_HOPPER", "1")
    device.try_fused()
    assert not tried
    monkeypatch.delenv("GAPSEL_HOPPER")
    device.try_fused()
    assert tried == [("sweep_sm90.cu on stand-in 13.2", trial.command(0))]


def test_what_a_trial_examines(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401, ARG001
    """The kernel, and nothing in its place where it is not there."""
    with pytest.raises(DeviceError, match="stand-in has no kernel of its own here"):
        trial.examine(0)
    examined: list[tuple[Any, ...]] = []
    monkeypatch.setattr(CupyDevice, "fused", property(lambda device: device))
    monkeypatch.setattr(selftest, "examine", lambda backend, cases: examined.append((backend.devices[0].fused, cases)))
    trial.examine(0)
    ((device, cases),) = examined
    assert device.index == 0
    assert cases is selftest.FUSED_CASES


def test_auto_takes_a_gpu_that_is_sound(cupy: Any) -> None:  # noqa: ANN401, ARG001
    assert gpus() == ["stand-in"]
    assert backends.choose("gpu").name == "gpu"


def test_cudas_errors_become_ours(device: CupyDevice) -> None:
    with pytest.raises(MemoryError, match="CUBLAS_STATUS_ALLOC_FAILED"), device.current():
        _raise(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"))
    with pytest.raises(DeviceError, match=r"the GPU \(stand-in\) failed: cudaErrorIllegalAddress"), device.current():
        _raise(RuntimeError("cudaErrorIllegalAddress"))
    with pytest.raises(MemoryError), device.current():
        _raise(MemoryError())


def _raise(error: Exception) -> None:
    raise error


def test_no_device_that_can(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 0)
    with pytest.raises(DeviceError, match=r"no GPU of compute capability 7.5 or more is visible, of 0 in all"):
        all_devices()
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: _raise(RuntimeError("no driver")))
    with pytest.raises(DeviceError, match="CUDA shows no GPU"):
        GpuBackend()
    monkeypatch.setattr(cupy, "__version__", "13.6.0")
    with pytest.raises(MissingDependencyError, match=r"CuPy 14 or newer, 13.6.0 is installed"):
        GpuBackend()
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'gapsel\[gpu\]'"):
        GpuBackend()
