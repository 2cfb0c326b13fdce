"""What a run really does, in the words of the cost model: FLOP of each kind and processor seconds, step by step.

A backend that passes every call on counts the rows of each look, exact or rough, with a Gram or without; numbers of
work that no other program on the machine can change.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gapsel import backends, pipeline
from gapsel.config import STEPS
from gapsel.plan.looks import Looks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.config import Settings
    from gapsel.records import KeptPlan, Query, Sweep


@dataclass
class Counting:
    """A backend that counts: ``seen`` has how often so many rows were looked at, by how many columns, and how."""

    inner: Backend
    seen: Counter[tuple[int, int, str]] = field(default_factory=Counter)
    name: str = "cpu"

    @property
    def resolution(self) -> float:
        """That of the backend within."""
        return self.inner.resolution

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the backend within has
        return getattr(self.inner, name)

    def sweep(self, shards: Sequence[NDArray[np.floating]], query: Query) -> Sweep:
        """Count the look, and pass it on."""
        how = ("rough" if query.rough else "exact") + ("_gram" if query.gram else "")
        self.seen[sum(map(len, shards)), len(query.target.b), how] += 1
        return self.inner.sweep(shards, query)

    @property
    def keeper(self) -> Counting | None:
        """Itself, where the backend within keeps plans."""
        return None if self.inner.keeper is None else self

    def sweep_kept(self, kept: KeptPlan, query: Query) -> Sweep:
        """Count the look at a plan, and pass it on."""
        self.seen[len(kept.f), len(query.target.b), "kept_gram" if query.gram else "kept"] += 1
        return self.inner.keeper.sweep_kept(kept, query)  # type: ignore[union-attr] - there is one where plans are

    def topk(self, values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Pass it on."""
        return self.inner.topk(values, k)


@dataclass(frozen=True)
class Counts:
    """What one step did: its looks, and the processor time that it took."""

    looks: tuple[Looks, ...]
    processor: float

    def flop(self, m: int, d: int) -> dict[str, float]:
        """Return the FLOP of each kind."""
        exact, rough = (sum(one.sweep_flop(m, d)[at] for one in self.looks) for at in (0, 1))
        return {"exact": exact, "rough": rough, "gram": sum(one.gram_flop(m, d) for one in self.looks)}


def counted(folder: Path, settings: Settings) -> dict[str, Counts]:
    """Do a whole run in a new folder, and return what each step did."""
    found = {}
    with pipeline.begin(folder, settings, quiet=True) as run:
        counting = Counting(backends.choose("cpu", settings.threads))
        run.backend = counting
        for step in STEPS:
            counting.seen.clear()
            began = time.process_time()
            pipeline.advance(run, step)
            took = time.process_time() - began
            made = tuple(
                Looks(step, rows, columns=columns, **{how: float(count)})
                for (rows, columns, how), count in counting.seen.items()
            )
            found[step] = Counts(made, took)
    return found
