"""The best mixture of domains: known answers, the optimum by POT on a grid, and what a certificate promises."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.optimize import minimize  # type: ignore[import-untyped]

from gapsel import DataError, UsageError, domain_weights
from gapsel.backends.cpu import CpuBackend
from gapsel.backends.reference import ReferenceBackend, soft_minimum
from gapsel.cost import cost_matrix, measure_scale
from gapsel.distance import distance
from gapsel.mixture import Domains, Problem, apportion, capacities, chosen_within, mix
from gapsel.mixture.dual import MixtureDual
from gapsel.mixture.simplex import Rule, lowest
from gapsel.mixture.solve import Mixer
from gapsel.potentials import Rows
from gapsel.records import Cost, Target
from outside_judge import ot

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.findings import Mixture

N, M, D, U = 6_000, 60, 16, 6


def topics(rng: np.random.Generator, which: NDArray[np.int64], noise: float = 0.25) -> NDArray[np.float32]:
    """Return unit vectors near the axes that are named."""
    x = np.eye(D)[which] + noise * rng.standard_normal((len(which), D))
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


@pytest.fixture(scope="module")
def pool() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rows of six domains, one of them rare."""
    rng = np.random.default_rng(0)
    which = rng.choice(U, N, p=[0.3, 0.02, 0.2, 0.2, 0.18, 0.1])
    return topics(rng, which), which


@pytest.fixture(scope="module")
def target() -> NDArray[np.float32]:
    """Examples of domains 1 and 4, 30 and 70 %."""
    rng = np.random.default_rng(1)
    return topics(rng, np.repeat([1, 4], [3 * M // 10, 7 * M // 10]))


@pytest.fixture(scope="module")
def found(target: NDArray[np.float32], pool: tuple[NDArray[np.float32], NDArray[np.int64]]) -> Mixture:
    return domain_weights(target, *pool)


def weights(mixture: Mixture) -> dict[str, float]:
    return {one.domain: one.weight for one in mixture.domains}


def test_a_target_of_two_domains_gets_its_own_shares(found: Mixture) -> None:
    assert found.converged
    assert [one.domain for one in found.domains[:2]] == ["4", "1"]
    assert weights(found)["4"] == pytest.approx(0.7, abs=0.03)
    assert weights(found)["1"] == pytest.approx(0.3, abs=0.03)
    assert sum(weights(found).values()) == pytest.approx(1.0, abs=1e-12)
    assert all(one.weight == 0 for one in found.domains[2:])


def test_what_takes_no_part_would_do_harm_and_what_does_is_level(found: Mixture) -> None:
    attainable = found.certificate.before - found.certificate.after
    assert all(abs(one.slope) < 0.02 * attainable for one in found.domains[:2])
    assert all(one.slope > 0.1 * attainable for one in found.domains[2:])


def test_the_distance_falls_and_the_rows_are_counted(
    found: Mixture, pool: tuple[NDArray[np.float32], NDArray[np.int64]]
) -> None:
    assert found.mixture.upper < min(found.natural.lower, found.even.lower)
    counts = np.bincount(pool[1])
    for one in found.domains:
        assert one.rows == counts[int(one.domain)]
        assert one.natural == pytest.approx(one.rows / N)
    assert found.full_sweeps <= 4


def test_shards_change_no_bit_and_order_little(
    found: Mixture, target: NDArray[np.float32], pool: tuple[NDArray[np.float32], NDArray[np.int64]]
) -> None:
    x, which = pool
    assert domain_weights(target, [x[:17], x[17:4000], x[4000:]], which, threads=1) == found
    order = np.random.default_rng(3).permutation(N)
    moved = weights(domain_weights(target, x[order], which[order]))
    assert all(moved[name] == pytest.approx(one, abs=0.01) for name, one in weights(found).items())


def small(hi: NDArray[np.float64] | None = None) -> Problem:
    """Return three overlapping domains of 20, 30 and 25 rows, few examples, and a large eps."""
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(3, dtype=np.int32), [20, 30, 25])
    x = topics(rng, codes.astype(np.int64), 0.5)
    y = topics(rng, np.repeat([0, 1, 2, 3], [3, 5, 2, 2]), 0.5)
    given = Target(y, rng.dirichlet(np.full(12, 5.0)))
    domains = Domains.of(Rows.whole([x], 10), codes)
    scale = measure_scale(x, given, Cost())
    bounds = np.ones(3) if hi is None else hi
    return Problem(domains, given, Cost(), scale, scale.eps(0.5), bounds, tolerance=1e-5)


def by_pot(problem: Problem, w: NDArray[np.float64]) -> float:
    """Return <P, C> + eps KL(P | r b') at POT's plan for the mixture w."""
    r, b = problem.domains.masses(w), problem.target.b
    used = r > 0
    c, r = cost_matrix(problem.domains.shards[0], problem.target.y, problem.cost)[used], r[used]
    plan = ot.sinkhorn(r, b, c, problem.eps, method="sinkhorn_log", stopThr=1e-10, numItermax=10_000)
    return float((plan * c).sum() + problem.eps * (plan * np.log(plan / np.outer(r, b))).sum())


def grid(steps: int) -> list[NDArray[np.float64]]:
    return [np.array([i, j, steps - i - j]) / steps for i in range(steps + 1) for j in range(steps + 1 - i)]


@pytest.mark.parametrize("backend", [ReferenceBackend(), CpuBackend(1)], ids=["reference", "cpu"])
def test_no_weights_of_a_grid_are_better_by_pot(backend: ReferenceBackend | CpuBackend) -> None:
    problem = small()
    solved = mix(problem, backend)
    own, bound = by_pot(problem, solved.weights), solved.certificate.after - solved.certificate.gap
    distances = np.array([by_pot(problem, w) for w in grid(10)])
    assert solved.converged
    assert own == pytest.approx(solved.certificate.after, rel=1e-4)
    assert own <= distances.min() + 1e-5
    assert bound <= distances.min() + 1e-6
    assert own - bound <= 0.01 * (by_pot(problem, problem.domains.natural) - bound)


def far_apart(seed: int) -> Problem:
    """Return three domains far apart: a little off the best weights mass has to go all the way between them."""
    rng = np.random.default_rng(seed)
    codes = np.arange(240, dtype=np.int32) % 3
    given = Target(topics(rng, np.array([0] * 13 + [1] * 7), 0.1), np.full(20, 0.05))
    domains = Domains.of(Rows.whole([topics(rng, codes.astype(np.int64), 0.1)], 10), codes)
    scale = measure_scale(domains.shards[0], given, Cost())
    return Problem(domains, given, Cost(), scale, scale.eps(0.1), np.ones(3))


def by_scipy(problem: Problem, w: NDArray[np.float64]) -> float:
    """Return the highest dual value at the mixture w: there Sinkhorn's iterations would take very long."""
    r, b = problem.domains.masses(w), problem.target.b
    c = cost_matrix(problem.domains.shards[0], problem.target.y, problem.cost)

    def dual(g: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        f, p = soft_minimum(c, g, b, problem.eps)
        return -float(b @ g + r @ f), r @ p - b

    return -float(minimize(dual, np.zeros(len(b)), jac=True, method="BFGS", options={"gtol": 1e-9}).fun)


@pytest.mark.parametrize("seed", range(2))
def test_a_certificate_holds_where_the_distance_has_a_kink(seed: int, cpu: CpuBackend) -> None:
    """On every instruction set: the more exact a look is, the smaller the gap, and what the look lacks counts more."""
    problem = far_apart(seed)
    for backend in (cpu, ReferenceBackend()):
        solved = mix(problem, backend)
        own, certificate = by_scipy(problem, solved.weights), solved.certificate
        assert solved.converged
        assert own - (certificate.after - certificate.gap) <= 1.001 * certificate.gap


@pytest.mark.parametrize("off", [1e-3, 1e-2])
def test_what_a_look_lacks_is_known_where_the_distance_has_a_kink(off: float) -> None:
    problem, backend = far_apart(0), CpuBackend(1)
    solved, mixer = mix(problem, backend), Mixer(problem, backend, None)
    w = solved.weights + off * np.array([1, -1, 0])
    parts = problem.domains.sample([99] * 3, np.random.default_rng(0))
    rule = Rule(w, problem.hi, 1.0)
    dual = MixtureDual.on(parts, rule, problem.target, eps=problem.eps, cost=problem.cost, backend=backend)
    point, _ = mixer.swept(w, solved.g)
    lacks = by_scipy(problem, w) - point.value
    assert lacks > 0.5 * off
    assert mixer.rest(dual.at_weights(w), point) == pytest.approx(lacks, rel=0.02)


def test_bounds_are_kept_and_the_best_within_them_is_found() -> None:
    free = mix(small(), ReferenceBackend()).weights
    hi = np.where(free == free.max(), 0.5 * free, 1.0)
    problem = small(hi=hi)
    solved = mix(problem, ReferenceBackend())
    assert (solved.weights <= hi + 1e-9).all()
    assert solved.weights[free.argmax()] == pytest.approx(hi.min())
    assert solved.slopes[free.argmax()] < 0
    allowed = [by_pot(problem, w) for w in grid(12) if (w <= hi).all()]
    assert by_pot(problem, solved.weights) <= min(allowed) + 1e-5


def test_a_pool_like_the_target_has_nothing_to_gain() -> None:
    rng = np.random.default_rng(5)
    which = np.arange(400) % 4
    x = topics(rng, which)
    same = domain_weights(x, x, which)
    assert same.converged
    assert [one.weight for one in same.domains] == pytest.approx([0.25] * 4, abs=0.02)


def test_weights_of_rows_are_as_so_many_copies() -> None:
    rng = np.random.default_rng(6)
    which = rng.integers(0, 3, 150)
    x, y, a = topics(rng, which, 0.5), topics(rng, np.array([0] * 5 + [1] * 4), 0.5), rng.integers(1, 4, 150)
    weighted = weights(domain_weights(y, x, which, pool_weights=a))
    copied = weights(domain_weights(y, np.repeat(x, a, axis=0), np.repeat(which, a)))
    assert all(weighted[name] == pytest.approx(one, abs=0.01) for name, one in copied.items())


def test_a_domain_of_weightless_rows_can_be_mixed_in() -> None:
    rng = np.random.default_rng(7)
    which = np.repeat([0, 1, 2], 60)
    x, y = topics(rng, which), topics(rng, np.full(9, 2))
    found = domain_weights(y, x, which, pool_weights=(which < 2).astype(float))
    assert found.domains[0].domain == "2"
    assert found.domains[0].natural == 0
    assert found.domains[0].weight > 0.95


@pytest.mark.parametrize("other", ["cosine", "euclidean"])
def test_other_costs(
    target: NDArray[np.float32], pool: tuple[NDArray[np.float32], NDArray[np.int64]], other: str
) -> None:
    found = domain_weights(target, pool[0][:1500], pool[1][:1500], cost=other)
    assert found.converged
    assert weights(found)["4"] == pytest.approx(0.7, abs=0.05)


# ---- the parts


def test_the_gradient_and_the_curvature_of_the_dual_are_its_derivatives() -> None:
    problem, backend = small(), ReferenceBackend()
    parts = problem.domains.sample([99, 99, 99], np.random.default_rng(0))
    rule = Rule(np.array([0.2, 0.3, 0.5]), np.array([1.0, 0.4, 1.0]), 0.3)
    dual = MixtureDual.on(parts, rule, problem.target, eps=problem.eps, cost=problem.cost, backend=backend)
    rng = np.random.default_rng(1)
    g, step = 0.1 * rng.standard_normal(12), rng.standard_normal(12)
    h = 1e-5
    before, after = (dual.at(g + sign * h * step) for sign in (-1, 1))
    here = dual.at(g, gram=True)
    assert (after.value - before.value) / (2 * h) == pytest.approx(float(here.gradient @ step), rel=1e-6)
    assert here.sweep.gram is not None
    assert here.sweep.gram_q is not None
    bent = (here.sweep.gram_q * step - here.sweep.gram @ step) / problem.eps
    assert (before.gradient - after.gradient) / (2 * h) == pytest.approx(bent, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("eta", [1.0, 1e-3])
def test_the_rule_is_softmax_until_a_bound_is_met(eta: float) -> None:
    rng = np.random.default_rng(0)
    slopes, ref = rng.standard_normal(5), rng.dirichlet(np.ones(5))
    z = np.log(ref) - slopes / eta
    softmax = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    rule = Rule(ref, np.ones(5), eta)
    assert rule.weights(slopes) == pytest.approx(softmax, abs=1e-12)
    hi = np.full(5, 0.3)
    bounded = replace(rule, hi=hi).weights(slopes)
    assert bounded.sum() == pytest.approx(1.0)
    assert (bounded <= hi).all()
    value = replace(rule, hi=hi).value
    for _ in range(200):
        other = np.minimum(rng.dirichlet(np.ones(5)), hi)
        other += (hi - other) * ((1 - other.sum()) / (hi - other).sum())
        assert value(slopes, bounded) <= value(slopes, other) + 1e-9


def test_the_lowest_slope_is_filled_first() -> None:
    slopes = np.array([3.0, 1.0, 2.0])
    assert lowest(slopes, np.ones(3)) == pytest.approx(1.0)
    assert lowest(slopes, np.array([1.0, 0.25, 0.25])) == pytest.approx(0.25 + 0.5 + 1.5)


@pytest.mark.parametrize("seed", range(20))
def test_documents_are_shared_out_by_the_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 40, 7)
    k = int(rng.integers(1, counts.sum() + 1))
    hi = np.minimum(1.0, counts / k)
    w = Rule(rng.dirichlet(np.full(7, 0.3)), hi, 1.0).weights(np.zeros(7))
    shares = apportion(w, k, counts)
    assert shares.sum() == k
    assert (shares <= counts).all()
    assert (np.abs(shares - w * k) < 1 + 1e-6).all()


def test_what_is_chosen_is_nearer_than_random_documents_of_the_same_domains(
    target: NDArray[np.float32], pool: tuple[NDArray[np.float32], NDArray[np.int64]]
) -> None:
    given, backend = Target(target, np.full(M, 1 / M)), CpuBackend(1)
    domains = Domains.of(Rows.whole([pool[0]], 100), pool[1].astype(np.int32))
    scale = measure_scale(pool[0][:2000], given, Cost())
    problem = Problem(domains, given, Cost(), scale, scale.eps(0.1), capacities(domains.counts, 100))
    mixed = mix(problem, backend)
    counts = apportion(mixed.weights, 100, domains.counts)
    rows = chosen_within(problem, mixed, counts, backend)
    assert len(set(rows.tolist())) == 100
    assert (np.bincount(pool[1][rows], minlength=U) == counts).all()
    assert (np.diff(mixed.f[rows]) >= 0).all()
    rng = np.random.default_rng(0)
    drawn = np.concatenate([rng.choice(np.flatnonzero(pool[1] == d), counts[d], replace=False) for d in range(U)])
    assert alone(pool[0][rows], target) < 0.8 * alone(pool[0][drawn], target)


def alone(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    even = (np.full(len(one), 1 / len(one)) for one in (x, y))
    return float(ot.emd2(*even, cost_matrix(x, y, Cost())))


def test_small_domains_of_large_weight_are_not_left_to_a_sample() -> None:
    codes = np.repeat(np.arange(3, dtype=np.int32), [10, 1_000, 100_000])
    domains = Domains.of(Rows.whole([np.zeros((len(codes), 1), np.float32)], 1), codes)
    assert domains.heavy(np.array([0.5, 0.3, 0.2])) == 1_010
    assert domains.heavy(np.array([0.5, 0.0, 0.5])) == 10
    assert domains.heavy(domains.natural) == 0


def test_of_very_many_rows_none_are_copied_to_measure_a_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, w = small(), np.array([0.25, 0.0, 0.75])
    copied = problem.domains.occurring(w)
    monkeypatch.setattr("gapsel.mixture.domains._MOST_GATHERED", 0)
    whole = problem.domains.occurring(w)
    assert (copied.n, whole.n) == (45, 75)
    given = problem.target, problem.cost, problem.scale
    one, other = (distance(CpuBackend(1), rows, *given) for rows in (copied, whole))
    assert one.lower == pytest.approx(other.lower, rel=1e-4)
    assert one.upper == pytest.approx(other.upper, rel=1e-3)


# ---- bad input


def test_rows_without_a_label_are_a_domain_of_their_own() -> None:
    rng = np.random.default_rng(8)
    labels = ["a", None, "b"] * 30
    x = topics(rng, np.tile([0, 1, 2], 30))
    found = domain_weights(topics(rng, np.full(6, 1)), x, np.array(labels, object))
    assert found.domains[0].domain == "(none)"
    assert found.domains[0].rows == 30


@pytest.mark.parametrize(
    ("labels", "error", "says"),
    [
        (["a"] * 90, UsageError, "domains: one value, 'a', for all"),
        (list(range(90)) * 20, DataError, "1,800 labels for 90 rows"),
        ([[1], [2]], DataError, "cannot be read as labels|2 labels"),
        ([1, "b"] * 45, DataError, "cannot be read as labels"),
    ],
)
def test_labels_that_are_none_are_refused(labels: list[Any], error: type[Exception], says: str) -> None:
    x = topics(np.random.default_rng(9), np.arange(90) % 3)
    with pytest.raises(error, match=says):
        domain_weights(x[:5], x, labels)


def test_a_field_of_ids_is_refused() -> None:
    x = topics(np.random.default_rng(9), np.arange(1100) % 3)
    with pytest.raises(UsageError, match=r"1,100 values .*--clusters"):
        domain_weights(x[:5], x, np.arange(1100))


def test_more_documents_than_there_are_cannot_be_had() -> None:
    x = topics(np.random.default_rng(9), np.arange(90) % 3)
    with pytest.raises(UsageError, match="k is 91"):
        domain_weights(x[:5], x, np.arange(90) % 3, k=91)
    whole = domain_weights(x[:5], x, np.arange(90) % 3, k=90)
    assert [one.weight for one in whole.domains] == pytest.approx([1 / 3] * 3)
