"""The cost model by hand, what follows from it, and its counts against those of real runs."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench_scripts import imported
from gapsel import distance, pipeline
from gapsel.backends.cpu import CpuBackend
from gapsel.cost import measure_scale
from gapsel.pipeline.steps import order
from gapsel.plan import machines
from gapsel.plan.cost import (
    KINDS,
    STEPS,
    Machine,
    Problem,
    disk,
    memory,
    network_bytes,
    row_bytes,
    seconds,
    spans,
    work,
)
from gapsel.plan.looks import Looks, full_looks, gram_rows, looks
from gapsel.records import Cost, Query, Sweep, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from gapsel.config import Settings

PROBLEM = Problem(n=1_000_000, m=1000, d=384, k=10_000, fit_rows=10**8, texts=False, embeds=False, stored=False)
RATES = dict.fromkeys(KINDS, 1e9)
FACTOR = 1.5


# ---- by hand


def test_the_flop_of_looks() -> None:
    ten = Looks("fit", 10, rough=1, exact=2, exact_gram=1)
    assert ten.sweep_flop(3, 4) == (3 * 2 * 10 * 3 * 36, 2 * 10 * 3 * 36)
    assert ten.gram_flop(3, 4) == 10 * 9


@pytest.mark.parametrize(
    ("rows", "m", "kept"),
    [(100, 10, 100), (32_000, 1000, 32_000), (64_000, 1000, 32_000), (416_000, 1000, 173_056), (10**6, 100, 10**6)],
)
def test_a_gram_keeps_32_rows_a_column_or_as_many_as_are_cheap(rows: int, m: int, kept: int) -> None:
    assert gram_rows(rows, m, 384) == pytest.approx(kept, rel=1e-9)


def test_mass_0_and_above_by_hand() -> None:
    at_0 = [one for one in looks(replace(PROBLEM, mass=0.0)) if one.step == "fit"]
    assert [one.rows for one in at_0] == [4000, 16_000, 64_000, 10**6]
    full = full_looks(PROBLEM)
    assert (full["fit"], full["score"], full["select"]) == (4, 2, 1)
    # 16 times mass and k, and 8 targets' worth that stand for the rest.
    assert any(one.rows == 80_000 + 8000 + 1 for one in looks(PROBLEM))


def test_without_a_gram_there_is_nothing_to_solve() -> None:
    amounts = work(replace(PROBLEM, m=20_000))["fit"]
    assert amounts["gram"] == amounts["solve"] == 0
    assert amounts["exact"] > 0


def test_seconds_are_amounts_by_rates() -> None:
    one = seconds(PROBLEM, Machine(name="one", rates=RATES))
    assert sum(one.values()) == pytest.approx(sum(sum(step.values()) for step in work(PROBLEM).values()) / 1e9)
    eight = seconds(PROBLEM, Machine(name="eight", rates=RATES, devices=8))
    parts = work(PROBLEM)["score"]
    assert eight["score"] == pytest.approx((parts["exact"] / 8 + parts["table"]) / 1e9)


def test_a_rate_that_is_not_known_makes_the_time_unknown() -> None:
    texts = replace(PROBLEM, texts=True, embeds=True, tokens=1e8)
    found = seconds(texts, Machine(name="one", rates={**RATES, "token": 0.0}))
    assert [step for step in STEPS if math.isnan(found[step])] == ["embed"]


def test_a_pool_that_does_not_fit_is_streamed() -> None:
    rates = dict.fromkeys(KINDS, 1e30)
    size = 2.0 * 384 * PROBLEM.n
    fits = Machine(name="gpu", rates=rates, device_memory=size, stream=1e9)
    assert seconds(PROBLEM, fits)["score"] == pytest.approx(0)
    small = replace(fits, device_memory=size / 2)
    assert seconds(PROBLEM, small)["score"] == pytest.approx(2 * size / 1e9)
    from_disk = replace(small, host_memory=size / 2, disk=1e8)
    assert seconds(PROBLEM, from_disk)["score"] == pytest.approx(2 * size / 1e8)
    two = replace(from_disk, nodes=2, devices=2, host_memory=size / 4, device_memory=size / 8)
    assert seconds(PROBLEM, two)["score"] == pytest.approx(size / 1e8)


def test_what_crosses_the_network() -> None:
    assert network_bytes(100, 1000, 4, gram=False) == (2 * 4 + 1) * 8 * 1000
    assert network_bytes(10**8, 1000, 4, gram=False) == (2 * 4 + 256) * 8 * 1000
    assert network_bytes(10**8, 1000, 4, gram=True) == 8 * (2 * 4 * 1000 + 64 * (1000 + 1000**2 + 1000))
    alone, joined = (Machine(name="x", rates=RATES, network=rate) for rate in (0.0, 1e9))
    more = seconds(PROBLEM, joined)["score"] - seconds(PROBLEM, alone)["score"]
    assert more == pytest.approx(2 * ((2 + spans(10**6, gram=False)) * 8 * 1000 + 4 * 10**6) / 1e9)


@pytest.mark.parametrize("gram", [False, True])
@pytest.mark.parametrize("n", [1, 4096, 4097, 100_000, 10**6, 3 * 10**7])
def test_spans_are_those_of_the_core(n: int, gram: bool) -> None:  # noqa: FBT001
    target = Target(np.eye(300, 8, dtype=np.float32), np.full(300, 1 / 300))
    rows = CpuBackend().span_rows(target, n, gram=gram)
    # Rows of a span are rounded up to whole groups of blocks, which depend on the instruction set.
    assert abs(spans(n, gram=gram) - math.ceil(n / rows)) <= max(1, 0.15 * spans(n, gram=gram))


def test_disk_and_memory_by_hand() -> None:
    texts = replace(
        PROBLEM, texts=True, embeds=True, stored=True, row_bytes=500, table_bytes=40, score_bytes=60, rejected=10
    )
    found = disk(texts)
    assert found.vectors == 2 * 384 * 1_001_000
    assert found.scores == 60e6
    assert found.selected == pytest.approx(10_000 * 671)
    assert disk(PROBLEM).vectors == 0
    held = memory(PROBLEM, 1e8)
    assert held.total == held.program + held.rows + held.space
    assert held.rows == pytest.approx(memory(replace(PROBLEM, n=2 * PROBLEM.n), 1e8).rows / 2)
    assert memory(replace(PROBLEM, m=3000), 1e8).space - held.space > 8 * 8e6


# ---- what must follow


def test_more_of_anything_takes_no_less() -> None:
    machine = machines.gpus(8, 4, RATES, 2e7)
    for more in ({"n": 10**7}, {"m": 2000}, {"d": 768}, {"k": 20_000}):
        larger = seconds(replace(PROBLEM, **more), machine)  # type: ignore[arg-type]
        assert all(larger[step] >= value for step, value in seconds(PROBLEM, machine).items())


def test_gpus_are_stated_not_measured() -> None:
    machine = machines.gpus(8, 4, RATES, 2e7)
    assert (machine.devices, machine.nodes) == (32, 4)
    assert {"exact", "rough", "gram", "token", "loss", "solve"} == machine.stated
    assert machine.rates["token"] == pytest.approx(machines.ENCODER_SHARE * machines.GPU_FLOP / 2e7)


def test_the_flop_of_a_token_of_minilm() -> None:
    assert machines.token_flop(6, 384, 1536, 0) == 2 * 6 * (4 * 384**2 + 2 * 384 * 1536)


# ---- against real runs: counts, which no other program can change


def drawn(folder: Path, **sizes: int) -> dict[str, Any]:
    """Write vectors of so many rows of each name, those of the pool of twelve topics and all others of four."""
    d, rng = 96, np.random.default_rng(0)
    centres = rng.standard_normal((12, d)) / d**0.5
    for name, rows in sizes.items():
        x = (
            centres[rng.integers(12 if name == "pool" else 4, size=rows)]
            + 0.7 * rng.standard_normal((rows, d)) / d**0.5
        )
        np.save(folder / f"{name}.npy", x.astype(np.float16 if name == "pool" else np.float32))
    return {f"{name}_vectors": folder / f"{name}.npy" for name in sizes}


def assert_counts(folder: Path, settings: Settings, n: int, m: int, **more: Any) -> None:  # noqa: ANN401 - of a problem
    """Do a run, and compare the looks of each step with those of the model."""
    x, y = (np.load(folder / f"{name}.npy").astype(np.float32) for name in ("pool", "target"))
    scale = measure_scale(x[:2048], Target(y, np.full(len(y), 1 / len(y))), Cost())
    problem = Problem(
        n=n, m=m, d=96, k=n // 100, fit_rows=10**8, mass=settings.mass,
        eps=scale.eps(settings.relative_eps) / scale.mean, row_std=scale.row_std / scale.mean, texts=False,
        embeds=False, stored=False, **more,
    )  # fmt: skip
    said, counts = work(problem), imported("scale_counts").counted(folder / "out", settings)
    for step in ("fit", "score", "select", "report"):
        done = counts[step].flop(m, 96)
        real, model = sum(done.values()), sum(said[step][kind] for kind in ("exact", "rough", "gram"))
        assert_close(step, model, real, 2 * n * m * (96 + 32))


def test_a_row_crosses_the_network_as_in_a_real_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One output of four bytes in each look at the whole pool, and a box of two numbers a row in the certificate's."""
    n, step, looked = 6000, [""], set()
    sweep = CpuBackend.sweep

    def note(self: CpuBackend, shards: Sequence[NDArray[Any]], query: Query) -> Sweep:
        if sum(map(len, shards)) == n:
            ends = [end for end in (query.box.lo, query.box.hi) if isinstance(end, np.ndarray)]
            back, sent = sum(out.nbytes for out in query.outputs.values()), sum(end.nbytes for end in ends)
            looked.add((step[0], back + sent))
        return sweep(self, shards, query)

    def enter(name: str, door: Callable[[Any], dict[str, Any]], run: object) -> dict[str, Any]:
        step[0] = name
        return door(run)

    # Distances of a large pool are those of a part of it.
    monkeypatch.setattr(distance, "ENOUGH", 3000)
    monkeypatch.setattr(CpuBackend, "sweep", note)
    for name, door in order.DOORS.items():
        monkeypatch.setitem(order.DOORS, name, partial(enter, name, door))
    pipeline.run(tmp_path / "out", **drawn(tmp_path, pool=n, target=50), k=60, tolerance=0.05)
    problem = replace(PROBLEM, n=n)
    assert looked == {(name, row_bytes(problem, name)) for name in ("fit", "score", "select", "report")}


@pytest.mark.parametrize("mass", [0.0, 0.5, 1.0])
def test_counts_are_those_of_a_real_run(tmp_path: Path, mass: float) -> None:
    given = drawn(tmp_path, pool=12_000, target=100)
    assert_counts(tmp_path, pipeline.make_settings({**given, "mass": mass}), 12_000, 100)


@pytest.mark.parametrize("mass", [0.0, 0.5])
def test_counts_with_a_base_and_examples_to_avoid(tmp_path: Path, mass: float) -> None:
    given = drawn(tmp_path, pool=6000, target=60, base=5000, avoid=40)
    settings = pipeline.make_settings({**given, "mass": mass})
    assert_counts(tmp_path, settings, 6000, 60, base=5000, avoided=40)


@pytest.mark.parametrize("mass", [0.5, 0.9])
def test_counts_under_quotas(tmp_path: Path, mass: float) -> None:
    """Of three files, the first with what is nearest to the target."""
    given = drawn(tmp_path, pool=6000, target=60)
    x, y = (np.load(tmp_path / f"{name}.npy").astype(np.float32) for name in ("pool", "target"))
    files = [tmp_path / f"part{at}.npy" for at in range(3)]
    for file, rows in zip(files, np.array_split(np.argsort(-x @ y.mean(axis=0)), 3), strict=True):
        np.save(file, x[rows].astype(np.float16))
    settings = pipeline.make_settings({**given, "pool_vectors": files, "mass": mass, "at_most": "file=40%"})
    assert_counts(tmp_path, settings, 6000, 60, capped=True)


def test_counts_where_the_targets_weights_are_found(tmp_path: Path) -> None:
    given = drawn(tmp_path, pool=6000, target=50, other=20)
    tasks = [[given["target_vectors"]], [given.pop("other_vectors")]]
    settings = pipeline.make_settings({**given, "target_vectors": tasks, "robust": 0.05})
    assert_counts(tmp_path, settings, 6000, 70, tasks=2, balanced=True, robust=True)


def assert_close(step: str, model: float, real: float, look: float) -> None:
    """Within the factor, or less than a twentieth of a look at the pool apart."""
    assert model == pytest.approx(real, abs=0.05 * look) or 1 / FACTOR < model / real < FACTOR, (
        step,
        model / look,
        real / look,
    )


def test_a_fit_on_a_part_looks_at_that_part_and_at_as_many_others() -> None:
    large = replace(PROBLEM, n=10**8, fit_rows=2_000_000)
    of_fit = [one for one in looks(large) if one.step == "fit"]
    assert max(one.rows for one in of_fit) == 2_000_000
    assert of_fit[-1] == Looks("fit", 2_000_000, exact=1)
    assert of_fit[:-1] == [one for one in looks(replace(PROBLEM, n=2_000_000, k=200)) if one.step == "fit"]
