"""How often each step looks at how many rows: the solver's recipe and the report's comparisons, counted.

What depends on sizes is asked of the recipe itself (its samples, its shortlist, the eps that it falls through); how
many looks each stage takes was counted on real sentence vectors at the default eps (benches/scale.py prints counts
beside these). A smaller eps takes more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from gapsel import distance
from gapsel.backends.reference import EXPONENTIALS, GRAM_COST, GRAM_MASS, GRAM_ROWS
from gapsel.config import Settings
from gapsel.memory import LARGEST_PLAN
from gapsel.pipeline.steps.sampled import part_sizes
from gapsel.potentials.ascent import GRAM_ROWS_OF_PLAN, gram_pays
from gapsel.potentials.boxed import OWN_GRAMS
from gapsel.potentials.robust import EPS as ROBUST_EPS
from gapsel.potentials.sizes import annealed_eps, sample_sizes, shortlist_sizes, sizes_by_plain, sizes_nearby

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gapsel.plan.cost import Problem
    from gapsel.potentials.sizes import ListSizes

# Products of a Gram with a vector that a step takes (potentials/linear.py): about ten on text, and some steps are asked
# for more than once.
_PRODUCTS_OF_A_STEP = 16
# Rounds that the balance of several tasks is taken to need; it ends when the shares are level, after 1 to 16.
BALANCE_ROUNDS = 4
# What the tasks' lists have together, for each of t tasks and one more.
_OF_TASKS = 0.5
# Looks at that list, rough and rough with a Gram, by all targets together or by each task's own: of the first round,
# and of each more. At mass 0, below the mass where lists lead, and above.
_BALANCE = {
    "none": (((1.0, 1.0), (0.0, 0.0)), ((1.0, 1.0), (1.0, 1.0))),
    "some": (((5.0, 9.0), (1.0, 1.0)), ((1.5, 7.0), (1.0, 3.0))),
    "all": (((2.0, 24.0), (1.6, 1.3)), ((1.5, 9.0), (0.0, 6.0))),
}


@dataclass(frozen=True, slots=True)
class Looks:
    """Looks that one step takes at so many rows: exact or rough, with a Gram or without.

    ``kept`` are looks at a plan of the rows that was kept. Not by all targets but by other ``columns`` where that is
    not 0; ``apart`` in so many parts of them, one at a time. With ``few`` the rows have so few columns that matter, at
    a small eps, that a Gram of them costs next to nothing.
    """

    step: str
    rows: float
    rough: float = 0.0
    rough_gram: float = 0.0
    exact: float = 0.0
    exact_gram: float = 0.0
    kept: float = 0.0
    kept_gram: float = 0.0
    columns: int = 0
    apart: int = 1
    few: bool = False

    @property
    def grams(self) -> float:
        """How many of them carry a Gram."""
        return self.rough_gram + self.exact_gram + self.kept_gram

    @property
    def count(self) -> float:
        """How often they read the rows."""
        return self.rough + self.exact + self.rough_gram + self.exact_gram

    def sweep_flop(self, m: int, d: int) -> tuple[float, float]:
        """Return the FLOP of the exact and of the rough looks, without Grams: 2 n m (d + e) each, at a plan 2 n m e."""
        one = 2.0 * self.rows * (self.columns or m)
        exact, rough = self.exact + self.exact_gram, self.rough + self.rough_gram
        at_plan = one * EXPONENTIALS * (self.kept + self.kept_gram)
        return one * (d + EXPONENTIALS) * exact, one * (d + EXPONENTIALS) * rough + at_plan

    def gram_flop(self, m: int, d: int) -> float:
        """Return the FLOP of the Grams: m^2 for each row kept."""
        if self.few:
            return 0.0
        part = (self.columns or m) / self.apart
        rows = (self.rough_gram + self.exact_gram) * gram_rows(self.rows, part, d)
        rows += self.kept_gram * min(self.rows, GRAM_ROWS_OF_PLAN * part)
        return self.apart * rows * part**2

    def solve_flop(self, m: int) -> float:
        """Return the FLOP of the Newton steps, one for each Gram, which they multiply with vectors: 2 m^2 each time."""
        return self.apart * self.grams * _PRODUCTS_OF_A_STEP * 2.0 * ((self.columns or m) / self.apart) ** 2


def gram_rows(rows: float, m: float, d: int) -> float:
    """Return how many of equally heavy rows a Gram keeps."""
    least = min(rows / (GRAM_ROWS * m), GRAM_COST * m / (d + EXPONENTIALS))
    return rows / max(1.0, least, GRAM_MASS)


def looks(problem: Problem) -> tuple[Looks, ...]:
    """Return all looks of a run, step by step."""
    found = (*_fit(problem), *_score(problem), *_select(problem), *_report(problem))
    return tuple(one if _has_gram(one, problem) else _without_grams(one) for one in found)


def _has_gram(one: Looks, p: Problem) -> bool:
    return gram_pays(round((one.columns or p.m) / one.apart), p.d, round(one.rows))


def full_looks(problem: Problem) -> dict[str, float]:
    """Return how often each step looks at the whole pool."""
    found: dict[str, float] = {}
    for one in looks(problem):
        if one.rows >= problem.n:
            found[one.step] = found.get(one.step, 0.0) + one.count
    return found


def _fit(p: Problem) -> Iterator[Looks]:
    """Yield the looks at the rows that are solved on, and one at the others that calibrate what comes of them."""
    (size, fresh), (base, others) = _parts(p)
    part = replace(p, n=size, base=base, k=max(1, round(p.k * size / p.n)))
    yield from _avoided(part)
    yield from _weighed(part)
    yield from _solve(part)
    if fresh + others:
        yield Looks("fit", fresh + others, exact=1)
        if p.avoided:
            yield Looks("fit", fresh + others, exact=1, columns=p.avoided)


def _parts(p: Problem) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return of how many rows of the pool, and of the base, a fit is made, and how many others it then looks at."""
    if p.swept <= p.fit_rows:
        return (p.n, 0), (p.base, 0)
    of_base = min(p.base, max(p.fit_rows // 2, p.fit_rows - p.n))
    # Of a side that is taken whole its own rows are looked at again.
    sides = part_sizes(p.n, p.fit_rows - of_base), part_sizes(p.base, of_base)
    (size, fresh), (base, others) = sides
    return (size, fresh or size), (base, others or base)


def _solve(p: Problem) -> Iterator[Looks]:
    """Yield the looks of one solve; a base is what samples are drawn of, and at mass 0 all that is solved on."""
    if p.mass == 0 and p.base:
        yield from _solve(replace(p, n=p.base, base=0))
        yield Looks("fit", p.swept, exact=1)
        return
    sizes = sample_sizes(p.base or p.n, p.m)
    levels = len(annealed_eps(1.0, p.eps))
    if sizes or p.base:
        yield _falling(sizes[0] if sizes else p.base, p.m, levels)
    from_pool = not (sizes or p.base)
    if p.mass == 0 and sizes and _is_kept(p.n, p.m):
        yield Looks("fit", p.n, exact=2, kept=6, kept_gram=1)
        return
    if p.mass == 0:
        for size in sizes[1:]:
            yield Looks("fit", size, rough_gram=1)
        yield _whole_pool(p.n, levels) if from_pool else Looks("fit", p.n, rough_gram=1, exact=2)
        return
    yield _whole_pool(p.n, levels) if from_pool else Looks("fit", p.swept, rough=1)
    yield from _boxed(p)


def _falling(rows: int, m: int, levels: int) -> Looks:
    """Return the looks at a sample on which eps falls."""
    if _is_kept(rows, m):
        return Looks("fit", rows, rough=levels, kept=2 * levels + 3)
    return Looks("fit", rows, rough=1, rough_gram=levels)


def _is_kept(rows: int, m: int) -> bool:
    """Whether the plan of these rows is kept, and stands in for most looks at them; GPUs, which keep none, are fast."""
    return rows * m <= LARGEST_PLAN


# Looks at the list by plain transport's f, by whether each has a Gram of its own, from some mass on, and whether there
# are quotas, under which each look reads once more, for their prices.
_LIST = {
    (False, False): Looks("fit", 0, rough_gram=8),
    (True, False): Looks("fit", 0, rough_gram=11),
    (False, True): Looks("fit", 0, rough=5, rough_gram=5, exact=4),
    (True, True): Looks("fit", 0, rough=9, rough_gram=9),
}
_LIST_KEPT = {
    (False, False): Looks("fit", 0, rough=1, kept_gram=7),
    (True, False): Looks("fit", 0, rough=2, kept_gram=9),
    (False, True): Looks("fit", 0, rough=2, kept=8, kept_gram=8),
    (True, True): Looks("fit", 0, rough=2, kept=9, kept_gram=9),
}
# At a pool whose plan is kept.
_POOL_KEPT = {
    (False, False): Looks("fit", 0, exact=2, kept=4, kept_gram=1),
    (True, False): Looks("fit", 0, exact=2, kept_gram=12),
    (False, True): Looks("fit", 0, exact=6, kept=12, kept_gram=8),
    (True, True): Looks("fit", 0, exact=4, kept=9, kept_gram=8),
}
# And at any other, by whether there are quotas, and at the lists that are made where it was seen.
_POOL = {False: Looks("fit", 0, rough=1, exact=2), True: Looks("fit", 0, rough=2, exact=4)}
_NEARBY = {
    (False, False): Looks("fit", 0, rough=1, rough_gram=12),
    (True, False): Looks("fit", 0, rough=1, rough_gram=20),
    (False, True): Looks("fit", 0, rough=14, rough_gram=12),
    (True, True): Looks("fit", 0, rough=22, rough_gram=20),
}
_NEARBY_KEPT = {
    (False, False): Looks("fit", 0, rough=1, exact=2, kept=6, kept_gram=4),
    (True, False): Looks("fit", 0, rough=1, exact=2, kept_gram=20),
    (False, True): Looks("fit", 0, rough=2, exact=4, kept=10, kept_gram=10),
    (True, True): Looks("fit", 0, rough=2, exact=4, kept=20, kept_gram=20),
}


def _boxed(p: Problem) -> Iterator[Looks]:
    """Yield the looks at a mass, at a list, at all, and at lists made there."""
    which = (p.mass >= OWN_GRAMS, p.capped)
    listed, nearby = _rows_of(p, sizes_by_plain), _rows_of(p, sizes_nearby)
    yield _at_part(listed, p, _LIST, _LIST_KEPT, which)
    if listed == p.swept:
        return
    if _is_kept(p.swept, p.m):
        yield replace(_POOL_KEPT[which], rows=p.swept)
        return
    yield replace(_POOL[p.capped], rows=p.swept)
    yield _at_part(nearby, p, _NEARBY, _NEARBY_KEPT, which)


def _at_part(
    rows: int,
    p: Problem,
    unkept: dict[tuple[bool, bool], Looks],
    kept: dict[tuple[bool, bool], Looks],
    which: tuple[bool, bool],
) -> Looks:
    """Return the looks at a part of the pool; where that is the whole, its plan is not kept."""
    return replace((kept if _is_kept(rows, p.m) and rows < p.swept else unkept)[which], rows=rows)


def _rows_of(p: Problem, sizes: Callable[[int, int, float, float, int], ListSizes]) -> int:
    room = LARGEST_PLAN // p.m // (2 if p.base else 1)
    found = sizes(p.n, p.m, float(p.k), p.mass, room)
    return min(found.dense + found.extra + min(found.extra, p.base), p.swept)


def _whole_pool(n: int, levels: int) -> Looks:
    """Return the looks at a pool too small for samples, on which eps falls from its first value."""
    return Looks("fit", n, rough=1, rough_gram=levels, exact_gram=1, exact=1)


def _listed(p: Problem) -> int:
    exact, extra = shortlist_sizes(p.n, p.m, float(p.k), p.mass)
    return exact + extra + min(extra, p.base)


def _avoided(p: Problem) -> Iterator[Looks]:
    """Yield the looks of plain transport to what is to be avoided, by its own columns."""
    if p.avoided:
        for one in _solve(replace(p, m=p.avoided, mass=0.0, eps=p.avoided_eps)):
            yield replace(one, columns=p.avoided)


def _weighed(p: Problem) -> Iterator[Looks]:
    """Yield the looks that find the weights of the target: who is ignored, and then whose task weighs how much."""
    if p.robust:
        yield from _ignored(p)
    if p.balanced:
        yield from _balanced(p)


def _ignored(p: Problem) -> Iterator[Looks]:
    levels = len(annealed_eps(1.0, ROBUST_EPS * p.row_std))
    yield from _plain(p, levels, 1)
    yield Looks("fit", min(_listed(replace(p, mass=1.0)), p.swept), rough=1, rough_gram=9)


def _balanced(p: Problem) -> Iterator[Looks]:
    """Yield the looks at the pool, each task by its own columns, and at a list that is the tasks' together."""
    yield from _plain(p, len(annealed_eps(1.0, p.eps)), p.tasks)
    exact, extra = shortlist_sizes(p.n, p.m, float(p.k), 1.0 / p.tasks)
    rows = min(round(exact * _OF_TASKS * (1 + p.tasks)) + extra + min(extra, p.base), p.swept)
    kind = "none" if p.mass == 0 else "some" if p.mass < OWN_GRAMS else "all"
    for apart, (first, more) in zip((p.tasks, 1), _BALANCE[kind], strict=True):
        rough, gram = (one + (BALANCE_ROUNDS - 1) * other for one, other in zip(first, more, strict=True))
        yield Looks("fit", rows, rough=rough, rough_gram=gram, apart=apart)


def _plain(p: Problem, levels: int, apart: int) -> Iterator[Looks]:
    """Yield the looks of a point near plain transport: a sample, or the whole where that is small, and the pool."""
    sizes = sample_sizes(p.base or p.n, p.m // apart)
    yield replace(_falling((sizes or [p.base or p.n])[0], p.m // apart, levels), apart=apart)
    yield Looks("fit", p.swept, rough=1, apart=apart)


def _score(p: Problem) -> Iterator[Looks]:
    yield Looks("score", p.n, exact=2)
    if p.avoided:
        yield Looks("score", p.n, exact=1, columns=p.avoided)


def _select(p: Problem) -> Iterator[Looks]:
    yield from _distance("select", p, p.base or p.n, 0, 1)
    if p.avoided:
        for one in _kept_off(replace(p, m=p.avoided, mass=p.mass or 1.0)):
            yield replace(one, columns=p.avoided)
    if p.mass == 0:
        return
    if p.base:
        yield Looks("select", p.base, exact=1)
    if _listed(p) < p.swept:
        yield Looks("select", _listed(p), rough=1, rough_gram=12 if p.mass >= OWN_GRAMS else 3)
    yield Looks("select", p.swept, exact_gram=1)
    yield from _distance("select", p, *_mixture(p), 1)


def _kept_off(p: Problem) -> Iterator[Looks]:
    """Yield the looks of the distances to what is to be avoided, before and after."""
    yield from _distance("select", p, p.base or p.n, 0, 1)
    yield from _distance("select", p, *_mixture(p), 1)


def _report(p: Problem) -> Iterator[Looks]:
    """Yield the looks of the simple methods and of what measures them, for each task of several too."""
    yield Looks("report", p.n, exact=1)  # nearest neighbours
    if p.base:
        yield Looks("report", p.base, exact=1)
    ways = len(Settings().methods)
    yield from _measured(p, ways + 1, ways, 1)
    if p.tasks > 1:
        yield from _measured(p, ways + 1, ways + 1, p.tasks)
        yield from _distance("report", p, p.base or p.n, 0, 1, apart=p.tasks)


def _measured(p: Problem, alone: int, mixed: int, apart: int) -> Iterator[Looks]:
    """Yield the looks of so many distances of the chosen alone, and of their mixtures."""
    yield from _distance("report", p, p.k, 0, alone, apart=apart)
    if 0 < p.mass < 1:
        yield from _distance("report", p, *_mixture(p), mixed, apart=apart)


def _mixture(p: Problem) -> tuple[int, int]:
    """Return the rows of a mixture with the chosen, and how many of them are heavy."""
    if p.mass == 1:
        return p.k, 0
    return (p.base + p.k if p.base else p.n), p.k


def _distance(step: str, p: Problem, rows: int, heavy: int, times: int, *, apart: int = 1) -> Iterator[Looks]:
    """Yield the looks of so many distances of rows, of which the ``heavy`` are kept as they are, to each part."""
    levels = len(annealed_eps(1.0, distance.EPS_OF_ROW_STD * p.row_std))
    rows, m, columns = min(rows, heavy + distance.ENOUGH), max(1, p.m // apart), 0
    if rows < m:
        rows, m, heavy, columns = m, rows, 0, rows * apart
    first = heavy + max(distance.SAMPLE * m, distance.SMALL)
    at = partial(Looks, step, columns=columns, apart=apart)
    if first >= rows:
        yield at(rows, rough_gram=levels * times, exact_gram=3 * times, exact=3 * times)
        return
    yield at(first, rough=(levels + 1) * times, kept_gram=(levels + 5) * times)
    if _is_kept(rows, m):
        yield at(rows, exact=2.5 * times, exact_gram=0.5 * times, kept_gram=6 * times, few=True)
    else:
        yield at(rows, exact=times, exact_gram=5 * times, few=True)


def _without_grams(one: Looks) -> Looks:
    """Where a Gram does not pay, secants do alone and need some two to three times the looks."""
    more = 2.5 if one.step != "score" else 1.0
    return Looks(one.step, one.rows, more * (one.rough + one.rough_gram), 0.0, more * (one.exact + one.exact_gram))
