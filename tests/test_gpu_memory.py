"""What the GPU backend keeps on its device, what it streams, and how it goes on where memory runs out."""

from __future__ import annotations

import gc
import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cuda_emulator import compiler
from emulated_gpu import EmulatedGpu, emulated, emulated_backend
from gapsel.backends.gpu import GpuBackend, gram, operands
from gapsel.errors import DeviceError
from gapsel.potentials import Rows, Task, solve
from gapsel.records import CostScale, frozen
from sweeps import REFERENCE, Problem, assert_agrees, bits, problem

pytestmark = pytest.mark.skipif(compiler() is None and not os.environ.get("CI"), reason="there is no g++")


def with_memory(p: Problem, factor: float) -> GpuBackend:
    """A device with so many times the memory that the pool takes."""
    return GpuBackend([EmulatedGpu(int(factor * p.x.nbytes))], trusted=True)


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
