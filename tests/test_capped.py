"""Caps on groups: prices keep them, the solution is that of the capped problem, and the certificate knows it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gapsel.backends.cpu import CpuBackend
from gapsel.backends.reference import ReferenceBackend
from gapsel.cost import cost_matrix, measure_scale
from gapsel.pipeline.steps import sampled
from gapsel.potentials import Cap, Rows, Task, priced, solve
from gapsel.potentials.capped import CappedDual
from gapsel.potentials.caps import best_prices
from gapsel.records import Box, Cost, Query, Target
from gapsel.rules import Budget, Quota, Rules, choose
from gapsel.selection import certify

if TYPE_CHECKING:
    from gapsel.potentials import Solution
    from gapsel.potentials.dual import Point
    from gapsel.records import Stage

CPU, N, K, SHARE = CpuBackend(1), 1500, 100, 0.4
RNG = np.random.default_rng(0)
CODES = RNG.integers(0, 4, N).astype(np.int32)
OTHERS = RNG.integers(0, 3, N).astype(np.int32)
X = (RNG.standard_normal((N, 6)) + 1.5 * np.eye(6)[CODES]).astype(np.float32)
Y = (RNG.standard_normal((15, 6)) + 1.5 * np.eye(6)[0]).astype(np.float32)
BASE = (RNG.standard_normal((300, 6)) + 1.5 * np.eye(6)[RNG.integers(1, 3, 300)]).astype(np.float32)
ONE, TWO = (Cap(SHARE, CODES),), (Cap(SHARE, CODES), Cap(0.36, OTHERS))
RULES = Rules(Budget(N, K), (Quota("group", SHARE, CODES, {}),))


def task(mass: float, rows: Rows | None = None) -> Task:
    target = Target(Y, np.full(15, 1 / 15))
    scale = measure_scale(X, target, Cost())
    return Task(Rows.whole([X], K) if rows is None else rows, target, Cost(), scale, scale.eps(0.3), mass)


def under(posed: Task, caps: tuple[Cap, ...] = ONE) -> Task:
    return replace(posed, rows=posed.rows.under(caps))


def percent(posed: Task, found: Solution) -> float:
    """The certificate of the choice by f under the rules, the caps' prices known."""
    f = found.f[:N]
    rows = choose(lambda: [f], RULES).rows
    assert np.bincount(CODES[rows]).max() == SHARE * K
    at = priced(posed, ONE, found.f).rows
    return certify(found.f, rows, posed, found.potentials, CPU, rules=RULES, solved_at=at).percent


def test_prices_are_those_at_which_no_group_is_above_its_cap() -> None:
    f = RNG.standard_normal(N).astype(np.float32) - (CODES == 2)
    box, (cap,) = Box(0.0, 0.5 / K, 0.1), ONE
    found = best_prices(ONE, f, box, 0.5, moves=True)
    low, high, tau = -20.0, 20.0, 0.0
    for _ in range(60):
        tau = 0.5 * (low + high)
        low, high = (tau, high) if box.taken(f + found.rows, tau).sum() < 0.5 else (low, tau)
    taken = cap.taken(f + found.rows, box, np.full(4, tau))
    assert taken.sum() == pytest.approx(0.5)
    assert taken.max() == pytest.approx(0.2)
    assert np.flatnonzero(found.of[0]).tolist() == np.flatnonzero(taken > 0.2 - 1e-9).tolist() == [2]


def dual_at(caps: tuple[Cap, ...]) -> CappedDual:
    posed = under(task(0.5), caps)
    box = posed.rows.box(0.5, 0.5 * posed.eps)
    return CappedDual(ReferenceBackend(), posed.rows, posed.target, box, posed.eps, posed.cost, mass=0.5)


@pytest.mark.parametrize("caps", [ONE, TWO], ids=["one field", "two fields"])
def test_slope_and_curvature_are_those_of_the_value_with_the_best_prices(caps: tuple[Cap, ...]) -> None:
    dual, rng = dual_at(caps), np.random.default_rng(1)
    g = 0.05 * rng.standard_normal(15)
    g += dual.threshold(dual.at(g, want_f=True).f)
    step, h = rng.standard_normal(15), 1e-4

    def at(t: float) -> Point:
        return dual.at(g + t * step)

    assert (at(h).value - at(-h).value) / (2 * h) == pytest.approx(at(0.0).gradient @ step, rel=1e-4)
    sweep = dual.at(g, gram=True).sweep
    assert sweep.gram is not None
    curvature = (np.diag(sweep.q) - sweep.gram) / dual.eps
    turned = (at(-h).gradient - at(h).gradient) / (2 * h)
    assert curvature @ step == pytest.approx(turned, rel=0.02, abs=0.02 * abs(turned).max())


@pytest.mark.parametrize("caps", [ONE, TWO], ids=["one field", "two fields"])
def test_no_prices_are_better_than_the_best(caps: tuple[Cap, ...]) -> None:
    """Tried around them, with the dual of the reference at fixed prices."""
    dual, rng = dual_at(caps), np.random.default_rng(2)
    g = 0.05 * rng.standard_normal(15)
    point = dual.at(g, want_f=True)
    g += dual.threshold(point.f)
    point = dual.at(g, want_f=True)
    best = best_prices(caps, point.f, dual.box, 0.5, moves=False)
    assert sum(float(own.max()) > 0 for own in best.of) == len(caps)
    for size in (0.001, 0.01, 0.1):
        for _ in range(10):
            tried = [np.maximum(0.0, own + size * rng.standard_normal(len(own))) for own in best.of]
            rows = sum(own[cap.codes] for own, cap in zip(tried, caps, strict=True))
            box = replace(dual.box, price=np.asarray(rows))
            sweep = dual.backend.sweep(dual.rows.shards, Query(dual.target, g, box, dual.eps, dual.cost))
            toll = 0.5 * sum(cap.share * own.sum() for own, cap in zip(tried, caps, strict=True))
            assert dual.target.b @ g + sweep.value - toll <= point.value + 1e-9


@pytest.mark.parametrize("mass", [0.5, 1.0])
def test_the_capped_problem_is_certified_more_tightly_than_the_other(mass: float) -> None:
    posed, values = task(mass), list[float]()

    def watch(stage: Stage) -> None:
        if stage.name == "pool" and stage.mass == mass:
            values.append(stage.dual_value)

    free, capped = solve(posed, CPU), solve(under(posed), CPU, watch=watch)
    assert capped.potentials.evidence.converged
    assert capped.potentials.evidence.dual_value >= max(values) - 1e-6, "no look was better than what it ended with"
    assert percent(posed, capped) < min(1.0, 0.5 * percent(posed, free))
    at_prices = priced(posed, ONE, capped.f)
    taken = ONE[0].taken(capped.f + at_prices.rows.price, posed.box(), np.zeros(4))
    assert taken.max() <= 1.01 * SHARE * mass
    assert taken.sum() == pytest.approx(mass, rel=3e-3)


def bound_by_choices(posed: Task, found: Solution) -> tuple[float, float]:
    """The certificate's bound at the g found, and the least value of some choices that keep to the caps, densely."""
    f, p, rng = found.f.astype(np.float64), found.potentials, np.random.default_rng(3)
    g, b, mass = p.g, posed.target.b, posed.mass
    a = np.broadcast_to(np.asarray(posed.rows.a), (posed.rows.n,))
    bound = float(b @ g + (1 - mass) * (a @ f) + mass * RULES.least_mean(found.f[:N], np.arange(K)))
    c = cost_matrix(np.concatenate(posed.rows.shards), Y, Cost())
    least = np.inf
    for noise in (0.0, 0.1, 0.3, 1.0):
        order = f[:N] + noise * f[:N].std() * rng.standard_normal(N)
        rows = choose(lambda order=order: [order.astype(np.float32)], RULES).rows  # type: ignore[misc]
        r = (1 - mass) * a
        r[rows] += mass / K
        least = min(least, _regularised(c, r, b, posed.eps))
    return bound, least


def _regularised(c: np.ndarray, r: np.ndarray, b: np.ndarray, eps: float) -> float:
    """Return the dual value of plain transport after many of Sinkhorn's steps in float64: at most the distance."""
    used, g = r > 0, np.zeros(len(b))
    c, r = c[used], r[used]
    for _ in range(300):
        z = (g - c) / eps + np.log(b)
        top = z.max(axis=1, keepdims=True)
        f = -eps * (top[:, 0] + np.log(np.exp(z - top).sum(axis=1)))
        g = g + eps * np.log(b / (r @ np.exp(z + f[:, None] / eps)))
    z = (g - c) / eps + np.log(b)
    top = z.max(axis=1, keepdims=True)
    return float(b @ g - r @ (eps * (top[:, 0] + np.log(np.exp(z - top).sum(axis=1)))))


@pytest.mark.parametrize("mass", [0.5, 0.9])
def test_beside_a_base_the_bound_holds_and_is_tighter(mass: float) -> None:
    posed = task(mass, Rows.whole([X], K).beside([BASE]))
    free, capped = solve(posed, CPU), solve(under(posed), CPU)
    assert capped.potentials.evidence.converged
    bound, least = bound_by_choices(posed, capped)
    assert bound <= least + 1e-6
    assert bound > bound_by_choices(posed, free)[0]
    assert percent(posed, capped) < 1.0 < percent(posed, free)


def test_a_part_of_the_pool_is_solved_under_caps_too() -> None:
    posed = task(0.5)
    blind, found = (sampled.fit(posed, 1000, CPU, caps=caps) for caps in ((), ONE))
    assert found.f is None
    assert found.potentials.evidence.rows == 1000
    rest = np.empty(N, np.float32)
    shown = []
    for one in (blind, found):
        p = one.potentials
        CPU.sweep([X], Query(p.target, p.g, Box.fixed(1 / N), p.eps, p.cost, f=rest))
        rows = choose(lambda: [rest], RULES).rows
        at = priced(posed, ONE, rest).rows
        shown.append(certify(rest, rows, posed, p, CPU, rules=RULES, solved_at=at).percent)
    assert shown[1] < 0.5 * shown[0]


def test_without_caps_or_mass_nothing_changes() -> None:
    for posed, caps in ((task(0.5), ()), (task(0.0), ONE)):
        assert solve(under(posed, caps), CPU).f.tobytes() == solve(posed, CPU).f.tobytes()
        assert priced(posed, caps, np.zeros(N, np.float32)) is posed


def test_a_look_under_caps_counts_as_the_two_sweeps_that_it_is() -> None:
    """The look that the limit falls into is finished."""
    evidence = solve(replace(under(task(1.0)), max_sweeps=8, tolerance=1e-7), CPU).potentials.evidence
    assert not evidence.converged
    assert evidence.full_sweeps <= 9
