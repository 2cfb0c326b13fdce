"""How often each step looks at how many rows: the solver's recipe and the report's comparisons, counted.

What depends on sizes is asked of the recipe itself (its samples, its shortlist, the eps that it falls through); how
many looks each stage takes was counted on real sentence vectors at the default eps (benches/scale.py prints counts
beside these). A smaller eps takes more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gapsel.backends.reference import EXPONENTIALS, GRAM_COST, GRAM_MASS, GRAM_ROWS
from gapsel.config import Settings
from gapsel.pipeline.steps.sampled import part_sizes
from gapsel.potentials.ascent import gram_pays
from gapsel.potentials.sizes import annealed_eps, sample_sizes, shortlist_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gapsel.plan.cost import Problem

# From this mass shortlists lead, and not Newton's steps.
_LISTS_LEAD = 0.6
# Distances: rows of the sample, in units of the targets and at least; their eps in row stds.
# Of more rows than the last number a sample stands for all.
_DISTANCE_ROWS, _DISTANCE_LEAST, _DISTANCE_EPS, _DISTANCE_MOST = 32, 8192, 0.05, 1 << 17


@dataclass(frozen=True, slots=True)
class Looks:
    """Looks that one step takes at so many rows: exact or rough, with a Gram or without."""

    step: str
    rows: float
    rough: float = 0.0
    rough_gram: float = 0.0
    exact: float = 0.0
    exact_gram: float = 0.0

    @property
    def grams(self) -> float:
        """How many of them carry a Gram."""
        return self.rough_gram + self.exact_gram

    @property
    def count(self) -> float:
        """How many there are."""
        return self.rough + self.exact + self.grams

    def sweep_flop(self, m: int, d: int) -> tuple[float, float]:
        """Return the FLOP of the exact and of the rough looks, Grams left out: 2 n m (d + e) each."""
        one = 2.0 * self.rows * m * (d + EXPONENTIALS)
        return one * (self.exact + self.exact_gram), one * (self.rough + self.rough_gram)

    def gram_flop(self, m: int, d: int) -> float:
        """Return the FLOP of the Grams: m^2 for each row kept."""
        return self.grams * gram_rows(self.rows, m, d) * m**2


def gram_rows(rows: float, m: int, d: int) -> float:
    """Return how many of equally heavy rows a Gram keeps."""
    least = min(rows / (GRAM_ROWS * m), GRAM_COST * m / (d + EXPONENTIALS))
    return rows / max(1.0, least, GRAM_MASS)


def looks(problem: Problem) -> tuple[Looks, ...]:
    """Return all looks of a run, step by step."""
    found = [*_fit(problem), *_score(problem), *_select(problem), *_report(problem)]
    return tuple(found) if gram_pays(problem.m, problem.d) else tuple(map(_without_grams, found))


def full_looks(problem: Problem) -> dict[str, float]:
    """Return how often each step looks at the whole pool."""
    found: dict[str, float] = {}
    for one in looks(problem):
        if one.rows == problem.n:
            found[one.step] = found.get(one.step, 0.0) + one.count
    return found


def _fit(p: Problem) -> Iterator[Looks]:
    """Yield the looks at the rows that are solved on, and one at the others that calibrate what comes of them."""
    size, fresh = part_sizes(p.n, p.fit_rows)
    yield from _solve(replace(p, n=size, k=max(1, round(p.k * size / p.n))))
    if fresh:
        yield Looks("fit", fresh, exact=1)


def _solve(p: Problem) -> Iterator[Looks]:
    sizes = sample_sizes(p.n, p.m)
    levels = len(annealed_eps(1.0, p.eps))
    if sizes:
        yield Looks("fit", sizes[0], rough=0.6 * levels, rough_gram=1.4 * levels)
    if p.mass == 0:
        for size in sizes[1:]:
            yield Looks("fit", size, rough_gram=1)
        yield Looks("fit", p.n, rough_gram=1, exact=2) if sizes else _whole_pool(p.n, levels)
        return
    yield Looks("fit", p.n, rough=1) if sizes else _whole_pool(p.n, levels)
    leads = p.mass >= _LISTS_LEAD
    listed = _listed(p)
    yield Looks("fit", min(listed, p.n), rough_gram=17 if leads else 11)
    if listed < p.n:
        yield Looks("fit", p.n, exact=3) if leads else Looks("fit", p.n, exact_gram=2, exact=1)


def _whole_pool(n: int, levels: int) -> Looks:
    """Return the looks at a pool too small for samples, on which eps falls from its first value."""
    return Looks("fit", n, rough=0.6 * levels, rough_gram=1.4 * levels, exact_gram=1, exact=1)


def _listed(p: Problem) -> int:
    return sum(shortlist_sizes(p.n, p.m, float(p.k), p.mass))


def _score(p: Problem) -> Iterator[Looks]:
    yield Looks("score", p.n, exact=2)


def _select(p: Problem) -> Iterator[Looks]:
    yield from _distance("select", p, p.n, 0, 1)
    if p.mass == 0:
        return
    if _listed(p) < p.n:
        yield Looks("select", _listed(p), rough=1, rough_gram=12 if p.mass >= _LISTS_LEAD else 3)
    yield Looks("select", p.n, exact_gram=1)
    yield from _distance("select", p, *((p.n, p.k) if p.mass < 1 else (p.k, 0)), 1)


def _report(p: Problem) -> Iterator[Looks]:
    yield Looks("report", p.n, exact=1)  # nearest neighbours
    ways = len(Settings().methods)
    yield from _distance("report", p, p.k, 0, ways + 1)
    if 0 < p.mass < 1:
        yield from _distance("report", p, p.n, p.k, ways)


def _distance(step: str, p: Problem, rows: int, heavy: int, times: int) -> Iterator[Looks]:
    """Yield the looks of so many distances of rows, of which the ``heavy`` are kept as they are."""
    levels = len(annealed_eps(1.0, _DISTANCE_EPS * p.row_std))
    rows = min(rows, heavy + _DISTANCE_MOST)
    part = min(rows, heavy + max(_DISTANCE_ROWS * p.m, _DISTANCE_LEAST))
    yield Looks(
        step, part, rough=0.5 * levels * times, rough_gram=1.6 * levels * times, exact_gram=1.7 * times,
        exact=0.6 * times,
    )  # fmt: skip
    if part < rows:
        yield Looks(step, rows, exact_gram=2.2 * times, exact=0.8 * times)


def _without_grams(one: Looks) -> Looks:
    """Where a Gram does not pay, secants do alone and need some two to three times the looks."""
    more = 2.5 if one.step != "score" else 1.0
    return Looks(one.step, one.rows, more * (one.rough + one.rough_gram), 0.0, more * (one.exact + one.exact_gram))
