"""What is to be avoided: the price of rows against brute force, and the whole way of it through runs and arrays."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gapsel
from clouds import D, K, M, N, cloud, in_files, write
from gapsel import DataError, Selector, UsageError, model, pipeline
from gapsel.backends.cpu import CpuBackend
from gapsel.cost import measure_scale
from gapsel.pipeline.steps import sampled
from gapsel.pipeline.steps.select import read_selection
from gapsel.pipeline.vectors.sides import called
from gapsel.potentials import Aversion, Rows, Task
from gapsel.records import Cost, Target
from gapsel.selection import certify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

CPU = CpuBackend(1)


# The target has two kinds, and one of them is what is not wanted.
POOL, TARGET, AVOID = cloud(N, 1), cloud(M, 2, (0, 1)), cloud(25, 3, (0,))


def kinds_of(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.bincount(POOL[rows, :3].argmax(axis=1), minlength=3)


def costs(x: Vectors, y: Vectors) -> NDArray[np.float64]:
    u, v = (rows.astype(float) / np.linalg.norm(rows.astype(float), axis=1, keepdims=True) for rows in (x, y))
    return np.asarray(2 - 2 * u @ v.T)


def transport(r: NDArray[np.float64], c: NDArray[np.float64], eps: float) -> tuple[float, NDArray[np.float64]]:
    """The regularised distance of row masses r (n,) to equal columns, and f (n,), by Sinkhorn's steps in float64."""
    m = c.shape[1]
    g = np.zeros(m)
    for _ in range(4000):
        f = -eps * np.logaddexp.reduce((g - c) / eps - np.log(m), axis=1)
        step = -eps * np.logaddexp.reduce((f[:, None] - c) / eps + np.log(np.maximum(r, 1e-300))[:, None], axis=0)
        g, moved = step, np.abs(step - g).max()
        if moved < 1e-12:
            break
    f = -eps * np.logaddexp.reduce((g - c) / eps - np.log(m), axis=1)
    return float(r @ f + g.mean()), f


def problem(x: Vectors, k: int, mass: float, strength: float) -> tuple[Task, Aversion]:
    target, cost = Target(TARGET, np.full(M, 1 / M)), Cost()
    rows, scale = Rows.whole([x], k), measure_scale(x, target, cost)
    task = Task(rows, target, cost, scale, scale.eps(0.5), mass, 1e-7)
    return task, Aversion.of(task, AVOID, 0.5, strength)


def test_at_mass_0_it_is_the_contrast_of_two_potentials() -> None:
    selector = Selector(k=K, mass=0.0, avoid_strength=0.8, tolerance=1e-6).fit(TARGET, POOL, avoid=AVOID)
    p, avoided = selector.evidence, model_of(selector).avoided
    assert p.converged
    assert avoided is not None
    a = np.full(N, 1 / N)
    _, f = transport(a, costs(POOL, TARGET), model_of(selector).potentials.eps)
    _, h = transport(a, costs(POOL, AVOID), avoided.potentials.eps)
    contrast = f - 0.8 * (h - h.mean())
    found = selector.potentials_[0].astype(float)
    np.testing.assert_allclose(found - found.mean(), contrast - contrast.mean(), atol=1e-5)
    assert len(np.intersect1d(selector.select().rows, np.argsort(contrast)[:K])) >= K - 1
    # A score is the paper's gradient of the contrast.
    np.testing.assert_allclose(selector.score(), (contrast - contrast.mean()) / (1 - 1 / N), atol=1e-5)


def model_of(selector: Selector) -> model.Model:
    return selector._fitted()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mass", [0.4, 1.0])
def test_the_certificate_bounds_every_choice(seed: int, mass: float) -> None:
    """Against all choices of 3 of 12 rows, G by Sinkhorn's steps in float64."""
    x, k, strength = POOL[40 * seed : 40 * seed + 12], 3, 0.6
    task, aversion = problem(x, k, mass, strength)
    found = sampled.fit(task, 10**6, CPU, aversion=aversion)
    assert found.f is not None
    assert found.avoided is not None
    a = np.full(12, 1 / 12)
    _, h = transport(a, costs(x, AVOID), aversion.task.eps)
    price = -strength * (h - h.mean())
    np.testing.assert_allclose(found.price, price, atol=1e-5)

    def g_of(chosen: tuple[int, ...]) -> float:
        w = np.isin(np.arange(12), chosen) / k
        return transport((1 - mass) * a + mass * w, costs(x, TARGET), task.eps)[0] + mass * float(w @ price)

    every = {chosen: g_of(chosen) for chosen in itertools.combinations(range(12), k)}
    chosen = np.sort(CPU.topk(found.f, k))
    priced = Task(
        aversion.priced(task.rows, CPU)[0], task.target, task.cost, task.scale, task.eps, mass, task.tolerance
    )
    said = certify(found.f, chosen, priced, found.potentials, CPU)
    own, best = every[tuple(chosen.tolist())], min(every.values())
    # Solved to a tolerance, and with what is promised of the rest.
    assert -2e-5 <= said.after - own <= 2e-4
    assert own - best <= said.gap + 2e-5
    assert said.before == pytest.approx(transport(a, costs(x, TARGET), task.eps)[0], abs=2e-4)


def test_what_lowers_the_price_lowers_the_contrast_at_least_as_much() -> None:
    """F - strength H at the mixture is at most G - strength H(a): the linear price is on the safe side."""
    rng, (task, aversion) = np.random.default_rng(0), problem(POOL[:40], 5, 0.5, 1.0)
    c, other, a = costs(POOL[:40], TARGET), costs(POOL[:40], AVOID), np.full(40, 1 / 40)
    at_a, h = transport(a, other, aversion.task.eps)
    for mass in (0.1, 0.5, 1.0):
        w = np.isin(np.arange(40), rng.permutation(40)[:5]) / 5
        mixture = (1 - mass) * a + mass * w
        near, far = transport(mixture, c, task.eps)[0], transport(mixture, other, aversion.task.eps)[0]
        assert near - far <= near - mass * float(w @ (h - a @ h)) - at_a + 1e-9


@pytest.mark.parametrize("mass", [0.0, 0.5, 1.0])
def test_what_is_avoided_is_not_chosen_and_the_more_so_the_stronger(mass: float) -> None:
    taken, away = [], []
    for strength in (0.0, 0.3, 1.0):
        avoid = AVOID if strength else None
        selector = Selector(k=K, mass=mass, **({"avoid_strength": strength} if strength else {}))
        chosen = selector.fit(TARGET, POOL, avoid=avoid).select()
        taken.append(int(kinds_of(chosen.rows)[0]))
        if strength and mass:
            away.append(selector.distances(chosen, avoided=True).after.middle)
            # Of so few rows a choice for all of the mass rounds coarsely: three of four in it are in part.
            assert selector.certify(chosen).percent < (3 if mass < 1 else 20)
    assert taken[0] > taken[1] >= taken[2]
    assert taken[2] < (K / 10 if mass < 1 else K / 4)
    assert away == sorted(away)


def test_with_a_base_quotas_tasks_studies_and_another_k() -> None:
    base, kinds = cloud(400, 7, (0, 2)), POOL[:, :3].argmax(axis=1).astype(str)
    selector = Selector(k=K, mass=0.5).fit(TARGET, POOL, base=base, avoid=AVOID)
    chosen = selector.select()
    assert kinds_of(chosen.rows)[0] < K / 10
    assert selector.certify(chosen).percent < 5
    assert len(np.intersect1d(selector.mass_path((0.5,))[0.5], chosen.rows)) > 0.9 * K
    assert selector.error_bars(chosen).target.keeps > 0.5
    fewer = selector.select(30)
    anew = Selector(k=30, mass=0.5).fit(TARGET, POOL, base=base, avoid=AVOID).select()
    assert len(np.intersect1d(fewer.rows, anew.rows)) >= 29
    capped = Selector(k=K, mass=0.5, at_most=("kind=50%",)).fit(TARGET, POOL, avoid=AVOID, fields={"kind": kinds})
    assert kinds_of(capped.select().rows)[1] == K // 2
    assert capped.certify(capped.select()).percent < 10
    tasks = TARGET[:, :2].argmax(axis=1)
    # What tasks weigh against each other is found without what is avoided.
    several, alone = (Selector(k=K, mass=0.5).fit(TARGET, POOL, tasks=tasks, avoid=avoid) for avoid in (AVOID, None))
    assert several.balance is not None
    assert several.balance.level
    assert alone.balance is not None
    assert np.array_equal(several.balance.weights, alone.balance.weights)
    assert kinds_of(several.select().rows)[0] < kinds_of(alone.select().rows)[0]
    assert len(several.select(30).rows) == 30


@pytest.mark.parametrize("mass", [0.0, 0.5])
def test_a_part_of_the_pool_prices_all_of_it(mass: float) -> None:
    x = cloud(9000, 4)
    whole = Selector(k=300, mass=mass).fit(TARGET, x, avoid=AVOID)
    part = Selector(k=300, mass=mass, fit_rows=4000).fit(TARGET, x, avoid=AVOID)
    assert part.evidence.rows == 4000
    chosen = part.select()
    assert len(np.intersect1d(chosen.rows, whole.select().rows)) > 0.85 * 300
    assert part.certify(chosen).percent < 5
    np.testing.assert_allclose(part.score(), whole.score(), atol=0.05)


# Files


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    return in_files(tmp_path, pool=POOL, target=TARGET, avoid=AVOID)


@pytest.mark.parametrize("mass", [0.0, 0.5])
def test_a_run_avoids_as_arrays_do(files: dict[str, Any], tmp_path: Path, mass: float) -> None:
    out, settings = tmp_path / "out", {**files, "k": K, "mass": mass, "threads": 1, "methods": ("random",)}
    found = gapsel.run(out, **settings)
    beside = Selector(k=K, mass=mass, threads=1).fit(TARGET, POOL, avoid=AVOID)
    assert np.array_equal(found.rows, beside.select().rows)
    np.testing.assert_allclose(found.scores, beside.select().scores, atol=1e-6)
    np.testing.assert_allclose(gapsel.load(out).score(POOL), beside.score(), atol=1e-6)
    assert found.certificate.gap == pytest.approx(beside.certify(beside.select()).gap, abs=1e-5)
    record = json.loads((out / "run.json").read_text())
    assert record["settings"]["avoid_vectors"] == [files["avoid_vectors"]]
    assert record["steps"]["embed"]["avoid"]["rows"] == len(AVOID)
    away = json.loads((out / "selection.json").read_text())["avoided"]
    assert away["after"]["lower"] > away["before"]["upper"]
    page = (out / "report.html").read_text()
    assert "what is to be avoided (avoid.npy) rises" in page
    with pipeline.reopen(out, {"k": 40}, quiet=True) as begun:
        pipeline.advance(begun, "select")
        other = read_selection(begun).selection.rows
    assert len(np.intersect1d(other, Selector(k=40, mass=mass).fit(TARGET, POOL, avoid=AVOID).select().rows)) >= 39


def test_another_strength_and_other_examples_are_another_fit(files: dict[str, Any], tmp_path: Path) -> None:
    first = gapsel.run(tmp_path / "out", **files, k=K, threads=1)
    with pipeline.reopen(tmp_path / "out", {"avoid_strength": 0.05}, quiet=True) as begun:
        pipeline.advance(begun, "select")
        milder = read_selection(begun).selection.rows
    assert kinds_of(milder)[0] > kinds_of(first.rows)[0]
    write(tmp_path / "avoid.npy", AVOID[:9])
    with pytest.raises(DataError, match=r"avoid_vectors|inputs"):
        gapsel.run(tmp_path / "out", **files, k=K, threads=1, avoid_strength=0.05)


def test_mix_knows_nothing_to_avoid(files: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this run avoids something"):
        gapsel.mix(tmp_path / "out", **files, clusters=3, threads=1)


BAD: dict[str, tuple[Callable[[], Vectors], str]] = {
    "other d": (
        AVOID[:, :4].copy,
        "the vectors of what is to be avoided have 4 dimensions, those of the target 6: embed both",
    ),
    "nan": (lambda: np.where(np.arange(D) == 1, np.nan, AVOID[:5]).astype(np.float32), r"avoid\.npy row 0: NaN"),
    "empty": (lambda: np.zeros((0, D), np.float32), "avoid"),
}


@pytest.mark.parametrize("name", BAD)
def test_examples_that_cannot_be_used(name: str, files: dict[str, Any], tmp_path: Path) -> None:
    make, message = BAD[name]
    write(tmp_path / "avoid.npy", make())
    with pytest.raises(DataError, match=message):
        gapsel.run(tmp_path / "out", **files, k=K, threads=1)
    assert not (tmp_path / "out" / "selection.json").exists()


def test_arrays_and_settings_that_cannot_be_used() -> None:
    with pytest.raises(DataError, match="of what is to be avoided have 4 dimensions"):
        Selector(k=K).fit(TARGET, POOL, avoid=AVOID[:, :4])
    with pytest.raises(UsageError, match=r"avoid_strength is 0\.0: give a positive number"):
        Selector(k=K, avoid_strength=0.0)
    plain = Selector(k=K).fit(TARGET, POOL)
    with pytest.raises(UsageError, match="avoids nothing"):
        plain.distances(plain.select(), avoided=True)


@pytest.mark.parametrize("side", ["pool", "avoid", "base"])
def test_vectors_of_another_embedder_are_refused(side: str, tmp_path: Path) -> None:
    """Folders of vectors that runs wrote say what made them, wherever they are used."""
    given: dict[str, Any] = {}
    for name, x in {"pool": POOL, "target": TARGET, "avoid": AVOID, "base": cloud(400, 7)}.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name / "00000.npy", x)
        made = {"fingerprint": {"embedder": {"hash": "other" if name == side else "one"}}}
        (tmp_path / name / "store.json").write_text(json.dumps(made))
        given[f"{name}_vectors"] = str(tmp_path / name)
    with pytest.raises(DataError, match=f"of {called(side)} and of the target are of 2 embedders"):
        gapsel.run(tmp_path / "out", **given, k=K, threads=1)
    assert not (tmp_path / "out" / "model.safetensors").exists()
    (tmp_path / side / "store.json").write_text((tmp_path / "target" / "store.json").read_text())
    assert len(gapsel.run(tmp_path / "again", **given, k=K, threads=1).rows) == K
