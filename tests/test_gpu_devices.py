"""The GPU backend's devices: several of them, spans, arrays that lie there, the examination, failures, the choice."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cuda_emulator import compiler
from emulated_gpu import DeviceArray, EmulatedGpu, emulated, emulated_backend
from gapsel import backends
from gapsel.backends import selftest
from gapsel.backends.gpu import GpuBackend, sources
from gapsel.backends.gpu import span as spans
from gapsel.backends.gpu.device import lost
from gapsel.backends.parts import Part, added, swept
from gapsel.errors import DataError, DeviceError, MissingDependencyError, UsageError
from gapsel.records import frozen
from sweeps import REFERENCE, assert_agrees, bits, problem

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.skipif(compiler() is None and not os.environ.get("CI"), reason="there is no g++")


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


def test_spans_follow_from_the_number_of_rows_and_of_a_grams_columns() -> None:
    assert spans.span_rows(1700) == 1700
    assert spans.span_rows(10**7) == 1 << 20
    assert spans.span_rows(10**10) == 38 << 20
    assert [spans.span_rows(10**8, m) >> 20 for m in (1, 512, 513, 4000)] == [1, 1, 2, 8]
    assert spans.span_rows(10**7, 10_000) == 10**7
    assert spans.spans(range(5, 18), 5) == [range(5, 10), range(10, 15), range(15, 18)]
    assert spans.dealt([range(1)] * 5, 2) == [[range(1)] * 3, [range(1)] * 2]


def test_a_bad_row_of_a_span_is_named_by_its_number_in_the_pool() -> None:
    p = problem(600, 20, 8)
    p.x[123, 4] = np.inf
    with pytest.raises(DataError, match="pool row 1123 holds inf at dimension 4"):
        emulated_backend().part([p.x], p.query(), 1000, 4000)


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


def test_sources_are_in_the_package_and_can_be_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "strip_32_1" in sources.source("sweep.cu")
    (tmp_path / "sweep.cu").write_text('#include "a.cuh"\n#include "b.cuh"\n// mine', encoding="utf-8")
    (tmp_path / "a.cuh").write_text("// a\n", encoding="utf-8")
    (tmp_path / "b.cuh").write_text('#include "a.cuh"\n// b', encoding="utf-8")
    monkeypatch.setenv("GAPSEL_CUDA_DIR", str(tmp_path))
    a = '#line 1 "a.cuh"\n// a\n\n#line 2 "sweep.cu"\n'
    assert sources.source("sweep.cu") == f'{a}#line 1 "b.cuh"\n\n// b\n#line 3 "sweep.cu"\n// mine'
    with pytest.raises(UsageError, match=r"topk.cu: the kernels' source cannot be read .* GAPSEL_CUDA_DIR"):
        sources.source("topk.cu")
