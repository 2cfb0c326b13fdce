"""Scores are the paper's; a threshold keeps what it says it keeps, and says no more than its sample knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats  # type: ignore[import-untyped]

from gapsel.calibration import Calibration, binomial_interval, incomplete_beta, mean_of, scores
from gapsel.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

DRAWS = 300


def calibration(f: NDArray[Any]) -> Calibration:
    return Calibration.of(f.astype(np.float32), 1.0 / len(f))


def test_scores_are_the_papers_calibrated_gradients() -> None:
    """f_i - sum_{j != i} f_j / (n - 1), and with weights sum_{j != i} a_j f_j / (1 - a_i)."""
    rng = np.random.default_rng(0)
    f, n = rng.standard_normal(20).astype(np.float32), 20
    paper = [float(f[i]) - sum(float(f[j]) for j in range(n) if j != i) / (n - 1) for i in range(n)]
    for a in (1 / n, np.full(n, 1 / n)):
        np.testing.assert_allclose(scores(f, a, mean_of(f, a)), paper, rtol=1e-9)
    a = rng.random(n) / 10
    a /= a.sum()
    weighted = [float(f[i]) - sum(a[j] * float(f[j]) for j in range(n) if j != i) / (1 - a[i]) for i in range(n)]
    np.testing.assert_allclose(scores(f, a, mean_of(f, a)), weighted, rtol=1e-9)
    assert scores(np.array([3.0], np.float32), 1.0, 3.0).tolist() == [0.0]
    f, a = np.array([3.0, 5.0], np.float32), np.array([1.0, 0.0])
    assert scores(f, a, mean_of(f, a)).tolist() == [0.0, 2.0]


def test_ranks_count_the_rows_at_or_below() -> None:
    found = calibration(np.array([5, 1, 4, 4, 4, 2, 9]))
    assert found.quantiles.tolist() == [1, 2, 4, 5, 9]
    assert found.ranks.tolist() == [1, 2, 5, 6, 7]
    assert (found.rows, found.pool_rows) == (7, 7)
    assert found.mean == pytest.approx(29 / 7)


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=300))
def test_quantiles_are_rows_and_ranks_their_number(values: list[int]) -> None:
    f = np.array(values, np.float32)
    found = calibration(f)
    assert found.ranks.tolist() == [int((f <= q).sum()) for q in found.quantiles]
    assert np.isin(found.quantiles, f).all()
    assert found.quantiles[-1] == f.max()
    assert (np.diff(found.quantiles) > 0).all()


def test_every_share_of_three_digits_has_its_quantile() -> None:
    rows = 200_000
    found = calibration(np.random.default_rng(0).permutation(rows))
    for share in (0.0005, 0.00123, 0.01, 0.0457, 0.1, 0.333, 0.998):
        assert round(share * (rows + 1)) in found.ranks
    assert len(found.ranks) < 5000


# ---- the interval


@pytest.mark.parametrize(("a", "b"), [(1, 1), (2, 9), (10, 91), (400, 5), (20_000, 1_980_001), (0.5, 0.5)])
def test_the_incomplete_beta_function_is_scipys(a: float, b: float) -> None:
    points = [*np.linspace(0, 1, 21), *stats.beta.ppf([1e-6, 0.025, 0.5, 0.975, 1 - 1e-6], a, b)]
    for x in points:
        assert incomplete_beta(a, b, float(x)) == pytest.approx(special.betainc(a, b, x), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize(
    ("rank", "rows"), [(0, 10), (1, 10), (10, 10), (60, 6000), (20_000, 2_000_000), (10**7, 10**9)]
)
def test_the_interval_is_clopper_and_pearsons(rank: int, rows: int) -> None:
    low, high = binomial_interval(rank, rows)
    exact = stats.binomtest(rank, rows).proportion_ci(0.95, "exact")
    assert low == pytest.approx(exact.low, rel=1e-7, abs=1e-15)
    assert high == pytest.approx(exact.high, rel=1e-7)


def test_the_interval_by_hand() -> None:
    # No success in n: high = 1 - 0.025^(1/n); all of them: the mirror image.
    assert binomial_interval(0, 3) == pytest.approx((0.0, 1 - 0.025 ** (1 / 3)))
    assert binomial_interval(3, 3) == pytest.approx((0.025 ** (1 / 3), 1.0))


# A pool's potentials, and the share of everything like it that lies at or below a value.
KINDS: dict[str, tuple[Callable[[np.random.Generator, int], NDArray[Any]], Callable[[float], float]]] = {
    "normal": (lambda rng, n: rng.normal(size=n), lambda t: float(stats.norm.cdf(t))),
    "heavy tails": (lambda rng, n: rng.standard_t(2, n), lambda t: float(stats.t.cdf(t, 2))),
    "many alike": (lambda rng, n: rng.poisson(3.0, n), lambda t: float(stats.poisson.cdf(round(t), 3.0))),
}


@pytest.mark.parametrize("share", ["0.5%", "5%", "30%"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_share_that_is_kept_lies_in_its_interval(kind: str, share: str) -> None:
    """In at least 95 of 100 draws, but for the chance of 300 draws: 4 standard deviations."""
    draw, below = KINDS[kind]
    rng = np.random.default_rng(7)
    inside = 0
    for _ in range(DRAWS):
        found = calibration(draw(rng, 2000))
        kept = found.keep(share)
        t = float(found.quantiles[found.ranks == kept.rank][0])
        inside += kept.low <= below(t) <= kept.high
    assert inside / DRAWS >= 0.95 - 4 * (0.95 * 0.05 / DRAWS) ** 0.5
    if kind != "many alike":
        assert inside < DRAWS, "an interval that never misses is too wide"


def test_a_threshold_keeps_its_rank_of_the_pool_itself() -> None:
    f = np.random.default_rng(1).normal(size=5000).astype(np.float32)
    found = calibration(f)
    for share, rank in (("1%", 50), ("10%", 500), ("0.3%", 15), ("12.3%", 615)):
        kept = found.keep(share)
        assert (kept.rank, kept.rows) == (rank, 5000)
        assert int((found.score(f) <= kept.score).sum()) == rank
        assert kept.low < kept.share < kept.high
        assert kept.share == rank / 5001


def test_ties_are_kept_together_and_counted() -> None:
    kept = calibration(np.repeat([-1.0, 0.0, 1.0], [900, 50, 50])).keep("1%")
    assert kept.rank == 900
    assert kept.low < 0.9 < kept.high


@pytest.mark.parametrize("share", ["0.4%", "0.0001%"])
def test_a_share_that_too_few_rows_tell_of_is_refused(share: str) -> None:
    found = calibration(np.arange(2000))
    assert found.keep("0.5%").rank == 10
    with pytest.raises(UsageError, match=rf"keep is {share}.* 2,000 rows.*keep 0.5% or more, fit on more rows"):
        found.keep(share)


@pytest.mark.parametrize("share", ["", "1", "0.01", "0%", "100%", "101%", "-1%", "1e-3%", "nan%", "one", "1%%"])
def test_what_is_no_share_is_refused(share: str) -> None:
    with pytest.raises(UsageError, match="give per cent between 0 and 100, like 1%"):
        calibration(np.arange(2000)).keep(share)
