"""GPUs of a cluster: Ray's own placing of workers, and in each of them the GPU backend on an emulated device."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cuda_emulator import compiler
from emulated_gpu import emulated_backend
from gapsel.backends import choose
from gapsel.backends import ray as ray_backend
from gapsel.backends.gpu import span
from gapsel.backends.ray import RayBackend
from gapsel.backends.ray.crew import Crew
from gapsel.config import Settings
from gapsel.potentials import Rows, Task, solve
from gapsel.records import CostScale
from ray_cluster import needs_ray, two_machines
from sweeps import REFERENCE, Problem, assert_agrees, bits, problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gapsel.backends.ray.work import Work

pytestmark = [
    needs_ray,
    pytest.mark.skipif(compiler() is None and not os.environ.get("CI"), reason="there is no g++"),
]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Two machines that Ray takes for owners of a GPU."""
    with two_machines(num_gpus=1) as found:
        yield found


@pytest.fixture(autouse=True)
def emulated(nodes: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are told by name what to make, so that theirs is the emulated device too; pools have several spans."""
    assert nodes
    monkeypatch.setattr(ray_backend, "GpuBackend", emulated_backend)
    monkeypatch.setattr(span, "SPAN_ROWS", 512)


def mapped(x: np.ndarray[Any, Any], path: Path) -> np.ndarray[Any, Any]:
    np.save(path, x)
    array: np.ndarray[Any, Any] = np.load(path, mmap_mode="r")
    return array


def pool(n: int = 1900) -> Problem:
    return problem(n, 40, 9, dtype=np.float16)


@pytest.fixture(scope="module")
def cluster(nodes: object) -> RayBackend:
    assert nodes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_backend, "GpuBackend", emulated_backend)
        return RayBackend(gpus=1.0)


def test_the_bits_are_those_of_one_gpu(cluster: RayBackend, tmp_path: Path) -> None:
    """Files and memory, with a Gram and without, rough and exact."""
    p = pool()
    x = mapped(p.x, tmp_path / "x.npy")
    for k, gram, rough in ((700, True, False), (1, False, True)):
        one = p.sweep(emulated_backend(), k=k, gram=gram, rough=rough)
        for shards in (np.split(x, [3, 1000]), [p.x]):
            assert bits(p.sweep(cluster, shards, k=k, gram=gram, rough=rough)) == bits(one)
    assert_agrees(p, p.sweep(cluster), p.sweep(REFERENCE))
    assert len(cluster._crew._members) == 2
    assert cluster.identity == emulated_backend().identity == "gpu emulated"


def test_a_worker_is_killed(cluster: RayBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    p, receive, killed = pool(4000), Crew._receive, list[int]()

    def and_die(self: Crew[Any, Any], work: Work[Any, Any], reference: object, again: Any) -> None:  # noqa: ANN401
        receive(self, work, reference, again)
        if not killed and work.running:
            killed.append(next(iter(work.running.values()))[0].process)
            os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(Crew, "_receive", and_die)
    assert bits(p.sweep(cluster, k=9)) == bits(p.sweep(emulated_backend(), k=9))
    assert len(killed) == 1


def test_a_solve_by_workers_that_share_gpus(cluster: RayBackend) -> None:
    """Samples are swept by GPUs too: g is what one GPU finds, to the last bit."""
    cluster._crew.dismiss()
    p = problem(1500, 12, 5, dtype=np.float16, lam=0.0)
    task = Task(Rows.whole([p.x], 15), p.target, p.cost, CostScale(1.0, 0.3), 0.2, 0.0, tolerance=1e-2)
    shared = choose(**Settings(ray=True, backend="gpu", gpu_share=0.5).sweeper)
    assert isinstance(shared, RayBackend)
    found, one = solve(task, shared), solve(task, emulated_backend())
    assert found.potentials.g.tobytes() == one.potentials.g.tobytes()
    assert found.f.tobytes() == one.f.tobytes()
    assert len(shared._crew._members) == 4
