"""A base beside the pool: what the model has already, from which nothing is chosen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gapsel
from clouds import D, K, M, N, cloud, in_files, write
from gapsel import DataError, Selector, UsageError, model, pipeline
from gapsel.backends.cpu import CpuBackend
from gapsel.backends.reference import ReferenceBackend
from gapsel.cost import measure_scale
from gapsel.pipeline.steps import sampled
from gapsel.pipeline.steps.select import read_selection
from gapsel.pipeline.studies.choices import at_mass
from gapsel.potentials import Rows, Task, solve
from gapsel.records import Cost, Query, Target

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CPU = CpuBackend(1)


POOL, TARGET = cloud(N, 1), cloud(M, 2, (0, 1))
BASE = cloud(400, 3, (0, 2))


def kinds_of(rows: NDArray[np.int64], x: NDArray[np.float32] = POOL) -> NDArray[np.int64]:
    return np.bincount(x[rows, :3].argmax(axis=1), minlength=3)


def posed(rows: Rows, mass: float) -> Task:
    target, cost = Target(TARGET, np.full(M, 1 / M)), Cost()
    scale = measure_scale(POOL, target, cost)
    return Task(rows, target, cost, scale, scale.eps(0.5), mass, 1e-5)


@pytest.mark.parametrize("mass", [0.0, 0.5, 0.9, 1.0])
def test_a_base_of_all_the_pool_chooses_as_no_base_does(mass: float) -> None:
    plain = Selector(k=K, mass=mass, tolerance=1e-5).fit(TARGET, POOL)
    beside = Selector(k=K, mass=mass, tolerance=1e-5).fit(TARGET, POOL, base=[POOL[:300], POOL[300:]])
    assert len(np.intersect1d(plain.select().rows, beside.select().rows)) >= K - 1
    f, other = plain.potentials_[0], beside.potentials_[0]
    assert len(other) == N
    np.testing.assert_allclose(other - other.mean(), f - f.mean(), atol=2e-3)
    # Without a base each row of the pool is a part of what is there, and its weight comes off; beside one none is.
    np.testing.assert_allclose(beside.score(), plain.score() * (1 - 1 / N), atol=2e-3)
    assert beside.evidence.plain_value == pytest.approx(plain.evidence.plain_value, abs=1e-3)


def test_what_the_base_has_is_chosen_less() -> None:
    """The target is half of kind 0 and half of kind 1; a base that has kind 0 leaves kind 1 to be chosen."""
    plain = kinds_of(Selector(k=K).fit(TARGET, POOL).select().rows)
    beside = kinds_of(Selector(k=K).fit(TARGET, POOL, base=BASE).select().rows)
    assert beside[1] > plain[1]
    assert beside[0] < plain[0]


def test_a_base_has_no_effect_on_all_of_the_mass() -> None:
    one, other = (Selector(k=K, mass=1.0, tolerance=1e-5).fit(TARGET, POOL, base=base) for base in (BASE, BASE[:50]))
    plain = Selector(k=K, mass=1.0, tolerance=1e-5).fit(TARGET, POOL)
    for selector in (one, other):
        assert len(np.intersect1d(selector.select().rows, plain.select().rows)) >= K - 1


def test_the_dual_is_that_of_the_formula() -> None:
    """At the solution, the reference's columns hold b with lo = (1 - mass) weights on the base and room in the pool."""
    weights = np.random.default_rng(0).random(len(BASE))
    rows = Rows.whole([POOL], K).beside([BASE], weights)
    task = posed(rows, 0.6)
    found = solve(task, CPU)
    p = found.potentials
    box = rows.box(0.6, 0.0 + task.box().eta)
    swept = ReferenceBackend().sweep([POOL, BASE], Query(p.target, p.g, box, p.eps, p.cost))
    assert np.abs(swept.q - p.target.b).sum() < 1e-4
    assert np.asarray(box.lo)[:N].max() == 0
    np.testing.assert_allclose(np.asarray(box.lo)[N:], 0.4 * weights / weights.sum())
    np.testing.assert_allclose(np.asarray(box.hi) - box.lo, np.r_[np.full(N, 0.6 / K), np.zeros(len(BASE))], atol=1e-17)


@pytest.mark.parametrize("mass", [0.0, 0.5])
def test_scores_are_of_the_base_and_the_same_outside(mass: float, tmp_path: Path) -> None:
    """At mass 0 a score is the paper's gradient with the base as what is there: f less the base's mean of f."""
    weights = np.random.default_rng(0).random(len(BASE))
    selector = Selector(k=K, mass=mass).fit(TARGET, POOL, base=BASE, base_weights=weights)
    selector.save(tmp_path / "model.safetensors")
    loaded = gapsel.load(tmp_path / "model.safetensors")
    np.testing.assert_allclose(loaded.score(POOL[:9]), selector.score()[:9], atol=1e-6)
    fitted = model.load(tmp_path / "model.safetensors")
    f = fitted.f([BASE], CPU).astype(np.float64)
    assert fitted.calibration.mean == pytest.approx(float(np.average(f, weights=weights)), abs=1e-5)
    assert fitted.calibration.rows == N
    assert selector.score().shape == (N,)


@pytest.mark.parametrize("mass", [0.0, 0.5])
@pytest.mark.parametrize(("pool", "base"), [(6000, 300), (300, 6000), (6000, 6000)])
def test_each_side_is_sampled_by_itself(mass: float, pool: int, base: int) -> None:
    rows = Rows.whole([cloud(pool, 5)], pool // 5).beside([cloud(base, 6, (0, 2))])
    most = 3000
    found = sampled.fit(posed(rows, mass), most, CPU)
    whole = solve(posed(rows if mass else rows.present, mass), CPU)
    assert found.f is None
    assert found.potentials.evidence.sampling_error >= 0
    assert found.calibration.pool_rows == pool
    g, other = (
        np.asarray(p.g - (p.target.b @ p.g if mass == 0 else 0.0)) for p in (found.potentials, whole.potentials)
    )
    np.testing.assert_allclose(g, other, atol=0.05)
    small = min(pool, base) < most // 2
    if mass == 0 and base < most // 2:
        assert found.potentials.evidence.sampling_error == 0
    elif not small or mass:
        assert found.potentials.evidence.sampling_error > 0


def test_large_sets_go_through_samples_and_shortlists() -> None:
    """Many rows on both sides: the shortlist has rows of both, and what is chosen is what a solution without it is."""
    rows = Rows.whole([cloud(20_000, 5)], 100).beside([cloud(20_000, 6, (0, 2))])
    task = posed(rows, 0.5)
    found = solve(task, CPU)
    assert {stage.name for stage in found.potentials.evidence.trace} == {"sample", "pool", "shortlist", "plan"}
    assert found.potentials.evidence.converged
    exact = solve(task, CPU, start=found.potentials.g)
    chosen, other = (CPU.topk(one.f[:20_000], 100) for one in (found, exact))
    assert len(np.intersect1d(chosen, other)) >= 99


def test_certificate_distances_and_studies_beside_a_base() -> None:
    selector = Selector(k=K, mass=0.5).fit(TARGET, POOL, base=BASE)
    chosen = selector.select()
    certificate, distances = selector.certify(chosen), selector.distances(chosen)
    assert certificate.percent < 5
    assert distances.after.upper < distances.before.lower
    alone = Selector(k=K, mass=0.5).fit(TARGET, BASE)
    assert distances.before.middle == pytest.approx(alone.distances(alone.select()).before.middle, rel=0.02)
    path = selector.mass_path((0.0, 0.5, 1.0))
    assert all(len(rows) == K and rows.max() < N for rows in path.values())
    assert len(np.intersect1d(path[0.5], chosen.rows)) > 0.9 * K
    assert selector.error_bars(chosen).pool.agree > 0.9
    fewer = selector.select(30)
    assert len(fewer.rows) == 30
    assert len(np.intersect1d(fewer.rows, chosen.rows)) > 20


# Files


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    return in_files(tmp_path, pool=POOL, target=TARGET, base=BASE)


@pytest.mark.parametrize("mass", [0.0, 0.5])
def test_a_run_with_a_base(files: dict[str, Any], tmp_path: Path, mass: float) -> None:
    settings = {**files, "k": K, "mass": mass, "threads": 1, "error_bars": True, "methods": ("random",)}
    found = gapsel.run(tmp_path / "out", **settings)
    beside = Selector(k=K, mass=mass, threads=1).fit(TARGET, POOL, base=BASE)
    assert np.array_equal(found.rows, beside.select().rows)
    np.testing.assert_allclose(found.scores, beside.select().scores, atol=1e-6)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["settings"]["base_vectors"] == [files["base_vectors"]]
    assert record["steps"]["embed"]["base"]["rows"] == len(BASE)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "base and" in page if mass else "for the base" in page
    again = gapsel.run(tmp_path / "out", **settings)
    assert np.array_equal(again.rows, found.rows)
    with pipeline.reopen(tmp_path / "out", {"k": 40}, quiet=True) as begun:
        pipeline.advance(begun, "select")
        other = read_selection(begun).selection.rows
        # As evaluate would have it at another mass: of the pool alone, though the base has lower f.
        whole = at_mass(begun, 1.0)
    assert np.isin(other, beside.select(60).rows).mean() > 0.8
    assert len(whole) == 40
    assert whole.max() < N


def test_another_base_is_another_fit(files: dict[str, Any], tmp_path: Path) -> None:
    gapsel.run(tmp_path / "out", **files, k=K, threads=1)
    write(tmp_path / "base.npy", BASE[:100])
    with pytest.raises(DataError, match=r"base_vectors|inputs"):
        gapsel.run(tmp_path / "out", **files, k=K, threads=1)


BAD: dict[str, tuple[dict[str, Any], NDArray[np.float32] | None, type[gapsel.GapselError], str]] = {
    "other d": ({}, BASE[:, :4].copy(), DataError, "of the base have 4 dimensions, those of the target 6: embed both"),
    "nan": ({}, np.where(np.arange(D) == 1, np.nan, BASE[:5]).astype(np.float32), DataError, r"base\.npy row 0: NaN"),
    "a zero row": ({}, np.zeros((3, D), np.float32), DataError, "base.*row 0"),
    "empty": ({}, np.zeros((0, D), np.float32), DataError, "base"),
    "weights of the pool": ({"pool_weights": "w.npy"}, None, UsageError, "which has all the weight"),
    "weights by a loss": (
        {"loss_weights": "a-model"},
        None,
        UsageError,
        "loss_weights is 'a-model', and there is a base",
    ),
    "weights too many": ({"base_weights": "w.npy"}, BASE[:5], DataError, "the base's weights.*give 5 numbers"),
    "weights of no base": ({"base_vectors": (), "base_weights": "w.npy"}, None, UsageError, "there is no base"),
    "no such file": ({"base_vectors": "none.npy"}, None, DataError, r"none\.npy"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_base_that_cannot_be_used(
    name: str, files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, x, error, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "w.npy", np.ones(7, np.float32))
    if x is not None:
        write(tmp_path / "base.npy", x)
    with pytest.raises(error, match=message):
        gapsel.run(tmp_path / "out", **files | changes, k=K, threads=1)
    assert not (tmp_path / "out" / "selection.json").exists()


def test_arrays_that_cannot_be_a_base() -> None:
    with pytest.raises(DataError, match="of the base have 4 dimensions"):
        Selector(k=K).fit(TARGET, POOL, base=BASE[:, :4])
    with pytest.raises(UsageError, match="pool_weights are given beside a base"):
        Selector(k=K).fit(TARGET, POOL, base=BASE, pool_weights=np.ones(N))
    with pytest.raises(DataError, match="base_weights"):
        Selector(k=K).fit(TARGET, POOL, base=BASE, base_weights=np.ones(3))


@pytest.mark.parametrize("mass", [0.0, 0.5])
def test_quotas_are_kept_beside_a_base(mass: float) -> None:
    kinds = POOL[:, :3].argmax(axis=1).astype(str)
    selector = Selector(k=K, mass=mass, at_most=("kind=40%",)).fit(TARGET, POOL, base=BASE, fields={"kind": kinds})
    assert len(selector.select().rows) == K
    assert kinds_of(selector.select().rows).max() == int(0.4 * K)
