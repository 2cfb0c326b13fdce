"""Efficiency by work done: one look at a pool on 1, 2 and 4 nodes of a local Ray cluster, one processor each.

The nodes share this machine's cores, so the clock would tell of the cores. What is compared is processor time, that of
the workers and of the process that adds up what they give, with the processor time of the same look by one process; and
the bytes that Ray hands to workers and back, as it writes them, of one look more. Every answer is compared bit by bit.
--record keeps it in the newest record in benches/record/scale, of which scale_tables.py makes docs/scale.md's tables.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import files
from gapsel.backends.cpu import CpuBackend
from gapsel.bench.cases import demo_vectors, drawn
from gapsel.records import Box, Cost, Query, Target, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.backends.ray import RayBackend

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "target" / "bench"
RECORDS = ROOT / "benches" / "record" / "scale"
NODES = (1, 2, 4)
M, ROWS, D, EPS = 1000, 131_072, 384, 0.1
ROUNDS = 2
KINDS = (("plain", False), ("gram", True))


class Look:
    """One look at the pool: of any backend it has the same bits, or the measurement ends."""

    def __init__(self, pool: NDArray[np.floating], target: Target, *, gram: bool) -> None:
        self._pool, self._target, self._gram = [pool], target, gram
        self._bits: list[bytes] = []

    def __call__(self, backend: Backend) -> None:
        """Look, and compare."""
        query = Query(self._target, np.zeros(M), Box.fixed(1 / ROWS), EPS, Cost(), gram=self._gram)
        swept = backend.sweep(self._pool, query)
        arrays = (swept.q, swept.gram, swept.gram_q, np.array([swept.value, swept.hard, swept.entropy]))
        bits = [array.tobytes() for array in arrays if array is not None]
        self._bits = self._bits or bits
        assert self._bits == bits


@contextmanager
def cluster(nodes: int) -> Iterator[RayBackend]:
    """Start a cluster of so many nodes of one processor, and yield the backend on it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    from gapsel.backends.ray import RayBackend

    found = Cluster()
    try:
        for at in range(nodes):
            found.add_node(num_cpus=1, object_store_memory=160 << 20, **({} if at else {"include_dashboard": False}))
        os.environ["RAY_ADDRESS"] = found.address
        yield RayBackend(threads=1)
    finally:
        os.environ.pop("RAY_ADDRESS", None)
        ray.shutdown()
        found.shutdown()


def processor_seconds(process: int) -> float:
    """Return the processor time of a process so far, all its threads together (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def counted(backend: RayBackend) -> Iterator[dict[str, int]]:
    """Count the bytes that go to the workers and come back: messages, what they fetch by reference, results."""
    crew, bytes_of = backend._crew, {"sent": 0, "back": 0}  # noqa: SLF001 - where all of it passes
    map_of, fetched = crew.map, set[Any]()

    def noted(item: Callable[[], Any]) -> Callable[[], Any]:
        def message() -> Any:  # noqa: ANN401 - passed on
            span = item()
            bytes_of["sent"] += _size(span)
            if span.job[0] not in fetched:
                fetched.add(span.job[0])
                bytes_of["sent"] += _size_of_shared(span.job[0]) * len(crew._members)  # noqa: SLF001 - as above
            return span

        return message

    def counting(items: Iterator[Callable[[], Any]], *again: Any) -> Iterator[Any]:  # noqa: ANN401 - passed on
        for result in map_of(map(noted, items), *again):
            bytes_of["back"] += _size(result)
            yield result

    crew.map = counting  # type: ignore[method-assign]
    try:
        yield bytes_of
    finally:
        crew.map = map_of  # type: ignore[method-assign]


def _size(value: object) -> int:
    import ray

    context = ray._private.worker.global_worker.get_serialization_context()  # noqa: SLF001 - Ray says it nowhere else
    return int(context.serialize(value).total_bytes)


def _size_of_shared(reference: Any) -> int:  # noqa: ANN401 - an ObjectRef
    import ray

    return _size(ray.get(reference))


def looks(folder: Path) -> dict[str, Any]:
    """Return what 1, 2 and 4 nodes do, without and with a Gram, beside one process; the pool lies in ``folder``."""
    np.save(folder / "pool.npy", drawn(demo_vectors("pool", CACHE), ROWS, D, 0).astype(np.float16))
    pool = np.load(folder / "pool.npy", mmap_mode="r")
    target = Target(frozen(drawn(demo_vectors("target_mix", CACHE), M, D, 1)), np.full(M, 1 / M))
    look = {name: Look(pool, target, gram=gram) for name, gram in KINDS}
    found: dict[str, Any] = {name: {"whole": _alone(look[name])} for name, _ in KINDS}
    for nodes in NODES:
        with cluster(nodes) as backend:
            for name, _ in KINDS:
                found[name][str(nodes)] = _shared(backend, look[name], nodes)
    return {"rows": ROWS, "rounds": ROUNDS, **found}


def _alone(look: Look) -> float:
    """Return the rows that one process sweeps in a second of the processor."""
    backend = CpuBackend(1)
    look(backend)
    began = time.process_time()
    for _ in range(ROUNDS):
        look(backend)
    return ROUNDS * ROWS / (time.process_time() - began)


def _shared(backend: RayBackend, look: Look, nodes: int) -> dict[str, Any]:
    """Return the rows in a second of the processor on this cluster, who had how much of it, and the bytes of a look."""
    members = backend._crew._members  # noqa: SLF001 - whose processes these are
    look(backend)
    while sum(member.joined for member in members) < nodes:
        look(backend)
    with counted(backend) as bytes_of:
        look(backend)
    before, began = [processor_seconds(member.process) for member in members], time.process_time()
    for _ in range(ROUNDS):
        look(backend)
    driver = time.process_time() - began
    took = [processor_seconds(member.process) - at for member, at in zip(members, before, strict=True)]
    return {
        "rows_a_second": ROUNDS * ROWS / (sum(took) + driver), "driver": driver / (sum(took) + driver),
        "slowest": max(took) / sum(took), **bytes_of,
    }  # fmt: skip


def main() -> None:
    """Measure, print and perhaps record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="keep the results in the newest record")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = looks(Path(folder))
    print(json.dumps(found, indent=2))
    if args.record:
        newest = max(RECORDS.glob("*.json"))
        files.write_json(newest, {**json.loads(newest.read_text(encoding="utf-8")), "parts": found})


if __name__ == "__main__":
    main()
