"""Records: what was measured, when and on what machine, as JSON; one file for each day, machine and number of threads.

A record describes the machine by what decides its speed and names no host, user or path. Measuring a case or an
engine again replaces what the day's record has of it, so that a record can be made piece by piece.
"""

from __future__ import annotations

import json
import os
import platform
import re
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapsel import __version__, files
from gapsel.backends.cpu import CpuBackend

if TYPE_CHECKING:
    from gapsel.bench.cases import Case

_PACKAGES = ("numpy", "torch", "pot", "geomloss", "pykeops", "ott-jax", "jax")

Results = dict[str, dict[str, dict[str, Any]]]


def empty(threads: int, vectors: str) -> dict[str, Any]:
    """Return a record of this machine without results; ``vectors`` says whose sentence vectors were used."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(), "machine": machine(), "threads": threads,
        "vectors": vectors, "versions": _versions(), "cases": {},
    }  # fmt: skip


def machine() -> dict[str, object]:
    """Describe the machine: processor and the best tiles it has, cores that may be used, memory in GiB, system."""
    return {
        "cpu": _cpu(), "isa": CpuBackend().instructions, "cores": cores(), "memory_gib": round(memory() / 2**30),
        "system": platform.system(),
    }  # fmt: skip


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {package: _version(package) for package in _PACKAGES}
    known = {package: version for package, version in found.items() if version}
    return {"gapsel": __version__, "python": platform.python_version(), **known}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def describe(case: Case, eps: float, steps: dict[str, int], rows: int, memory: int) -> dict[str, Any]:
    """Return what a record says of a case besides its engines: sizes, limits, the exact Sinkhorn steps to its goals."""
    sizes = {name: getattr(case, name) for name in ("about", "n", "m", "d", "k", "limit")}
    asked = {goal: steps[goal] for goal in case.goals}
    return {
        **sizes, "memory_limit": memory, "relative_eps": case.eps, "eps": eps, "sinkhorn_steps": asked,
        "steps_counted_on": rows,
    }  # fmt: skip


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the older record with the newer one's results put into it, its cases in the order of their names."""
    cases = dict(old["cases"])
    for name, case in new["cases"].items():
        engines = {**cases.get(name, {}).get("engines", {}), **case["engines"]}
        cases[name] = {**case, "engines": engines}
    return {**new, "cases": dict(sorted(cases.items()))}


def path(folder: Path, record: dict[str, Any]) -> Path:
    """Return where a record belongs."""
    cpu = re.sub(r"[^a-z0-9]+", "-", str(record["machine"]["cpu"]).lower()).strip("-")
    return folder / f"{record['date']}-{cpu}-{record['threads']}-threads.json"


def save(folder: Path, record: dict[str, Any]) -> Path:
    """Write a record into a folder, merged with what the day's file has, and return the file."""
    file = path(folder, record)
    if file.exists():
        record = merge(read(file), record)
    files.write_json(file, record)
    return file


def read(file: Path) -> dict[str, Any]:
    """Read a record."""
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return record
