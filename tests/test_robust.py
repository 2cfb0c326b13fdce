"""Robust targets: examples that nothing in the pool serves attract no mass, and the others count as before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gapsel
from gapsel import Selector
from gapsel.backends.cpu import CpuBackend
from gapsel.backends.reference import ReferenceBackend
from gapsel.cli import main
from gapsel.cost import cost_matrix, measure_scale
from gapsel.potentials import Dual, Rows, Task, Weighing, ascend, weigh
from gapsel.potentials.robust import ignored
from gapsel.potentials.trimming import Trimmed
from gapsel.records import Box, Cost, Target

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

N, D, K, CLEAN, NOISE = 1500, 24, 60, 45, 5


@pytest.fixture(scope="module")
def vectors() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A pool of three topics, and a target of one of them with some directions in it that the pool has nothing of."""
    rng = np.random.default_rng(0)
    centres = np.eye(3, D)[rng.integers(0, 3, N)]
    pool = centres + 0.15 * rng.standard_normal((N, D))
    pool[:, -NOISE:] = 0
    clean = np.eye(1, D)[0] + 0.15 * rng.standard_normal((CLEAN, D))
    clean[:, -NOISE:] = 0
    apart = np.eye(D)[-NOISE:]
    y = np.concatenate([clean[:20], apart, clean[20:]])
    return pool.astype(np.float32), y.astype(np.float32)


PLANTED = np.arange(20, 20 + NOISE)


@pytest.mark.parametrize("mass", [0.0, 0.5, 1.0])
def test_planted_noise_is_ignored_and_nothing_else(
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]], mass: float
) -> None:
    pool, y = vectors
    settings: dict[str, Any] = {"k": K, "mass": mass, "threads": 1}
    clean = Selector(**settings).fit(np.delete(y, PLANTED, 0), pool).select().rows
    noisy = Selector(**settings).fit(y, pool).select().rows
    robust = Selector(**settings, robust=0.1).fit(y, pool)
    assert robust.ignored.tolist() == PLANTED.tolist()
    kept = np.isin(robust.select().rows, clean).mean()
    assert kept > 0.95
    assert kept >= np.isin(noisy, clean).mean()
    assert robust.potentials_[1].shape == (len(y),)
    assert robust.evidence.converged
    assert np.isin(robust.select().nearest, PLANTED).sum() == 0


def test_noise_moves_a_choice_that_is_not_robust(vectors: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    pool, y = vectors
    clean = Selector(k=K, mass=1, threads=1).fit(np.delete(y, PLANTED, 0), pool).select().rows
    noisy = Selector(k=K, mass=1, threads=1).fit(y, pool).select().rows
    assert np.isin(noisy, clean).mean() < 0.92


def test_what_is_left_counts_as_before_and_each_task_keeps_its_sum(
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    pool, y = vectors
    b = np.random.default_rng(1).uniform(1, 2, len(y))
    target = Target(y, b / b.sum())
    task_of = (np.arange(len(y)) >= 25).astype(np.intp)
    scale = measure_scale(pool, target, Cost())
    task = Task(Rows.whole([pool], K), target, Cost(), scale, scale.eps(0.3), 0.5)
    found = weigh(task, Weighing(task_of, robust=0.3), CpuBackend(1))
    left = np.delete(np.arange(len(y)), found.ignored)
    after = found.task.target.b
    assert np.all(after[found.ignored] == 0)
    assert np.allclose(np.bincount(task_of, after), np.bincount(task_of, target.b))
    for code in (0, 1):
        own = left[task_of[left] == code]
        assert np.ptp(after[own] / target.b[own]) < 1e-12
        gone = found.ignored[task_of[found.ignored] == code]
        assert target.b[gone].sum() <= 0.3 * target.b[task_of == code].sum() + 1e-12
        assert len(gone) > 0


# ---- the columns and their dual


def test_trimmed_columns_solve_their_own_problem() -> None:
    """Against a fine grid: the least <q, g> + eta H(q) over 0 <= q <= b / (1 - share), sum q = 1."""
    b, g, eta = np.array([0.5, 0.5]), np.array([0.3, -0.1]), 0.2
    found = Trimmed(0.25, np.zeros(2, np.intp), eta).at(b, g)
    most = b / 0.75
    q = np.linspace(1 - most[1], most[0], 200_001)[1:-1]
    z = np.stack([q / most[0], (1 - q) / most[1]])
    entropy = most @ (z * np.log(z) + (1 - z) * np.log(1 - z))
    values = q * g[0] + (1 - q) * g[1] + eta * entropy
    assert found.value == pytest.approx(values.min(), abs=1e-9)
    assert found.held[0] == pytest.approx(q[values.argmin()], abs=1e-5)


@pytest.mark.parametrize("share", [0.05, 0.4])
def test_value_held_and_slope_belong_together(share: float) -> None:
    rng = np.random.default_rng(2)
    b, g, of = rng.dirichlet(np.ones(9)), rng.normal(size=9), np.repeat([0, 1, 0], 3)
    columns = Trimmed(share, of, 0.3)
    at, step = columns.at(b, g), 1e-5
    assert np.allclose(np.bincount(of, at.held), np.bincount(of, b), atol=1e-12)
    assert np.all((at.held > 0) & (at.held < b / (1 - share)))
    for j in range(9):
        moved = np.eye(9)[j] * step
        up, down = columns.at(b, g + moved), columns.at(b, g - moved)
        assert (up.value - down.value) / (2 * step) == pytest.approx(at.held[j], abs=1e-8)
        answer = (np.diag(at.slope) - columns.together(at.slope))[j]
        assert np.allclose((down.held - up.held) / (2 * step), answer, atol=1e-7)
    assert columns.at(b, g + 0.7).value == pytest.approx(at.value + 0.7 * b.sum())


def test_what_is_let_go_is_what_linear_programming_lets_go(
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    """For small eps and eta, against POT's exact solver.

    There a row more, of the weight share / (1 - share), that costs nothing to any column takes what is let go.
    """
    ot = pytest.importorskip("ot")
    pool, y = vectors
    x, y, share = pool[:60], y[10:35], 0.2
    a, b, one = np.full(60, 1 / 60), np.full(25, 1 / 25), np.zeros(25, np.intp)
    cost = cost_matrix(x, y, Cost())
    plan = ot.emd(np.append(a, share / (1 - share)), b / (1 - share), np.vstack([cost, np.zeros(25)]))
    g, rows, target = np.zeros(25), Rows.whole([x], 5), Target(y, b)
    duals = [
        Dual(ReferenceBackend(), rows, target, Box.fixed(1 / 60), level, Cost(), trimmed=Trimmed(share, one, level))
        for level in (0.3, 0.1, 0.03, 0.01)
    ]
    for dual in duals:
        g = ascend(dual, g, tolerance=1e-4, max_sweeps=60).point.g
    point = duals[-1].at(g)
    assert point.error < 1e-3
    # Weak duality, for this g: its hard minima, and the mean of g without the share of the highest.
    served = float(np.sort(g)[:20].mean())
    exact = float((plan[:-1] * cost).sum())
    assert served + point.sweep.hard <= exact + 1e-9
    assert served + point.sweep.hard == pytest.approx(exact, abs=0.02)
    # The directions that the pool has nothing of are as far from all of it: only what they hold together is certain.
    # The marginal ones are between, at a temperature; had all been served alike, this would be 0.32.
    found, certain = (_with_noise_as_one(held, 10) for held in (point.columns, plan[:-1].sum(axis=0)))
    assert np.abs(found - certain).sum() < 0.1


def _with_noise_as_one(held: NDArray[np.float64], first: int) -> NDArray[np.float64]:
    """What columns (m,) hold, with the directions of noise, from column ``first`` on, taken together."""
    noise = slice(first, first + NOISE)
    return np.append(np.delete(held, noise), held[noise].sum())


def test_columns_that_hold_next_to_nothing_take_finite_steps(
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    pool, y = vectors
    b = np.append(np.full(len(y) - 1, 1 / (len(y) - 1)), 1e-25)
    for trimmed in (None, Trimmed(0.1, np.zeros(len(y), np.intp), 1e-3)):
        rows, box = Rows.whole([pool], 5), Box.fixed(1 / N)
        dual = Dual(ReferenceBackend(), rows, Target(y, b), box, 0.1, Cost(), trimmed=trimmed)
        point = dual.at(np.linspace(0, 3, len(y)))
        assert np.all(np.isfinite(dual.scaling_step(point)))
        assert np.array_equal(point.columns, b) == (trimmed is None)


# ---- what cannot be asked


def test_a_share_of_less_than_one_example_is_refused(vectors: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    pool, y = vectors
    with pytest.raises(gapsel.UsageError, match=r"robust is 0.01, and that is less than one example, which is 0.02 of"):
        Selector(k=K, robust=0.01).fit(y, pool)


def test_a_small_task_beside_a_large_one_may_have_none(
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    pool, y = vectors
    target = Target(y, np.full(len(y), 1 / len(y)))
    scale = measure_scale(pool, target, Cost())
    task = Task(Rows.whole([pool], K), target, Cost(), scale, scale.eps(0.3), 0.5)
    task_of = (np.arange(len(y)) >= 47).astype(np.intp)
    gone = ignored(task, 0.12, task_of, CpuBackend(1))
    assert np.isin(PLANTED, gone).all()
    assert (gone >= 47).sum() == 0


# ---- a run over files


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, vectors: tuple[NDArray[np.float32], NDArray[np.float32]]) -> Path:
    home = tmp_path_factory.mktemp("robust")
    for name, part in zip(("pool", "target"), vectors, strict=True):
        np.save(home / f"{name}.npy", part)
        records = [{"id": f"{name}-{row}", "text": f"text {row} of {name}"} for row in range(len(part))]
        (home / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    given = [f"--{side}{kind}={home / side}{end}" for side in ("pool", "target") for kind, end in
             (("", ".jsonl"), ("-vectors", ".npy"))]  # fmt: skip
    more = ["-k", str(K), "--robust=0.1", "--methods", "roundrobin", "--threads=1"]
    assert main(["run", *given, *more, "-o", str(home / "run"), "--quiet"]) == 0
    return home


def test_people_and_machines_are_told_who_is_ignored(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [f"target-{row}" for row in PLANTED]
    found = json.loads((home / "run" / "findings.json").read_text())
    assert [one["id"] for one in found["ignored"]] == ids
    assert found["ignored"][0]["text"] == f"text {PLANTED[0]} of target"
    record = json.loads((home / "run" / "run.json").read_text())
    assert record["steps"]["fit"]["ignored"] == {"rows": PLANTED.tolist(), "ids": ids}
    capsys.readouterr()
    assert main(["report", "-o", str(home / "run"), "--quiet"]) == 0
    assert ", ".join(ids) in capsys.readouterr().out
    assert f"text {PLANTED[0]} of target" in (home / "run" / "report.html").read_text()


def test_another_share_is_another_fit(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["fit", "-o", str(home / "run"), "--quiet", "--robust", "0"]) == 0
    assert "ignored" not in capsys.readouterr().out
    assert main(["fit", "-o", str(home / "run"), "--quiet", "--robust", "0.04", "--mass", "0"]) == 0
    assert "2 examples are ignored" in capsys.readouterr().out


def test_tasks_are_balanced_after_their_noise_is_gone(
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    """A task without what nothing serves, beside a clean one: the same shares, and no noise in either."""
    pool, y = vectors
    other = pool[np.argsort(-pool[:, 1])[:20]] + np.float32(0.02)
    labels = ["noisy"] * len(y) + ["other"] * 20
    selector = Selector(k=K, mass=0.5, robust=0.1, threads=1).fit(np.concatenate([y, other]), pool, tasks=labels)
    assert np.isin(PLANTED, selector.ignored).all()
    found = selector.balance
    assert found is not None
    assert found.level
    assert np.all(found.shares > 0.1)
