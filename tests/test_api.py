"""Selector: arrays of any make in, the same arrays out; and what it refuses before it is fitted."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gapsel
from gapsel import Selector
from outside_judge import ot

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

N, M, D, K = 300, 12, 8, 15


def cloud(rows: int, seed: int) -> NDArray[np.float32]:
    """Return vectors around three directions; float16 holds them exactly."""
    rng = np.random.default_rng(seed)
    centres = np.eye(3, D) * 3
    points = centres[rng.integers(0, 3, rows)] + rng.normal(size=(rows, D))
    return points.astype(np.float16).astype(np.float32)


POOL = cloud(N, 1)
TARGET = cloud(M, 2)
TARGET[:, 0] += 3


UNIT = [(v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float64) for v in (POOL, TARGET)]
COSTS = 2 - 2 * UNIT[0] @ UNIT[1].T


def fitted(**settings: Any) -> Selector:  # noqa: ANN401 - settings
    return Selector(k=K, **settings).fit(TARGET, POOL)


@pytest.fixture(scope="module")
def at_half() -> Selector:
    return fitted()


FORMS: dict[str, Any] = {
    "float16": POOL.astype(np.float16),
    "float64": POOL.astype(np.float64),
    "fortran": np.asfortranarray(POOL),
    "reversed": POOL[::-1].copy()[::-1],
    "every second column": np.repeat(POOL, 2, axis=1)[:, ::2],
    "shards": [POOL[:100], POOL[100:101], POOL[101:]],
    "shards of two types": [POOL[:100], POOL[100:].astype(np.float16)],
    "lists": POOL.tolist(),
    "list of rows": list(POOL),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_the_arrays_changes_no_bit(form: str, at_half: Selector) -> None:
    other = Selector(k=K).fit(TARGET.astype(np.float64), FORMS[form])
    chosen, same = at_half.select(), other.select()
    assert np.array_equal(chosen.rows, same.rows)
    assert np.array_equal(chosen.scores, same.scores)
    assert np.array_equal(chosen.nearest, same.nearest)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
def test_torch_tensors_are_arrays(at_half: Selector) -> None:
    import torch

    other = Selector(k=K).fit(torch.from_numpy(TARGET), torch.from_numpy(POOL))
    assert np.array_equal(at_half.select().rows, other.select().rows)
    with pytest.raises(gapsel.DataError, match=r"pool: cannot be read as an array .*requires grad"):
        other.fit(TARGET, torch.from_numpy(POOL).requires_grad_())
    with pytest.raises(gapsel.DataError, match=r"pool: cannot be read as an array .*BFloat16"):
        other.fit(TARGET, torch.from_numpy(POOL).bfloat16())


def test_fit_returns_itself_and_leaves_the_arrays_alone() -> None:
    pool, target = POOL.copy(), TARGET.copy()
    selector = Selector(k=K)
    assert selector.fit(target, pool) is selector
    assert np.array_equal(pool, POOL)
    assert np.array_equal(target, TARGET)


def test_potentials_and_scores_have_one_entry_for_each_row(at_half: Selector) -> None:
    f, g = at_half.potentials_
    scores = at_half.score()
    assert (f.shape, g.shape, scores.shape) == ((N,), (M,), (N,))
    assert [str(one.dtype) for one in (f, g, scores)] == ["float32", "float64", "float64"]
    assert np.array_equal(np.argsort(f, kind="stable")[:K], at_half.select().rows)
    assert at_half.evidence.converged


def test_scores_are_the_calibrated_gradient(at_half: Selector) -> None:
    f = at_half.potentials_[0].astype(np.float64)
    others = np.array([np.delete(f, row).mean() for row in range(5)])
    assert at_half.score()[:5] == pytest.approx(f[:5] - others)


def test_the_same_vector_has_the_same_score_in_the_pool_and_outside(at_half: Selector) -> None:
    assert at_half.score().tobytes() == at_half.score(POOL).tobytes()


def test_selection_is_best_first_with_its_scores_and_nearest_targets(at_half: Selector) -> None:
    chosen = at_half.select()
    assert chosen.rows.shape == chosen.scores.shape == chosen.nearest.shape == (K,)
    assert (np.diff(chosen.scores) >= 0).all()
    assert chosen.scores == pytest.approx(at_half.score()[chosen.rows])
    x = POOL[chosen.rows] / np.linalg.norm(POOL[chosen.rows], axis=1, keepdims=True)
    y = TARGET / np.linalg.norm(TARGET, axis=1, keepdims=True)
    assert np.array_equal(chosen.nearest, np.argmax(x @ y.T, axis=1))


def test_at_mass_0_another_k_is_a_longer_piece_of_one_ranking() -> None:
    selector = fitted(mass=0)
    few, many = selector.select(5), selector.select(k="20%")
    assert len(many.rows) == 60
    assert np.array_equal(few.rows, many.rows[:5])
    assert selector.certify(few).gap == 0


@pytest.mark.parametrize("k", [8, 40])
def test_at_a_mass_another_k_is_solved_for_from_the_fitted_one(at_half: Selector, k: int) -> None:
    afresh = Selector(k=k).fit(TARGET, POOL)
    assert len(np.intersect1d(at_half.select(k).rows, afresh.select().rows)) >= k - 1
    # The fitted k is as it was.
    assert np.array_equal(at_half.select().rows, fitted().select().rows)


def test_certificate_bounds_the_gain_that_is_left(at_half: Selector) -> None:
    good = at_half.certify(at_half.select())
    chosen = at_half.select()
    worst = np.argsort(-at_half.score())[:K]
    bad = at_half.certify(type(chosen)(worst, at_half.score()[worst], chosen.nearest))
    assert good.after < good.before
    assert 0 <= good.percent < 25
    assert bad.percent > good.percent


@pytest.mark.parametrize("mass", [0.0, 0.5, 1.0])
def test_distances_hold_what_pot_finds(mass: float) -> None:
    selector = fitted(mass=mass)
    chosen = selector.select()
    found = selector.distances(chosen)
    rows = (1 - mass) / N + mass * np.isin(np.arange(N), chosen.rows) / K
    for interval, r in ((found.before, np.full(N, 1 / N)), (found.after, rows)):
        exact = ot.emd2(r / r.sum(), np.full(M, 1 / M), COSTS, numItermax=10**6)
        assert interval.lower <= exact * (1 + 1e-6)
        assert interval.upper >= exact * (1 - 1e-6)
    assert (found.after.upper < found.before.lower) == (mass > 0)


def test_weights_move_the_choice_and_their_scale_does_not(at_half: Selector) -> None:
    b = np.where(np.arange(M) < 3, 1.0, 0.0)
    moved = Selector(k=K).fit(TARGET, POOL, target_weights=b).select()
    assert set(moved.nearest) <= set(range(M))
    assert not np.array_equal(moved.rows, at_half.select().rows)
    scaled = Selector(k=K).fit(TARGET, POOL, target_weights=(b * 7).tolist()).select()
    assert np.array_equal(moved.rows, scaled.rows)
    even = Selector(k=K).fit(TARGET, POOL, pool_weights=np.ones(N)).select()
    assert set(even.rows) == set(at_half.select().rows)


@pytest.mark.parametrize("cost", ["sqeuclidean", "cosine", "euclidean"])
@pytest.mark.parametrize("mass", [0, 0.3, 1])
def test_the_backends_choose_alike(cost: str, mass: float) -> None:
    fast, judge = (fitted(cost=cost, mass=mass, backend=name).select().rows for name in ("cpu", "reference"))
    assert len(np.intersect1d(fast, judge)) >= K - 1


def test_a_seed_repeats_every_bit() -> None:
    one, two = (fitted(seed=5, mass=0.7) for _ in range(2))
    assert np.array_equal(one.potentials_[0], two.potentials_[0])
    assert np.array_equal(one.potentials_[1], two.potentials_[1])


def test_a_saved_model_scores_the_same_anywhere(tmp_path: Path, at_half: Selector) -> None:
    at_half.save(tmp_path / "deep" / "m.safetensors")
    at_half.save(tmp_path)
    for path in (tmp_path / "deep" / "m.safetensors", tmp_path, str(tmp_path)):
        loaded = gapsel.load(path)
        assert np.array_equal(loaded.score(POOL[:20]), at_half.score(POOL[:20]))
        assert loaded.evidence == at_half.evidence


def test_a_loaded_model_has_no_pool_to_select_from(tmp_path: Path, at_half: Selector) -> None:
    at_half.save(tmp_path)
    loaded = gapsel.load(tmp_path)
    for call in (loaded.select, loaded.score, lambda: loaded.potentials_):
        with pytest.raises(gapsel.UsageError, match="no pool"):
            call()


def test_nothing_works_before_fit(tmp_path: Path) -> None:
    selector = Selector()
    calls = (selector.select, selector.score, lambda: selector.score(POOL), lambda: selector.save(tmp_path / "m"))
    for call in (*calls, lambda: selector.evidence, lambda: selector.potentials_):
        with pytest.raises(gapsel.UsageError, match="not fitted: call fit"):
            call()
    assert not list(tmp_path.iterdir())


def test_not_converging_is_told_and_not_raised() -> None:
    evidence = fitted(max_sweeps=1, tolerance=1e-12).evidence
    assert not evidence.converged
    assert evidence.marginal_error > evidence.tolerance


def test_a_fit_that_fails_leaves_the_fit_before() -> None:
    selector = fitted()
    before = selector.select().rows
    with pytest.raises(gapsel.DataError):
        selector.fit(TARGET[:, :3], POOL)
    assert np.array_equal(selector.select().rows, before)


@pytest.mark.parametrize("setting", ["pool", "target_vectors", "pool_weights", "model", "device", "label_field"])
def test_settings_of_runs_over_files_are_refused(setting: str) -> None:
    with pytest.raises(gapsel.UsageError, match=f"{setting} is a setting of runs over files: give arrays"):
        Selector(**{setting: "x"})


@pytest.mark.parametrize("k", [0, -1, 1.5, "0%", "many", None, True])
def test_k_is_checked_at_once(k: object) -> None:
    with pytest.raises(gapsel.UsageError, match=r"^k is"):
        Selector(k=k)


@pytest.mark.parametrize("k", [0, N + 1, "200%"])
def test_k_is_checked_at_select(k: int | str, at_half: Selector) -> None:
    with pytest.raises(gapsel.UsageError, match=r"^k is"):
        at_half.select(k)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (POOL[:, :3], "3 dimensions, the target has 8"),
        (POOL[0], "two-dimensional"),
        (POOL[:0], "empty"),
        (POOL.astype(int), "int64"),
        (np.full((1, D), np.nan), "row 0: NaN"),
        (np.zeros((2, D)), "row 0: all zeros"),
        ([[1.0], [1.0, 2.0]], "cannot be read as an array"),
    ],
)
def test_vectors_that_cannot_be_scored(vectors: Any, message: str, at_half: Selector) -> None:  # noqa: ANN401
    with pytest.raises(gapsel.DataError, match=message):
        at_half.score(vectors)


@pytest.mark.parametrize("mass", [0, 0.5, 1])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 5), (40, 1)])
def test_the_smallest_pools_and_targets_work(n: int, m: int, mass: float) -> None:
    selector = Selector(k=1, mass=mass).fit(TARGET[:m], POOL[:n])
    assert selector.select().rows.shape == (1,)
    assert np.isfinite(selector.score()).all()


@pytest.mark.parametrize("mass", [0, 0.5, 1])
def test_a_pool_and_a_target_of_one_point_each_work(mass: float) -> None:
    chosen = Selector(k=3, mass=mass).fit(np.repeat(TARGET[:1], 4, 0), np.repeat(POOL[:1], 9, 0)).select()
    assert chosen.rows.tolist() == [0, 1, 2]
