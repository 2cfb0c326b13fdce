"""How the choice moves with the mass: near what a solution at each mass chooses, for much less of the pool."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gapsel
from gapsel.backends.cpu import CpuBackend
from gapsel.cli import main
from gapsel.cost import measure_scale
from gapsel.errors import UsageError
from gapsel.pipeline.steps.masses import MASSES
from gapsel.potentials import Rows, Task, mass_path, solve
from gapsel.records import Cost, Target

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from gapsel.records import Stage

N, M, D, K = 20_000, 60, 16, 200


def topics(rng: np.random.Generator, rows: int, shares: list[float], centres: NDArray[np.float32]) -> NDArray[Any]:
    x = centres[rng.choice(len(shares), size=rows, p=shares)] + 0.6 * rng.standard_normal((rows, D))
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


@pytest.fixture(scope="module")
def task() -> Task:
    """A pool of many topics, a target of two of them, one rare in the pool."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((6, D)).astype(np.float32)
    x = topics(rng, N, [0.3, 0.02, 0.17, 0.17, 0.17, 0.17], centres)
    target = Target(topics(rng, M, [0.6, 0.4, 0, 0, 0, 0], centres), np.full(M, 1 / M))
    rows = Rows.whole([x], K)
    scale = measure_scale(rows.sample(2048, rng).shards[0], target, Cost())
    return Task(rows, target, Cost(), scale, scale.eps(0.5), 0.5)


@pytest.fixture(scope="module")
def found(task: Task) -> tuple[list[NDArray[np.int64]], list[Stage]]:
    stages: list[Stage] = []
    tasks = [replace(task, mass=mass) for mass in (0.0, 0.25, 0.5, 1.0)]
    return list(mass_path(tasks, CpuBackend(2), stages.append)), stages


def test_each_choice_is_near_that_of_a_solution_at_its_mass(
    task: Task, found: tuple[list[NDArray[np.int64]], list[Stage]]
) -> None:
    backend = CpuBackend(2)
    for mass, chosen in zip((0.0, 0.25, 0.5, 1.0), found[0], strict=True):
        assert len(set(chosen.tolist())) == K
        solved = backend.topk(solve(replace(task, mass=mass), backend).f, K)
        assert np.isin(chosen, solved).mean() > 0.93, mass


def test_the_whole_pool_is_read_once(found: tuple[list[NDArray[np.int64]], list[Stage]]) -> None:
    assert [stage.name for stage in found[1]].count("pool") == 1
    assert max(stage.rows for stage in found[1] if stage.name == "shortlist") < N / 2


def test_a_small_pool_is_its_own_shortlist(task: Task) -> None:
    small = replace(task, rows=Rows.whole([task.rows.shards[0][:300]], 20))
    backend = CpuBackend(2)
    (chosen,) = mass_path([small], backend)
    assert np.isin(chosen, backend.topk(solve(small, backend).f, 20)).mean() > 0.93


def test_selector_gives_rows_for_any_masses(task: Task) -> None:
    selector = gapsel.Selector(k=K, mass=0.5).fit(task.target.y, task.rows.shards[0])
    path = selector.mass_path([1, 0.5])
    assert list(path) == [0.5, 1]
    assert np.isin(path[0.5], selector.select().rows).mean() > 0.93
    with pytest.raises(UsageError, match=r"mass is 1.5"):
        selector.mass_path([1.5])


def test_the_command_tells_and_keeps_it(task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "pool.npy", task.rows.shards[0][:2000])
    np.save(tmp_path / "target.npy", task.target.y)
    given = [f"--pool-vectors={tmp_path}/pool.npy", f"--target-vectors={tmp_path}/target.npy", "-k", "40"]
    out = ["-o", str(tmp_path / "run"), "--quiet"]
    assert main(["run", *given, *out]) == 0
    capsys.readouterr()
    assert main(["select", *out, "--mass-path"]) == 0
    said = capsys.readouterr().out
    kept = json.loads((tmp_path / "run" / "mass_path.json").read_text())
    assert [one["mass"] for one in kept["path"]] == list(MASSES)
    by_mass = {one["mass"]: one for one in kept["path"]}
    assert by_mass[0.5]["overlap"] > 0.9
    # At mass 0 the mixture is the pool itself, at 1 it is the chosen, who then lie nearest to the target.
    assert by_mass[0.0]["mixture"] == kept["pool_distance"]
    assert by_mass[1.0]["mixture"] == by_mass[1.0]["alone"]
    assert by_mass[1.0]["alone"]["upper"] < by_mass[0.0]["alone"]["lower"]
    assert said.count("..") == 2 + 1 + 2 * len(MASSES)
    # The folder keeps the wish, and what is done is not done again; a run is told it from the beginning.
    assert main(["report", *out, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["mass_path"] == kept
    assert told["findings"]["mass_path"] == kept["path"]
    assert "At other masses" in (tmp_path / "run" / "report.html").read_text()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["mass_path"] is True


def test_a_run_solves_it_within_its_quotas(task: Task, tmp_path: Path) -> None:
    shards = np.array_split(task.rows.shards[0][:1500], 3)
    for at, shard in enumerate(shards):
        # The first file has most of what is near the target.
        np.save(tmp_path / f"pool{at}.npy", shard if at else np.concatenate([shard, task.target.y]))
    np.save(tmp_path / "target.npy", task.target.y)
    given: dict[str, Any] = {"pool_vectors": tmp_path / "pool*.npy", "target_vectors": tmp_path / "target.npy"}
    found = gapsel.run(tmp_path / "run", **given, k=60, at_most="file=40%", methods=(), mass_path=True)
    kept = json.loads((tmp_path / "run" / "mass_path.json").read_text())
    by_mass = {one["mass"]: one for one in kept["path"]}
    assert np.bincount(np.searchsorted([500 + M, 1000 + M], found.rows, side="right"))[0] == 24
    assert by_mass[0.5]["overlap"] > 0.95


def test_a_wish_that_is_dropped_leaves_the_choice_alone(task: Task, tmp_path: Path) -> None:
    np.save(tmp_path / "pool.npy", task.rows.shards[0][:1000])
    np.save(tmp_path / "target.npy", task.target.y)
    given: dict[str, Any] = {"pool_vectors": tmp_path / "pool.npy", "target_vectors": tmp_path / "target.npy", "k": 20}
    gapsel.run(tmp_path / "run", **given, mass_path=True, error_bars=True)
    steps = json.loads((tmp_path / "run" / "run.json").read_text())["steps"]
    assert {"mass_path", "error_bars", "report"} <= set(steps)
    gapsel.run(tmp_path / "run", **given, error_bars=True)
    later = json.loads((tmp_path / "run" / "run.json").read_text())["steps"]
    assert {name: later[name] for name in ("select", "error_bars")} == {
        name: steps[name] for name in ("select", "error_bars")
    }
    findings = json.loads((tmp_path / "run" / "findings.json").read_text())
    assert findings["mass_path"] == []
    assert len(findings["error_bars"]["inclusion"]) == 20


def test_a_mass_path_that_was_tampered_with_is_named(
    task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "pool.npy", task.rows.shards[0][:500])
    np.save(tmp_path / "target.npy", task.target.y)
    given: dict[str, Any] = {"pool_vectors": tmp_path / "pool.npy", "target_vectors": tmp_path / "target.npy", "k": 20}
    gapsel.run(tmp_path / "run", **given, mass_path=True)
    (tmp_path / "run" / "mass_path.json").write_text('{"path": [{"mass": 1}]}')
    assert main(["report", "-o", str(tmp_path / "run"), "--quiet", "--methods", "random"]) == 3
    assert "mass_path.json: cannot be read as a mass path" in capsys.readouterr().err
