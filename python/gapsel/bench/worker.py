"""One run of one engine, in a process of its own: python -m gapsel.bench.worker FOLDER, which has a job.json.

Timed is the engine's call alone, from vectors in memory to g. Peak memory is the highest resident memory during the
call above what was resident before it (interpreter, packages, vectors): on Linux the kernel's own figure for the call,
elsewhere the peak of the whole life of the process. A call that takes longer than its limit is killed by the alarm.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.bench.cases import Problem
from gapsel.bench.engines import named

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.bench.engines import Call, Engine

_STATUS = Path("/proc/self/status")
# What the engines that hold a dense matrix hold about, in float64 numbers an entry.
_NUMBERS, _PAGE = 3, 4096
_MEMORY_WORDS = ("alloc", "resource_exhausted", "out of memory")


def main(folder: Path) -> None:
    """Run, and write result.json and g.npy into the folder, or why there is no g."""
    job = json.loads((folder / "job.json").read_text())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["threads"]])
    problem = Problem(np.load(folder / "x.npy"), np.load(folder / "y.npy"), job["eps"], job["k"])
    _limit(job["memory"])
    try:
        result = _measured(job, problem, folder)
    except Exception as error:  # noqa: BLE001 - whatever befalls an engine is a result
        text = f"{type(error).__name__}: {error}"
        lack = isinstance(error, MemoryError) or any(word in text.lower() for word in _MEMORY_WORDS)
        result = {"failure": "memory" if lack else text[:300]}
    (folder / "result.json").write_text(json.dumps(result))


def _measured(job: dict[str, Any], problem: Problem, folder: Path) -> dict[str, object]:
    engine = named([job["engine"]])[0]
    call = prepared(engine, problem, job["effort"])
    _wake_memory(min(job["memory"] // 2, _NUMBERS * 8 * len(problem.x) * len(problem.y)))
    _forget_peak()
    before = _peak()
    signal.setitimer(signal.ITIMER_REAL, job["limit"])
    seconds, g = timed(call)
    signal.setitimer(signal.ITIMER_REAL, 0)
    peak = _peak()
    np.save(folder / "g.npy", g)
    return {"seconds": seconds, "peak_bytes": peak - before}


def prepared(engine: Engine, problem: Problem, effort: int) -> Call:
    """Return the call to time; packages that complain of an early end are told to be quiet."""
    warnings.simplefilter("ignore")
    return engine.make(problem, effort)


def timed(call: Call) -> tuple[float, NDArray[np.float64]]:
    """Return the seconds that a call took, and its g (m,)."""
    began = time.perf_counter()
    g = call()
    return time.perf_counter() - began, np.asarray(g, np.float64)


def _wake_memory(size: int) -> None:
    """Touch some memory and let it go, so that the machine has it at hand.

    A virtual machine may hand free memory back to its host, and has to ask for it again: 2.3 s a GB on one, where what
    had been touched a moment before took 0.12. Which engine wants more memory would decide.
    """
    if _STATUS.exists():  # elsewhere it would count as the engine's peak
        with suppress(MemoryError):
            np.empty(size, np.uint8)[::_PAGE] = 1


def _limit(memory: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (memory if hard < 0 else min(memory, hard), hard))


def _forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    if _STATUS.exists():
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    main(Path(sys.argv[1]))
