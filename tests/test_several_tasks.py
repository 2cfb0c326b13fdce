"""Several tasks of one target: each closes as much of what it could by itself, or the share that it is given."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gapsel
from gapsel import Selector
from gapsel.backends.cpu import CpuBackend
from gapsel.backends.reference import ReferenceBackend
from gapsel.cli import main
from gapsel.cost import cost_matrix, measure_scale
from gapsel.pipeline.inputs.targets import Tasks
from gapsel.potentials import Rows, Task, balance, solve, weighted
from gapsel.records import Cost, Target

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from gapsel.records import Stage

N, D, K = 1200, 16, 60
LARGE, SMALL = 80, 8


def around(rng: np.random.Generator, centre: NDArray[Any], rows: int) -> NDArray[np.float32]:
    return np.asarray(centre + 0.12 * rng.standard_normal((rows, D)), np.float32)


@pytest.fixture(scope="module")
def vectors() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A pool of two topics and much else, and a target that has ten times as many examples of the one."""
    rng = np.random.default_rng(0)
    one, other = np.eye(2, D)
    rest = around(rng, np.ones(D) / 4, N - 500)
    pool = np.concatenate([around(rng, one, 250), around(rng, other, 250), rest])
    return pool, np.concatenate([around(rng, one, LARGE), around(rng, other, SMALL)])


LABELS = np.repeat(["large", "small"], [LARGE, SMALL])
TASK_OF = (LABELS == "small").astype(np.intp)


def posed(vectors: tuple[NDArray[np.float32], NDArray[np.float32]], mass: float, k: int = K) -> Task:
    pool, y = vectors
    target, rows = Target(y, np.full(len(y), 1 / len(y))), Rows.whole([pool], k)
    scale = measure_scale(pool, target, Cost())
    return Task(rows, target, Cost(), scale, scale.eps(0.3), mass)


def chosen_of(selector: Selector) -> NDArray[np.int64]:
    """Count what is chosen of the one topic, of the other, and of the rest."""
    return np.bincount(np.minimum(selector.select().rows // 250, 2), minlength=3)


@pytest.mark.parametrize("mass", [0.0, 0.3, 1.0])
def test_a_task_ten_times_smaller_gets_as_much_of_the_choice(
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]], mass: float
) -> None:
    pool, y = vectors
    by = {
        how: Selector(k=K, mass=mass, balance=how, threads=1).fit(y, pool, tasks=LABELS)
        for how in ("gap", "tasks", "examples")
    }
    assert chosen_of(by["examples"])[0] >= 0.85 * K, "the many examples take nearly all"
    assert np.allclose(chosen_of(by["gap"])[:2] / K, 0.5, atol=0.12)
    assert np.allclose(chosen_of(by["tasks"])[:2] / K, 0.5, atol=0.2)
    found = by["gap"].balance
    assert found is not None
    assert found.level
    assert np.allclose(found.shares, found.shares.mean(), rtol=0.0501, atol=2 / K)
    assert by["tasks"].balance is None
    assert by["gap"].evidence.converged


@pytest.mark.parametrize("mass", [0.0, 0.4])
def test_the_shares_are_those_of_the_formula(
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]], mass: float
) -> None:
    """Everything said anew by plain solutions in float64: D_t of the pool, of the mixture, of each task's own."""
    # So many that one of them is worth little.
    task, reference = posed(vectors, mass, k=200), ReferenceBackend()
    found = balance(task, TASK_OF, CpuBackend(1))
    chosen = reference.topk(solve(at(task, found.weights), reference).f, 200)
    for code in (0, 1):
        own = code == TASK_OF
        alone = replace(task, target=Target(task.target.y[own], np.full(own.sum(), 1 / own.sum())))
        best = reference.topk(solve(alone, reference).f, 200)
        share = closed(alone, chosen) / closed(alone, best)
        assert found.shares[code] == pytest.approx(share, abs=0.02)


def at(task: Task, weights: NDArray[np.float64]) -> Task:
    return replace(task, target=weighted(task.target, TASK_OF, weights))


def closed(task: Task, rows: NDArray[np.int64]) -> float:
    """Return what a choice (k,) closes of the distance to one task; at mass 0 the rate at which it begins to."""
    plain = replace(task, mass=0.0, tolerance=1e-6)
    before = solve(plain, ReferenceBackend())
    if task.mass == 0:
        return float(before.f.mean() - before.f[rows].mean())
    after = solve(replace(plain, rows=task.rows.mixed(rows, task.mass)), ReferenceBackend())
    return before.potentials.evidence.dual_value - after.potentials.evidence.dual_value


def test_weights_of_one_task_for_another_keep_what_is_within_it() -> None:
    target = Target(np.zeros((4, 2), np.float32), np.array([0.1, 0.3, 0.4, 0.2]))
    found = weighted(target, np.array([0, 0, 1, 1]), np.array([0.8, 0.2]))
    assert np.allclose(found.b, [0.2, 0.6, 0.2 * 2 / 3, 0.2 / 3])


def test_a_task_that_the_pool_has_nothing_for_is_not_waited_for() -> None:
    """All rows cost as much to the examples of one task, so that no choice is better for it than another."""
    rng = np.random.default_rng(2)
    pool = around(rng, np.eye(1, D)[0], 300)
    pool[:, -1] = 0
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    apart = np.zeros((3, D), np.float32)
    apart[:, -1] = 1
    y = np.concatenate([pool[:5], apart])
    found = Selector(k=20, mass=0.5, threads=1).fit(y, pool, tasks=[0] * 5 + [1] * 3).balance
    assert found is not None
    assert np.isfinite(found.shares[0])
    assert np.isnan(found.shares[1])
    assert np.allclose(found.weights, 0.5)


def test_the_list_is_a_part_of_a_larger_pool_and_the_weights_hardly_differ(
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    rng = np.random.default_rng(3)
    pool, y = vectors
    many = np.concatenate([pool, around(rng, np.ones(D) / 4, 12_000)])
    task = replace(posed((many, y), 0.3), rows=Rows.whole([many], K))
    stages: list[Stage] = []
    found = balance(task, TASK_OF, CpuBackend(1), stages.append)
    assert [stage.name for stage in stages].count("pool") == 2, "once for each task"
    assert max(stage.rows for stage in stages if stage.name == "shortlist") < len(many) / 2
    assert found.level
    assert found.reads < 40
    chosen = CpuBackend(1).topk(solve(at(task, found.weights), CpuBackend(1)).f, K)
    assert np.allclose(np.bincount(np.minimum(chosen // 250, 2), minlength=3)[:2] / K, 0.5, atol=0.12)


def test_a_part_of_the_pool_is_balanced_like_the_whole(
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    pool, y = vectors
    selector = Selector(k="5%", mass=1, fit_rows=700, threads=1).fit(y, pool, tasks=LABELS)
    assert selector.balance is not None
    assert selector.evidence.rows == 700
    assert np.allclose(chosen_of(selector)[:2] / K, 0.5, atol=0.15)


def test_another_k_is_balanced_anew(vectors: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    pool, y = vectors
    selector = Selector(k=K, mass=1, threads=1).fit(y, pool, tasks=LABELS)
    fresh = Selector(k=30, mass=1, threads=1).fit(y, pool, tasks=LABELS)
    assert np.isin(selector.select(30).rows, fresh.select().rows).mean() > 0.9


@pytest.mark.parametrize(
    ("tasks", "weights", "message"),
    [
        ([0] * 87 + [1], None, r"the task '1' has 1 example: give it 2 or more"),
        (LABELS, [1.0] * LARGE + [0.0] * SMALL, r"all examples of the task 'small' have weight 0"),
        ([0, 1], None, r"tasks are int64 of shape \(2,\): give 88 labels"),
        ([0.5] * 88, None, r"tasks are float64 .*: give 88 labels, whole numbers or texts"),
    ],
)
def test_tasks_that_cannot_be_balanced_are_refused(
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]], tasks: ArrayLike, weights: ArrayLike | None, message: str
) -> None:
    with pytest.raises(gapsel.DataError, match=message):
        Selector(k=K).fit(vectors[1], vectors[0], tasks=tasks, target_weights=weights)


def test_one_task_alone_may_have_one_example(vectors: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    Tasks.by_label(np.array([7])).check(None)
    one = Selector(k=5, threads=1).fit(vectors[1][:1], vectors[0], tasks=[7])
    assert one.balance is None


# ---- runs over files


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, vectors: tuple[NDArray[np.float32], NDArray[np.float32]]) -> Path:
    """The vectors, texts beside them, and a run of two tasks, the larger of two files."""
    home = tmp_path_factory.mktemp("tasks")
    pool, y = vectors
    parts = {"pool": pool, "a": y[:50], "b": y[50:LARGE], "small": y[LARGE:]}
    for name, part in parts.items():
        np.save(home / f"{name}.npy", part)
        topic = "sea" if name in {"a", "b"} else "oven"
        records = [{"text": f"{topic} {row}", "topic": topic} for row in range(len(part))]
        (home / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main([*command(home), "--label-field=topic", "-o", str(home / "run")]) == 0
    return home


def command(home: Path) -> list[str]:
    given = []
    for kind, end in (("", ".jsonl"), ("-vectors", ".npy")):
        files = {name: str(home / f"{name}{end}") for name in ("pool", "a", "b", "small")}
        given += [f"--pool{kind}", files["pool"], f"--target{kind}", files["a"], files["b"]]
        given += [f"--target{kind}", files["small"]]
    return ["run", *given, "-k", str(K), "--quiet", "--threads=1", "--methods", "nearest"]


def test_each_target_given_again_is_a_task(home: Path) -> None:
    record = json.loads((home / "run" / "run.json").read_text())
    assert record["settings"]["paths_per_task"] == [2, 1]
    tasks = record["steps"]["fit"]["tasks"]
    assert tasks["names"] == ["a", "small"]
    assert tasks["examples"] == [LARGE, SMALL]
    assert tasks["level"]
    assert sum(tasks["weights"]) == pytest.approx(1)


def test_the_findings_measure_each_task_by_itself(home: Path) -> None:
    found = json.loads((home / "run" / "findings.json").read_text())
    nearest, ours = found["methods"]
    chosen = json.loads((home / "run" / "selection.json").read_text())["rows"]
    x = np.load(home / "pool.npy")
    for at, name in enumerate(("a", "small")):
        task, one = found["tasks"][at], ours["tasks"][at]
        assert task["name"] == name
        assert one["mixture"]["upper"] < task["pool_distance"]["lower"], "both tasks come nearer"
        files = [home / "a.npy", home / "b.npy"] if at == 0 else [home / "small.npy"]
        y = np.concatenate([np.load(file) for file in files])
        near = np.argsort(cost_matrix(x, y, Cost()), axis=0)[:10].T
        assert one["coverage"] == pytest.approx(np.isin(near, chosen).any(axis=1).mean())
    assert [one["precision"] for one in ours["tasks"]] == [0.0, 1.0], "all of the pool's labels are the small task's"
    assert len(nearest["tasks"]) == 2


def test_people_are_told_of_each_task(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["report", "-o", str(home / "run"), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "a (80)" in said
    assert "small (8)" in said
    assert main(["compare", "-o", str(home / "run"), "--quiet", "--methods", "nearest"]) == 0
    assert "Of the task small alone" in capsys.readouterr().out
    page = (home / "run" / "report.html").read_text()
    assert "Each task by itself" in page


def test_python_the_config_and_the_command_are_one_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = (home / "run" / "selection.json").read_bytes()
    assert main(["run", "--config", str(home / "run" / "run.json"), "-o", str(home / "again"), "--quiet"]) == 0
    assert (home / "again" / "selection.json").read_bytes() == saved
    found = gapsel.run(
        home / "python", k=K, methods=["nearest"], label_field="topic", threads=1,
        pool=home / "pool.jsonl", target=[[home / "a.jsonl", home / "b.jsonl"], [home / "small.jsonl"]],
        pool_vectors=home / "pool.npy", target_vectors=[[home / "a.npy", home / "b.npy"], [home / "small.npy"]],
    )  # fmt: skip
    assert found.rows.tolist() == json.loads(saved)["rows"]
    # Another balance is another fit of the same vectors.
    capsys.readouterr()
    assert main(["fit", "-o", str(home / "python"), "--quiet", "--balance", "examples"]) == 0
    assert "weights of the tasks: a 90.9%, small 9.1%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["a.npy", "--target-vectors", "a.npy"], 3, "is named twice"),
        (["a.npy", "--target-vectors", "one.npy"], 3, "the task 'one' has 1 example: give it 2 or more"),
        (["a.npy", "b.npy", "--paths-per-task", "1", "2"], 2, r"paths_per_task is (1, 2), and the target has 2 paths"),
    ],
)
def test_files_that_are_no_tasks_are_refused_before_the_work(
    home: Path, capsys: pytest.CaptureFixture[str], given: list[str], code: int, message: str
) -> None:
    np.save(home / "one.npy", np.load(home / "a.npy")[:1])
    paths = [str(home / one) if one.endswith(".npy") else one for one in given]
    out = home / "refused"
    assert main(["run", "--pool-vectors", str(home / "pool.npy"), "--target-vectors", *paths, "-o", str(out)]) == code
    assert message in capsys.readouterr().err


def test_a_text_file_of_two_tasks_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [
        "--pool", str(home / "pool.jsonl"), "--pool-vectors", str(home / "pool.npy"),
        "--target", str(home / "a.jsonl"), "--target", str(home / "a.jsonl"), str(home / "b.jsonl"),
        "--target-vectors", str(home / "a.npy"), "--target-vectors", str(home / "b.npy"),
    ]  # fmt: skip
    assert main(["run", *given, "-o", str(home / "refused"), "--quiet"]) == 2
    assert "a.jsonl: is in two tasks of the target" in capsys.readouterr().err
