"""benches/gpu.py rehearsed at small sizes, on an emulated device and the CPU: on a GPU it must run the first time."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from bench_scripts import BENCHES, imported
from cuda_emulator import compiler
from emulated_gpu import emulated_backend

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(compiler() is None and not os.environ.get("CI"), reason="there is no g++")
SIZES = (1500, 12, 6)


@pytest.fixture(scope="module")
def benches() -> dict[str, Any]:
    sys.path.insert(0, str(BENCHES))
    try:
        return {name: imported(name) for name in ("gpu_data", "gpu_rivals", "gpu_parts", "gpu")}
    finally:
        sys.path.remove(str(BENCHES))


@pytest.fixture(scope="module")
def bench(benches: dict[str, Any]) -> Any:  # noqa: ANN401
    return benches["gpu"]


@pytest.fixture(scope="module")
def parts(benches: dict[str, Any]) -> Any:  # noqa: ANN401
    return benches["gpu_parts"]


# The parts


def test_the_machine(parts: Any) -> None:  # noqa: ANN401
    found = list(parts.machine(64, 1 << 16, "cpu"))
    assert [list(one) for one in found] == [["gemm_tflops"], ["device_copy_gbs"], ["host_copy_gbs"]]
    assert all(value > 0 for one in found for value in one.values())


def test_sweeps(parts: Any) -> None:  # noqa: ANN401
    found = parts.sweep_times(emulated_backend(), SIZES, 100.0, fused=False)
    assert found["rough"]["error_of_f"] > found["exact"]["error_of_f"] >= 0
    assert found["rough"]["share_of_gemm"] == pytest.approx(found["rough"]["tflops"] / 100)
    assert {"multiply", "strip_32_1", "rows", "accumulate", "all"} <= set(found["milliseconds"])


def test_hopper_is_left_out_elsewhere(parts: Any) -> None:  # noqa: ANN401
    assert list(parts.hopper_times(emulated_backend(), 1.0)) == [{"left_out": "emulated has no such kernel"}]


def test_streams(parts: Any) -> None:  # noqa: ANN401
    found = parts.stream_times(emulated_backend(), SIZES, 50.0)
    assert found["share_of_copy"] == pytest.approx(found["gbs"] / 50)


def test_solves(parts: Any) -> None:  # noqa: ANN401
    found = parts.solve_times(emulated_backend(), SIZES)
    assert found["converged"]
    assert found["judged_error"] == pytest.approx(found["marginal_error"], abs=1e-4)


def test_rivals(parts: Any, benches: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    rivals, data = benches["gpu_rivals"], benches["gpu_data"]

    def here(name: str, sizes: tuple[int, int, int], _limit: float) -> tuple[list[dict[str, Any]], str]:
        return rivals.measure(name, data.make(*sizes, device="cpu"), "cpu"), ""

    monkeypatch.setattr(rivals, "run", here)
    monkeypatch.setattr(rivals, "ENGINES", {"torch, dense": rivals.ENGINES["torch, dense"]})
    monkeypatch.setattr(rivals, "GOALS", (1e-1, 1e-2))
    found = list(parts.rival_times(emulated_backend(), SIZES, time.monotonic() + 60))
    assert [(one["engine"], one["goal"]) for one in found] == [
        (engine, goal) for engine in ("gapsel", "torch, dense") for goal in rivals.GOALS
    ]
    assert all(one["error"] <= 1.1 * one["goal"] for one in found)
    assert all(one["ratio"] > 0 for one in found[2:])


def test_a_rival_that_is_not_there(benches: dict[str, Any]) -> None:
    rivals = benches["gpu_rivals"]
    reached, why = rivals.run("flash-sinkhorn, TF32", (100, 5, 4), 60.0)
    assert reached == []
    assert why
    assert rivals.run("torch, dense", (100, 5, 4), 1.0) == ([], "there was no time left for it")


# The conductor

SCRIPTS = {
    "machine": "print('a library says'); print('{\"found\": {\"gemm_tflops\": 2.0}}')",
    "doctor": "import os; print('{\"found\": 1}', flush=True); print('{\"found\": ', end='', flush=True); os.abort()",
    "portable": "import time; print('{\"found\": 2}', flush=True); time.sleep(60)",
    "hopper": 'print(\'{"failed": "DeviceError: no"}\'); raise SystemExit(1)',
    "solve": "print('{\"found\": 3}')",
}


def test_a_part_that_fails_hangs_or_dies_takes_no_other_with_it(
    bench: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setitem(bench.LIMITS, "portable", 3)
    record, file = bench.header(emulated_backend().devices[0].facts), tmp_path / "record" / "r.json"
    bench.conduct(record, list(SCRIPTS), file, lambda name, _: [sys.executable, "-c", SCRIPTS[name]])
    written = json.loads(file.read_text(encoding="utf-8"))
    assert written["device"] == "emulated"
    assert {name: (part["found"], part.get("failed", "")) for name, part in written["parts"].items()} == {
        "machine": ([{"gemm_tflops": 2.0}], ""),
        "doctor": ([1], "its process ended with -6"),
        "portable": ([2], "stopped after 3 s"),
        "hopper": ([], "DeviceError: no"),
        "solve": ([3], ""),
    }


def test_no_part_begins_after_the_end(bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # noqa: ANN401
    monkeypatch.setattr(bench, "SECONDS", 0.0)
    record: dict[str, Any] = {"parts": {}}
    bench.conduct(record, ["solve"], tmp_path / "r.json", lambda *_: [sys.executable, "-c", "raise SystemExit(3)"])
    assert record["parts"]["solve"]["failed"] == "there was no time left for it"


def test_a_part_says_what_it_finds_and_why_it_ends(
    bench: Any,  # noqa: ANN401
    parts: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """The yardsticks come from the record; a later finding that fails leaves those before it."""
    record = tmp_path / "r.json"
    record.write_text(
        '{"parts": {"machine": {"found": [{"gemm_tflops": 4.0}, {"host_copy_gbs": 5.0}]}}}', encoding="utf-8"
    )

    def part(yardsticks: dict[str, float]) -> Any:  # noqa: ANN401
        yield yardsticks
        raise ValueError(*yardsticks)

    monkeypatch.setattr(parts, "plan", lambda yardsticks, _: {"solve": lambda: part(yardsticks)})
    assert not bench.measure("solve", record, 9.0)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"found": {"gemm_tflops": 4.0, "host_copy_gbs": 5.0}}
    assert lines[1]["failed"].startswith("ValueError: ")


def test_every_part_has_its_limit(bench: Any, parts: Any) -> None:  # noqa: ANN401
    assert list(parts.plan({}, 1.0)) == list(bench.LIMITS)
