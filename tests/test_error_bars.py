"""How steady a choice is: what halves of the target and of the pool choose."""

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
from gapsel.potentials import Rows, Task, halves
from gapsel.records import Cost, Target

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

D, K = 12, 60


def task_of(spread: float, m: int, n: int = 6000) -> Task:
    """A pool around many directions; a target around one of them, more or less closely."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, D)).astype(np.float32)
    y = (3 * np.eye(1, D) + spread * rng.standard_normal((m, D))).astype(np.float32)
    target, rows = Target(y, np.full(m, 1 / m)), Rows.whole([x], K)
    scale = measure_scale(x[:2048], target, Cost())
    return Task(rows, target, Cost(), scale, scale.eps(0.5), 0.5)


def agreement(task: Task, side: int) -> float:
    pairs = [found[side] for found in halves(task, CpuBackend(2), 2)]
    for one, other in pairs:
        assert len(set(one.tolist())) == len(set(other.tolist())) == K
    return float(np.mean([np.isin(one, other).mean() for one, other in pairs]))


def test_halves_of_a_clear_target_agree_more_than_those_of_a_scattered_one() -> None:
    clear, scattered = agreement(task_of(0.1, 40), 0), agreement(task_of(2.0, 40), 0)
    assert clear > 0.85
    assert scattered < 0.1


def test_halves_of_a_large_pool_agree_though_they_share_no_row_of_the_base() -> None:
    assert agreement(task_of(1.0, 40), 1) > 0.9


def test_the_splits_follow_the_seed() -> None:
    def first(task: Task) -> NDArray[np.int64]:
        return next(halves(task, CpuBackend(2), 2))[0][0]

    task = task_of(3.0, 40, n=1500)
    assert np.array_equal(first(task), first(task))
    assert not np.array_equal(first(task), first(replace(task, seed=1)))


def test_selector_tells_it_too() -> None:
    task = task_of(0.1, 40)
    selector = gapsel.Selector(k=K).fit(task.target.y, task.rows.shards[0])
    bars = selector.error_bars(selector.select())
    assert bars.steady
    assert bars.target.agree > 0.5
    assert np.mean(bars.inclusion) == pytest.approx(bars.target.keeps)


def test_error_bars_that_were_tampered_with_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = task_of(0.2, 12, n=500)
    np.save(tmp_path / "pool.npy", task.rows.shards[0])
    np.save(tmp_path / "target.npy", task.target.y)
    given: dict[str, Any] = {"pool_vectors": tmp_path / "pool.npy", "target_vectors": tmp_path / "target.npy", "k": 20}
    gapsel.run(tmp_path / "run", **given, error_bars=True)
    (tmp_path / "run" / "error_bars.json").write_text('{"k": 20, "target": 1}')
    assert main(["report", "-o", str(tmp_path / "run"), "--quiet", "--methods", "random"]) == 3
    assert "error_bars.json: cannot be read as error bars" in capsys.readouterr().err


def test_too_few_examples_have_no_halves() -> None:
    with pytest.raises(UsageError, match="the target has 3 examples that count: give 4 or more"):
        next(halves(task_of(1.0, 3, n=300), CpuBackend(1), 1))


@pytest.mark.parametrize(("spread", "steady"), [(0.2, True), (3.0, False)])
def test_the_command_says_whether_the_target_is_large_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spread: float, *, steady: bool
) -> None:
    task = task_of(spread, 12, n=2000)
    np.save(tmp_path / "pool.npy", task.rows.shards[0])
    np.save(tmp_path / "target.npy", task.target.y)
    given = [f"--pool-vectors={tmp_path}/pool.npy", f"--target-vectors={tmp_path}/target.npy", "-k", str(K)]
    out = ["-o", str(tmp_path / "run"), "--quiet"]
    assert main(["run", *given, *out, "--eps", "0.3"]) == 0
    capsys.readouterr()
    assert main(["select", *out, "--error-bars"]) == 0
    said = capsys.readouterr().out
    bars: dict[str, Any] = json.loads((tmp_path / "run" / "error_bars.json").read_text())
    assert bars["steady"] is steady
    assert ("too small" in said) is not steady
    assert len(bars["inclusion"]) == K
    assert np.mean(bars["inclusion"]) == pytest.approx(bars["target"]["keeps"])
    assert {round(8 * one) / 8 for one in bars["inclusion"]} == set(bars["inclusion"]), "of two halves of four splits"
