"""The cases: sizes, eps and goals, each with the right answer of its small twin.

Pool and target weigh evenly, the cost is |x - y|^2, and eps is given times the mean cost. "text" is sentence vectors on
the unit sphere: the user's own, or the demo's documents embedded once and drawn again with jitter. "cloud" is a
seeded Gaussian cloud and a shifted, narrower one, the shape in which solvers like to be measured.

The small twin has the case's shape and eps but takes seconds and no encoder: text is replaced by clusters on the unit
sphere. ``tiny_value`` is the dual value of its solution, found by float64 Sinkhorn steps to a marginal error of 1e-9;
the judge finds it anew at each check, so that neither data nor judge can drift unseen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from gapsel.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

DEMO = Path("examples/demo")
JITTER = 0.3
_BLOCK = 8192
# What is asked of an engine: a marginal error, or an overlap of its k best with the right ones.
ERRORS = (1e-2, 1e-3, 1e-5)
OVERLAPS = (0.99, 0.999)
GOALS = tuple(f"error {error:.0e}" for error in ERRORS) + tuple(f"overlap {overlap}" for overlap in OVERLAPS)
MAIN_GOAL = GOALS[1]
# What every engine has to reach on the small twins.
CHECKED = (GOALS[1], GOALS[4])


@dataclass(frozen=True, slots=True)
class Case:
    """One problem: n, m, d, k; eps times the mean cost; who takes part; the seconds that one run may take."""

    name: str
    about: str
    n: int
    m: int
    d: int
    k: int
    eps: float
    vectors: Literal["text", "cloud"]
    tiny_value: float
    goals: tuple[str, ...] = GOALS
    engines: tuple[str, ...] = ()
    limit: float = 40.0

    def tiny(self) -> Case:
        """Return the small twin, for a check of every engine within seconds."""
        n, m, d = min(self.n, 900), min(self.m, 60), min(self.d, 24)
        return replace(self, name=f"tiny-{self.name}", n=n, m=m, d=d, k=n // 30, goals=GOALS, engines=())


@dataclass(frozen=True, slots=True)
class Problem:
    """What an engine gets: x (n, d) and y (m, d) float32, eps in units of the cost, k."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    eps: float
    k: int


_TEXT = "sentence vectors"
CASES = (
    Case("text-0.05", f"{_TEXT}, eps 0.05 of the mean cost", 100_000, 1000, 384, 1000, 0.05, "text", 1.22517314013),
    Case("text-0.02", f"{_TEXT}, eps 0.02 of the mean cost", 100_000, 1000, 384, 1000, 0.02, "text", 1.16338643850),
    Case("text-0.01", f"{_TEXT}, eps 0.01 of the mean cost", 100_000, 1000, 384, 1000, 0.01, "text", 1.13874951193),
    Case("square", "a Gaussian cloud, as many targets as rows", 10_000, 10_000, 64, 100, 0.05, "cloud", 26.7586522846),
    Case(
        "large", f"{_TEXT}, more than fit as a dense matrix", 1_000_000, 4000, 384, 10_000, 0.02, "text", 1.16338643850,
        goals=(MAIN_GOAL,), limit=900.0,
    ),
)  # fmt: skip


def named(names: list[str]) -> list[Case]:
    """Return the cases of these names, all of them for none. Raises UsageError for a name that is not there."""
    known = {case.name: case for case in CASES}
    for name in names:
        if name not in known:
            msg = f"case {name!r} is unknown: choose among {', '.join(known)}"
            raise UsageError(msg)
    return [known[name] for name in names] or list(CASES)


def problem(case: Case, cache: Path, pool: Path | None = None, target: Path | None = None) -> Problem:
    """Make a case's vectors: from ``pool`` and ``target`` (.npy) where it is of text and they are given."""
    if case.vectors == "cloud":
        x, y = _clouds(case)
    elif case.name.startswith("tiny-"):
        x, y = _clusters(case)
    else:
        x = drawn(_given(pool, cache, "pool"), case.n, case.d, 0)
        y = drawn(_given(target, cache, "target_mix"), case.m, case.d, 1)
    return Problem(x, y, case.eps * mean_cost(x, y), case.k)


def mean_cost(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """Return the mean of |x - y|^2 over all pairs, in float64."""
    squares = sum(float(np.einsum("ij,ij->", v, v, dtype=np.float64)) / len(v) for v in (x, y))
    return squares - 2.0 * float(x.mean(0, dtype=np.float64) @ y.mean(0, dtype=np.float64))


def drawn(vectors: NDArray[np.floating], rows: int, d: int, seed: int) -> NDArray[np.float32]:
    """Return ``rows`` vectors of unit norm: all different ones if there are enough, else drawn again with jitter."""
    if vectors.ndim != 2 or vectors.shape[1] != d:
        msg = f"the vectors have the shape {vectors.shape}: this case is defined for rows of {d}"
        raise DataError(msg)
    rng = np.random.default_rng(seed)
    if len(vectors) >= rows:
        x = vectors[np.sort(rng.choice(len(vectors), size=rows, replace=False))].astype(np.float32)
    else:
        x = vectors[rng.integers(len(vectors), size=rows)].astype(np.float32)
        for block in _blocks(x):
            np.add(block, rng.standard_normal(block.shape, np.float32) * np.float32(JITTER / np.sqrt(d)), out=block)
    for block in _blocks(x):
        np.divide(block, np.linalg.norm(block, axis=1, keepdims=True), out=block)
    return x


def _blocks(x: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield the rows some at a time, so that what is made of them stays small beside them."""
    yield from (x[start : start + _BLOCK] for start in range(0, len(x), _BLOCK))


def _given(path: Path | None, cache: Path, name: str) -> NDArray[np.floating]:
    if path is not None:
        given: NDArray[np.floating] = np.load(path, mmap_mode="r")
        return given
    return demo_vectors(name, cache)


def demo_vectors(name: str, cache: Path) -> NDArray[np.float32]:
    """Return the vectors of one file of the demo, from the cache if they are there."""
    cached, source = cache / f"{name}.npy", DEMO / f"{name}.jsonl.gz"
    if not cached.exists():
        if not source.exists():
            msg = f"{source} is not here: give --pool and --target vectors (.npy), or work in a clone of gapsel"
            raise UsageError(msg)
        from gapsel import corpus, embed

        texts = [text for batch in corpus.read([source]) for text in batch.texts]
        cache.mkdir(parents=True, exist_ok=True)
        np.save(cached, embed.load().encode(texts).vectors)
    loaded: NDArray[np.float32] = np.load(cached)
    return loaded


def _clouds(case: Case) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((case.n, case.d), np.float32)
    return x, 0.5 * rng.standard_normal((case.m, case.d), np.float32) + np.float32(0.3)


def _clusters(case: Case) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((12, case.d), np.float32)
    return drawn(centres, case.n, case.d, 1), drawn(centres[:4], case.m, case.d, 2)
