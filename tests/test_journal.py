"""What a journal of sweeps answers: the bits that the backend gave, of the same question alone, and of whole files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gapsel.backends.cpu import CpuBackend
from gapsel.cost import measure_scale
from gapsel.pipeline.folder import journal
from gapsel.pipeline.folder.journal import Journal
from gapsel.potentials import Rows, Task, solve
from gapsel.records import OUTPUTS, Box, Cost, Query, Sweep, Target

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

N, M, D = 400, 7, 5
RNG = np.random.default_rng(0)
POOL = tuple(RNG.standard_normal((N // 2, D)).astype(np.float32) for _ in range(2))
TARGET = Target(RNG.standard_normal((M, D)).astype(np.float32), np.full(M, 1 / M))
FIELDS = ("q", "value", "hard", "entropy", "gram", "gram_q", "top")


class Counting(CpuBackend):
    """Counts its sweeps, and can be killed after some."""

    sweeps, most = 0, 10**9

    def sweep(self, shards: Sequence[NDArray[np.floating]], query: Query) -> Sweep:
        self.sweeps += 1
        if self.sweeps > self.most:
            raise KeyboardInterrupt
        return super().sweep(shards, query)


@pytest.fixture(autouse=True)
def _all_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "LONG_SECONDS", 0.0)


def opened(folder: Path, content: str = "pool") -> tuple[Counting, Journal]:
    backend = Counting(1)
    return backend, Journal(backend, folder, lambda: (POOL, content))


def ask(backend: Any, **changes: Any) -> tuple[Sweep, list[NDArray[Any]]]:  # noqa: ANN401
    shards = changes.pop("shards", POOL)
    outputs: dict[str, Any] = {name: np.empty(N, kind) for name, kind in OUTPUTS.items() if changes.pop(name, True)}
    query = Query(TARGET, np.zeros(M), Box.fixed(1 / N), 0.5, Cost(), gram=True, k=9, **outputs)
    return backend.sweep(shards, replace(query, **changes)), list(outputs.values())


def flat(answer: tuple[Sweep, list[NDArray[Any]]]) -> list[Any]:
    sweep, outputs = answer
    fields = [getattr(sweep, name) for name in FIELDS]
    return [*(fields[-1] or ()), *fields[:-1], *outputs]


def same(one: tuple[Sweep, list[NDArray[Any]]], other: tuple[Sweep, list[NDArray[Any]]]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(flat(one), flat(other), strict=True))


@pytest.mark.parametrize("options", [{}, {"gram": False, "k": 0, "f": False, "hard": False, "nearest": False}])
def test_the_same_question_is_answered_by_the_same_bits_and_no_sweep(tmp_path: Path, options: dict[str, Any]) -> None:
    plain = ask(CpuBackend(1), **options)
    first, kept = opened(tmp_path)
    assert same(ask(kept, **options), plain)
    second, again = opened(tmp_path)
    assert same(ask(again, **options), plain)
    assert (first.sweeps, second.sweeps) == (1, 0)


OTHERS: dict[str, dict[str, Any]] = {
    "g": {"g": np.eye(1, M)[0]},
    "target": {"target": replace(TARGET, y=TARGET.y + np.float32(1))},
    "weights": {"target": replace(TARGET, b=np.arange(1.0, M + 1) / 28)},
    "box": {"box": Box(0.0, 2 / N, 0.1)},
    "box of rows": {"box": Box.fixed(np.full(N, 1 / N))},
    "eta": {"box": Box(1 / N, 1 / N, 2.0)},
    "price": {"box": Box(1 / N, 1 / N, 1.0, 0.5)},
    "eps": {"eps": 0.4},
    "cost": {"cost": Cost("euclidean")},
    "rough": {"rough": True},
    "gram": {"gram": False},
    "k": {"k": 8},
    "outputs": {"hard": False},
    "rows": {"shards": (POOL[0], POOL[1][::-1].copy())},
}


@pytest.mark.parametrize("change", OTHERS)
def test_another_question_is_swept(tmp_path: Path, change: str) -> None:
    backend, kept = opened(tmp_path)
    ask(kept)
    plain = ask(CpuBackend(1), **OTHERS[change])
    assert same(ask(kept, **OTHERS[change]), plain)
    assert backend.sweeps == 2


def test_another_pool_and_another_machine_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(opened(tmp_path)[1])
    backend, kept = opened(tmp_path, "another pool")
    ask(kept)
    assert backend.sweeps == 1
    monkeypatch.setattr(Counting, "identity", "another machine")
    backend, kept = opened(tmp_path)
    ask(kept)
    assert backend.sweeps == 1


def test_short_sweeps_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "LONG_SECONDS", 3600.0)
    ask(opened(tmp_path / "none")[1])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "none of ours"])
def test_a_damaged_answer_is_made_again(tmp_path: Path, harm: str) -> None:
    plain = ask(opened(tmp_path)[1])
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes({"cut": bytes(data[:-300]), "flipped": bytes(data), "empty": b"", "none of ours": b"text"}[harm])
    backend, kept = opened(tmp_path)
    assert same(ask(kept), plain)
    assert backend.sweeps == 1
    assert same(ask(opened(tmp_path)[1]), plain)


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_BYTES", 10_000)
    _, kept = opened(tmp_path)
    for at in range(20):
        ask(kept, g=np.full(M, float(at)), gram=False)
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 10_000 + journal._BYTES_A_ROW * N
    assert len(list(tmp_path.iterdir())) > 1


def test_where_nothing_can_be_kept_the_sweep_is_answered_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.warns(RuntimeWarning, match="will not go on from this sweep"):
        answer = ask(opened(tmp_path / "file")[1])
    assert same(answer, ask(CpuBackend(1)))


@pytest.mark.parametrize("mass", [0.0, 0.5, 0.9])
def test_a_solver_killed_at_any_sweep_goes_on_to_the_same_bits(tmp_path: Path, mass: float) -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((6000, D)).astype(np.float32)
    cost, target = Cost(), TARGET
    rows = Rows.whole([x], 60)
    task = Task(rows, target, cost, measure_scale(x, target, cost), 0.3, mass, 1e-4)
    counting = Counting(1)
    expected = solve(task, counting)
    assert counting.sweeps > 4
    killed, found = 0, None
    while found is None:
        backend = Counting(1)
        backend.most = 1
        try:
            found = solve(task, Journal(backend, tmp_path, lambda: (rows.shards, "pool")))
        except KeyboardInterrupt:
            killed += 1
    # A question that the solver asks twice is swept once.
    assert 4 <= killed < counting.sweeps
    assert np.array_equal(found.f, expected.f)
    assert np.array_equal(found.potentials.g, expected.potentials.g)
