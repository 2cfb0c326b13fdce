"""benches/gpu.py rehearsed at small sizes, on an emulated device and the CPU: on a GPU it must run the first time."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cuda_emulator import compiler
from emulated_gpu import emulated_backend

if TYPE_CHECKING:
    from types import ModuleType

pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(compiler() is None and not os.environ.get("CI"), reason="there is no g++")
BENCHES = Path(__file__).parent.parent / "benches"
SIZES = (1500, 12, 6)


@pytest.fixture(scope="module")
def bench() -> Any:  # noqa: ANN401
    sys.path.insert(0, str(BENCHES))
    try:
        return {name: imported(name) for name in ("gpu_data", "gpu_rivals", "gpu")}["gpu"]
    finally:
        sys.path.remove(str(BENCHES))


def imported(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_the_machine(bench: Any) -> None:  # noqa: ANN401
    found = bench.machine(64, 1 << 16, "cpu")
    assert all(value > 0 for value in found.values())


def test_sweeps(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    monkeypatch.setattr(bench, "ROUNDS", 1)
    found = bench.sweep_times(emulated_backend(), SIZES, 100.0)
    assert found["portable rough"]["error_of_f"] > found["portable exact"]["error_of_f"] >= 0
    assert {"multiply", "strip_32_1", "rows", "accumulate", "all"} <= set(found["portable parts"])
    assert "hopper rough" not in found


def test_streams(bench: Any) -> None:  # noqa: ANN401
    found = bench.stream_times(emulated_backend(), SIZES, 50.0)
    assert found["share_of_copy"] == pytest.approx(found["gbs"] / 50)


def test_solves(bench: Any) -> None:  # noqa: ANN401
    found = bench.solve_times(emulated_backend(), SIZES)
    assert found["converged"]
    assert found["judged_error"] == pytest.approx(found["marginal_error"], abs=1e-4)


def test_rivals(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    rivals = sys.modules["gpu_rivals"]
    measure = rivals.measure

    def here(name: str, sizes: tuple[int, int, int], _limit: float) -> tuple[list[dict[str, Any]], str]:
        return measure(name, sys.modules["gpu_data"].make(*sizes, device="cpu"), "cpu"), ""

    monkeypatch.setattr(bench, "run_rival", here)
    monkeypatch.setattr(rivals, "ENGINES", {"torch, dense": rivals.ENGINES["torch, dense"]})
    monkeypatch.setattr(rivals, "GOALS", (1e-1, 1e-2))
    found = bench.rival_times(emulated_backend(), SIZES)
    assert [one["goal"] for one in found["torch, dense"]["reached"]] == list(rivals.GOALS)
    assert all(one["ratio"] > 0 and one["error"] <= one["goal"] for one in found["torch, dense"]["reached"])


def test_a_rival_that_is_not_there(bench: Any) -> None:  # noqa: ANN401
    reached, why = bench.run_rival("flash-sinkhorn, TF32", (100, 5, 4), 60.0)
    assert reached == []
    assert why
    assert bench.run_rival("torch, dense", (100, 5, 4), 1.0) == ([], "there was no time left for it")


def test_a_part_that_fails_is_said_and_the_next_goes_on(bench: Any, tmp_path: Path) -> None:  # noqa: ANN401
    def fails() -> None:
        msg = "no such thing"
        raise ValueError(msg)

    record = bench.header(emulated_backend())
    bench.run(record, {"first": fails, "second": lambda: {"value": 3}}, tmp_path / "record" / "r.json")
    written = json.loads((tmp_path / "record" / "r.json").read_text(encoding="utf-8"))
    assert written["parts"] == {"first": {"failed": "ValueError: no such thing"}, "second": {"value": 3}}
    assert written["device"] == "emulated"


def test_the_plan_names_every_part(bench: Any) -> None:  # noqa: ANN401
    steps = bench.plan(emulated_backend(), {"parts": {}})
    assert list(steps) == ["machine", "doctor", "sweep", "stream", "solve", "embed", "rivals"]
