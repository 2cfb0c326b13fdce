"""How much memory this process may hold, and what each buffer may take of it.

One process has one memory, so the limit is the process's: the setting ``memory`` gives it, else half of what the
machine, or the container around it, has. Buffers ask for a share of it when they are made; what is larger goes through
a file. No result depends on it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gapsel.errors import ResourceError

MEGABYTE = 1_000_000
# The interpreter, NumPy, Arrow and the core, before any row is read.
_BASE = 150 * MEGABYTE
# A row of the pool, at the peak (in select): its f, its mass in the mixture and an order of all rows, each held twice.
_PER_ROW = 48
# The solver's m x m matrices, in float64: a Gram and its sum for each of two threads, a factor, a copy to work on.
_GRAMS = 6
# Targets and what is kept of each while a block of rows is read.
_PER_TARGET = 16
# Bytes of the largest plan that the solver keeps of rows, to look at that instead.
LARGEST_PLAN = 1 << 28
# What buffers take together: that plan, or later the round-robin baseline's lists and tiles.
_BUFFERS = LARGEST_PLAN


@dataclass(slots=True)
class _Limit:
    size: int | None = None


_limit = _Limit()


def allow(size: int | None) -> None:
    """Set the limit of this process in bytes, None for the default."""
    _limit.size = size


def limit() -> int:
    """Return how many bytes this process may hold."""
    return _limit.size or machine() // 2


def share(part: float, *, least: int, most: int | None = None) -> int:
    """Return how many bytes a buffer may take that is to have this part of the limit."""
    size = max(least, int(part * limit()))
    return size if most is None else min(size, most)


def machine() -> int:
    """Return the bytes of memory that the machine has, or the container around this process if that is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_containers()])


def needed(n: int, m: int, d: int) -> int:
    """Return the bytes, about, that a run of n rows and m targets of d dimensions holds beyond mapped files."""
    return _BASE + _BUFFERS + _PER_ROW * n + 8 * _GRAMS * m * m + 4 * _PER_TARGET * m * d


def check(n: int, m: int, d: int) -> None:
    """Raise ResourceError where the limit is below what n rows and m targets of d dimensions need."""
    wanted = needed(n, m, d)
    if wanted > limit():
        msg = (
            f"memory: {n:,} documents and {m:,} targets need about {wanted / MEGABYTE:,.0f} MB, and {_source()} allows "
            f"{limit() / MEGABYTE:,.0f} MB: give more (--memory {_rounded(wanted)}), fewer documents or fewer targets"
        )
        raise ResourceError(msg)


def _source() -> str:
    return "half of this machine" if _limit.size is None else "--memory"


def _rounded(size: int) -> str:
    """Return a size to be given as a setting, rounded up."""
    return f"{-(-size // (100 * MEGABYTE)) / 10:g}GB"


def _containers() -> list[int]:
    """Return the limits of the control groups that this process is in, of either version; [] where there is none."""
    groups = Path("/proc/self/cgroup")
    if not groups.exists():
        return []
    found = []
    for line in groups.read_text(encoding="ascii", errors="replace").splitlines():
        _, controllers, path = line.split(":", 2)
        root = Path("/sys/fs/cgroup") / ("memory" if controllers else "")
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        if controllers and "memory" not in controllers.split(","):
            continue
        own = root / path.lstrip("/")
        found += [_number(folder / name) for folder in (own, *own.parents) if folder.is_relative_to(root)]
    return [size for size in found if size]


def _number(file: Path) -> int:
    """Return the number in a file, 0 where there is none."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0
