"""What a sweep refuses, and in which words: vectors, weights, boxes, settings, outputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gapsel.backends.cpu import CpuBackend
from gapsel.errors import DataError, GapselError, UsageError
from gapsel.records import Box, Cost, Target
from sweeps import ISAS, Problem, problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapsel.backends import Backend


def planted(row: int, value: float) -> Callable[[Problem], None]:
    def plant(p: Problem) -> None:
        p.x[row] = value

    return plant


def with_target(**changes: Any) -> Callable[[Problem], None]:  # noqa: ANN401
    def change(p: Problem) -> None:
        p.target = Target(changes.get("y", p.target.y), changes.get("b", p.target.b))
        p.g = changes.get("g", p.g)

    return change


def with_box(*box: Any) -> Callable[[Problem], None]:  # noqa: ANN401
    def change(p: Problem) -> None:
        p.box = Box(*box)

    return change


def with_eps(eps: float) -> Callable[[Problem], None]:
    def change(p: Problem) -> None:
        p.eps = eps

    return change


def with_pool(x: NDArray[Any]) -> Callable[[Problem], None]:
    def change(p: Problem) -> None:
        p.x = x

    return change


N, M, D = 300, 20, 9
REFUSALS: list[tuple[str, Callable[[Problem], None], type[GapselError], str]] = [
    ("nan", planted(257, np.nan), DataError, r"pool row 257 holds NaN at dimension 0"),
    ("inf", planted(3, -np.inf), DataError, r"pool row 3 holds -inf"),
    ("zero row", planted(299, 0.0), DataError, r"pool row 299 has norm 0"),
    ("target nan", with_target(y=np.full((M, D), np.nan, np.float32)), DataError, r"target row \d+ holds NaN"),
    ("target zero", with_target(y=np.zeros((M, D), np.float32)), DataError, r"target row \d+ has norm 0"),
    ("width", with_pool(np.ones((N, D + 1), np.float32)), DataError, r"has 10 dimensions, the target has 9"),
    ("float64", with_pool(np.ones((N, D))), DataError, r"float64.*astype"),
    ("order", with_pool(np.ones((D, N), np.float32).T), DataError, r"ascontiguousarray"),
    ("no pool", with_pool(np.ones((0, D), np.float32)), DataError, r"pool is empty"),
    ("no target", with_target(y=np.ones((0, D), np.float32), b=np.ones(0)), DataError, r"target is empty"),
    ("g", with_target(g=np.ones(M + 1)), DataError, r"g has 21 entries, expected 20"),
    ("b", with_target(b=np.ones(M - 1)), DataError, r"expected"),
    ("g nan", with_target(g=np.full(M, np.nan), b=np.ones(M)), DataError, r"g\[0\] is NaN"),
    ("b negative", with_target(b=np.r_[np.ones(M - 1), -1.0]), DataError, r"b\[19\] is -1"),
    ("b zero", with_target(b=np.zeros(M)), DataError, r"all weights b are zero"),
    ("lo", with_box(np.ones(N - 1), 1.0, 1.0), DataError, r"lo has 299 entries, expected 300"),
    ("hi", with_box(0.0, np.ones(2), 1.0), DataError, r"hi has 2 entries"),
    ("lo negative", with_box(-1.0, 0.0, 1.0), DataError, r"lo\[0\] is -1"),
    ("hi infinite", with_box(0.0, np.inf, 1.0), DataError, r"hi\[0\] is inf"),
    ("lo above hi", with_box(np.r_[np.zeros(N - 1), 2.0], 1.0, 1.0), DataError, r"lo\[299\] is 2"),
    ("prices", with_box(0.0, 1.0, 1.0, np.ones(N + 1)), DataError, r"price has 301 entries, expected 300"),
    ("price nan", with_box(0.0, 1.0, 1.0, np.r_[np.ones(N - 1), np.nan]), DataError, r"price\[299\] is NaN"),
    ("price large", with_box(0.0, 1.0, 1.0, -1e19), DataError, r"price\[0\] is -1e\+19|-10000000000000000000"),
    ("eta", with_box(1.0, 1.0, 0.0), UsageError, r"eta is 0"),
    ("eps", with_eps(0.0), UsageError, r"eps is 0"),
    ("eps nan", with_eps(math.nan), UsageError, r"eps is NaN"),
    ("eps tiny", with_eps(1e-44), DataError, r"beyond float32"),
]


@pytest.mark.parametrize(("change", "error", "message"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_refusals(fast: Backend, change: Callable[[Problem], None], error: type[GapselError], message: str) -> None:
    p = problem(N, M, D)
    change(p)
    with pytest.raises(error, match=message):
        p.sweep(fast, np.split(p.x, [100, 250]) if p.x.flags.c_contiguous else [p.x])


def test_refused_settings() -> None:
    with pytest.raises(UsageError, match="instruction set 'mmx' is unknown"):
        CpuBackend(isa="mmx")
    with pytest.raises(UsageError, match="threads is -1"):
        CpuBackend(-1)


def test_refused_arguments(fast: Backend) -> None:
    p = problem(10, 4, 3)
    with pytest.raises(UsageError, match="k is 11 but there are only 10 rows"):
        p.sweep(fast, k=11)
    with pytest.raises(DataError, match=r"values\[1\] is NaN"):
        fast.topk(np.array([0, np.nan], np.float32), 1)
    p.cost = Cost("manhattan")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match='cost "manhattan" is unknown'):
        p.sweep(fast)


def test_refused_outputs(fast: Backend) -> None:
    p = problem(10, 4, 3)
    out = np.empty(10, np.float32)

    def sweep(**outputs: Any) -> None:  # noqa: ANN401
        fast.sweep([p.x], p.query(**outputs))

    with pytest.raises(UsageError, match="cannot be written"):
        sweep(f=out, hard=out)
    with pytest.raises(DataError, match="f has 9 entries, expected 10"):
        sweep(f=out[:9])
    out.flags.writeable = False
    with pytest.raises(UsageError, match="f cannot be written"):
        sweep(f=out)


def test_isa_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPSEL_ISA", "portable")
    assert CpuBackend().isa == "portable"
    assert CpuBackend(isa=ISAS[0]).isa == ISAS[0]
