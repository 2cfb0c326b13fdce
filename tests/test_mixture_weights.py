"""Mixtures for targets whose weights are to be found: tasks that close the same share, examples that are ignored."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gapsel import UsageError, domain_weights
from gapsel.backends.cpu import CpuBackend
from gapsel.backends.reference import ReferenceBackend
from gapsel.cli import main
from gapsel.cost import measure_scale
from gapsel.mixture import Domains, Problem, mix, weigh
from gapsel.mixture.dual import MixtureDual
from gapsel.mixture.simplex import Rule
from gapsel.potentials import Rows, Weighing
from gapsel.potentials.trimming import Trimmed
from gapsel.records import Cost, Target
from test_mixture import by_pot, by_scipy, grid, topics

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Domains of 24, 72 and 144 rows; examples of the first two alone.
CODES = np.repeat(np.arange(3, dtype=np.int32), [24, 72, 144])
TASKS = np.repeat([0, 1], [14, 6])


def problem_of(x: NDArray[np.float32], codes: NDArray[np.int32], y: NDArray[np.float32], eps: float) -> Problem:
    given = Target(y, np.full(len(y), 1.0 / len(y)))
    scale = measure_scale(x, given, Cost())
    domains = Domains.of(Rows.whole([x], 10), codes)
    return Problem(domains, given, Cost(), scale, scale.eps(eps), np.ones(domains.u), tolerance=1e-4)


def two_tasks(noise: float, eps: float) -> Problem:
    rng = np.random.default_rng(0)
    return problem_of(topics(rng, CODES.astype(np.int64), noise), CODES, topics(rng, TASKS, noise), eps)


def alone(problem: Problem, code: int) -> Problem:
    """The problem of one task by itself."""
    own = np.equal(TASKS, code)
    return replace(problem, target=Target(problem.target.y[own], np.full(own.sum(), 1.0 / own.sum())))


def test_far_domains_are_shared_out_so_that_each_task_closes_as_much() -> None:
    """Of tight domains a mixture w closes (w_d - natural_d) / (1 - natural_d) of the task that is like domain d."""
    problem = two_tasks(0.05, 0.1)
    weighed = weigh(problem, Weighing(TASKS, level=True), CpuBackend(1))
    solved = mix(weighed.problem, CpuBackend(1))
    # (w - 0.1) / 0.9 = (1 - w - 0.3) / 0.7
    assert solved.weights == pytest.approx([0.4375, 0.5625, 0.0], abs=0.02)
    assert weighed.balance is not None
    assert weighed.balance.level
    assert weighed.balance.shares == pytest.approx([0.375, 0.375], abs=0.03)
    assert solved.converged


def test_shares_are_those_of_the_dense_reference_and_the_certificate_holds() -> None:
    problem, backend = two_tasks(0.4, 0.3), ReferenceBackend()
    weighed = weigh(problem, Weighing(TASKS, level=True), backend)
    solved = mix(weighed.problem, backend)
    natural = problem.domains.natural
    shares = []
    for code in (0, 1):
        own = alone(problem, code)
        best = min(by_scipy(own, w) for w in grid(5))
        before = by_scipy(own, natural)
        shares.append((before - by_scipy(own, solved.weights)) / (before - best))
    assert weighed.balance is not None
    assert shares == pytest.approx(weighed.balance.shares.tolist(), abs=0.02)
    assert abs(shares[0] - shares[1]) <= 0.08 * np.mean(shares)
    certificate = solved.certificate
    distances = np.array([by_pot(weighed.problem, w) for w in grid(4)])
    assert certificate.after - certificate.gap <= distances.min() + 1e-6
    assert certificate.gap >= 0


def test_examples_that_no_domain_serves_are_ignored() -> None:
    rng = np.random.default_rng(2)
    codes = np.arange(1200, dtype=np.int32) % 4
    x = topics(rng, codes.astype(np.int64), 0.2)
    # Noise that is nearest to domain 2, and far from all of it.
    clean = topics(rng, np.repeat([1, 3], [12, 24]), 0.2)
    odd = topics(rng, np.array([9, 12, 13, 15]), 0.1) + 0.5 * np.eye(16, dtype=np.float32)[2]
    found = domain_weights(np.concatenate([odd, clean]), x, codes, robust=0.1, threads=1)
    without = domain_weights(clean, x, codes, threads=1)
    assert found.ignored == ("0", "1", "2", "3")
    assert found.converged
    assert [one.domain for one in found.domains] == [one.domain for one in without.domains]
    assert [one.weight for one in found.domains] == pytest.approx([one.weight for one in without.domains], abs=1e-3)
    blind = {
        one.domain: one.weight for one in domain_weights(np.concatenate([odd, clean]), x, codes, threads=1).domains
    }
    assert blind["2"] > 0.05
    with pytest.raises(UsageError, match="less than one example"):
        domain_weights(clean, x, codes, robust=0.01)


def test_the_dual_with_columns_let_go_has_the_slope_that_it_says() -> None:
    problem, rng = two_tasks(0.4, 0.3), np.random.default_rng(3)
    parts = problem.domains.sample([24, 40, 40], rng)
    rule = Rule(np.full(3, 1 / 3), problem.hi, problem.eps)
    made = MixtureDual.on(
        parts, rule, problem.target, eps=problem.eps, cost=problem.cost, backend=ReferenceBackend()
    )  # fmt: skip
    dual = replace(made, trimmed=Trimmed(0.2, TASKS, problem.eps))
    g, step = 0.1 * rng.standard_normal(len(TASKS)), rng.standard_normal(len(TASKS))
    above, below = (dual.at(g + sign * 1e-5 * step).value for sign in (1, -1))
    assert (above - below) / 2e-5 == pytest.approx(dual.at(g).gradient @ step, rel=1e-6)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rng = np.random.default_rng(4)
    sides = {"pool": CODES.astype(np.int64), "sea": np.zeros(8, int), "law": np.array([1] * 10 + [7])}
    for name, topic in sides.items():
        np.save(tmp_path / f"{name}.npy", topics(rng, topic, 0.1))
    (tmp_path / "pool.jsonl").write_text(
        "".join(json.dumps({"text": f"t{i}", "d": int(c)}) + "\n" for i, c in enumerate(CODES))
    )
    return tmp_path


def test_the_command_tells_of_tasks_and_of_who_is_ignored(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"--pool={files}/pool.jsonl", f"--pool-vectors={files}/pool.npy", f"--target-vectors={files}/sea.npy",
             f"--target-vectors={files}/law.npy", "--label-field=d", "-o", str(files / "run"), "--quiet"]  # fmt: skip
    assert main(["mix", *given, "--robust=0.125"]) == 0
    said = capsys.readouterr().out
    found: dict[str, Any] = json.loads((files / "run" / "mixture.json").read_text())
    assert [one["name"] for one in found["tasks"]] == ["sea", "law"]
    assert sum(one["weight"] for one in found["tasks"]) == pytest.approx(1)
    assert found["level"]
    assert len(found["ignored"]) == 2, "one of each task; of the second the one that lies elsewhere"
    assert "18" in found["ignored"]
    assert "closed" in said
    assert "ignored, being far from every domain" in said
    assert main(["mix", "-o", str(files / "run"), "--quiet", "--balance=tasks", "--robust=0"]) == 0
    found = json.loads((files / "run" / "mixture.json").read_text())
    assert [one["closed"] for one in found["tasks"]] == [None, None]
    assert [one["weight"] for one in found["tasks"]] == pytest.approx([0.5, 0.5])
    assert (found["level"], found["ignored"]) == (None, [])
