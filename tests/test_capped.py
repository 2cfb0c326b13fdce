"""Caps on groups: prices keep them, the solution is that of the capped problem, and the certificate knows it."""

from __future__ import annotations

import numpy as np
import pytest

from gapsel.backends.cpu import CpuBackend
from gapsel.cost import measure_scale
from gapsel.potentials import Cap, Rows, Task, priced, solve, solve_capped
from gapsel.records import Box, Cost, Target
from gapsel.rules import Budget, Quota, Rules, choose
from gapsel.selection import certify

CPU, N, K, SHARE = CpuBackend(1), 1500, 100, 0.4
RNG = np.random.default_rng(0)
CODES = RNG.integers(0, 4, N).astype(np.int32)
X = (RNG.standard_normal((N, 6)) + 1.5 * np.eye(6)[CODES]).astype(np.float32)
Y = (RNG.standard_normal((15, 6)) + 1.5 * np.eye(6)[0]).astype(np.float32)


def task(mass: float) -> Task:
    target = Target(Y, np.full(15, 1 / 15))
    scale = measure_scale(X, target, Cost())
    return Task(Rows.whole([X], K), target, Cost(), scale, scale.eps(0.3), mass)


def test_prices_are_those_at_which_no_group_is_above_its_cap() -> None:
    f = RNG.standard_normal(N).astype(np.float32) - (CODES == 2)
    box, cap = Box(0.0, 0.5 / K, 0.1), Cap(SHARE, CODES)
    prices = cap.prices(f, box, 0.5)
    dear = f + prices[CODES]
    low, high, tau = -20.0, 20.0, 0.0
    for _ in range(60):
        tau = 0.5 * (low + high)
        low, high = (tau, high) if box.taken(dear, tau).sum() < 0.5 else (low, tau)
    taken = cap.taken(dear, box, np.full(4, tau))
    assert taken.sum() == pytest.approx(0.5)
    assert taken.max() == pytest.approx(0.2)
    assert np.flatnonzero(prices).tolist() == np.flatnonzero(taken > 0.2 - 1e-9).tolist() == [2]


@pytest.mark.parametrize("mass", [0.5, 1.0])
def test_the_capped_problem_is_certified_more_tightly_than_the_other(mass: float) -> None:
    posed, cap = task(mass), Cap(SHARE, CODES)
    rules = Rules(Budget(N, K), (Quota("group", SHARE, CODES, {}),))
    free, capped = solve(posed, CPU), solve_capped(posed, CPU, [cap])

    def percent(one: Task, found: object) -> float:
        assert hasattr(found, "f")
        rows = choose(lambda: [found.f], rules).rows
        assert np.bincount(CODES[rows]).max() == SHARE * K
        return certify(found.f, rows, one, found.potentials, CPU, rules=rules).percent  # type: ignore[attr-defined]

    at_prices = priced(posed, [cap], capped.f)
    assert percent(at_prices, capped) < 0.5 * percent(posed, free)
    taken = cap.taken(capped.f + at_prices.rows.price, posed.box(), np.zeros(4))
    assert taken.max() <= 1.05 * SHARE * mass
    assert capped.potentials.evidence.full_sweeps > free.potentials.evidence.full_sweeps


def test_without_caps_or_mass_nothing_changes() -> None:
    for posed, caps in ((task(0.5), []), (task(0.0), [Cap(SHARE, CODES)])):
        assert solve_capped(posed, CPU, caps).f.tobytes() == solve(posed, CPU).f.tobytes()
        assert priced(posed, caps, np.zeros(N, np.float32)) is posed
