"""The k lowest of a stream against a stable sort of all of it, however it is cut into batches."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapsel import lowest
from gapsel.backends.cpu import CpuBackend
from gapsel.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    1e-45,
    -1e-45,
    3e38,
    -3e38,
    np.inf,
    -np.inf,
    np.nextafter(np.float32(1), np.float32(2)),
]


def parts(values: NDArray[np.float32], cuts: Iterable[int]) -> list[NDArray[np.float32]]:
    return np.split(values, sorted(min(cut, len(values)) for cut in cuts))


def assert_lowest(values: NDArray[np.float32], k: int, cuts: Iterable[int] = ()) -> None:
    batches = parts(values, cuts)
    rows, found = lowest.lowest(lambda: iter(batches), k)
    expected = np.argsort(values, kind="stable")[:k]
    assert np.array_equal(rows, expected)
    assert np.array_equal(found, values[expected])
    assert [str(rows.dtype), str(found.dtype)] == ["int64", "float32"]
    assert np.array_equal(rows, CpuBackend(1).topk(values, k))


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.one_of(st.sampled_from(SPECIAL), st.floats(width=32, allow_nan=False)), min_size=1, max_size=60),
    data=st.data(),
)
def test_same_rows_as_a_stable_sort(values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    cuts = data.draw(st.lists(st.integers(0, len(values)), max_size=5))
    assert_lowest(np.array(values, np.float32), k, cuts)


@pytest.mark.parametrize("k", [1, 2, 999, 5000])
@pytest.mark.parametrize("kind", ["random", "all equal", "two values", "zeros of both signs", "falling", "one bin"])
def test_many_parts(kind: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Small, so that the kept are cut back many times.
    monkeypatch.setattr(lowest, "_GROWTH", 64)
    rng, n = np.random.default_rng(3), 5000
    values = {
        "random": rng.standard_normal(n),
        "all equal": np.full(n, -2.5),
        "two values": rng.integers(0, 2, n),
        "zeros of both signs": np.where(rng.integers(0, 2, n), 0.0, -0.0),
        "falling": -np.arange(n) / 7,
        "one bin": 1 + rng.integers(0, 40, n) * 2.0**-23,
    }[kind].astype(np.float32)
    assert_lowest(values, k, range(0, n, 37))


def test_memory_does_not_grow_with_n() -> None:
    batch = np.random.default_rng(1).standard_normal(1 << 16).astype(np.float32)
    peaks = []
    for batches in (20, 200):
        tracemalloc.start()
        lowest.lowest(lambda count=batches: (batch - np.float32(i) for i in range(count)), 1000)  # type: ignore[misc]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] < 60e6


@pytest.mark.parametrize("k", [0, 4, -1])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(UsageError, match=f"k is {k}, and the pool has 3 documents"):
        lowest.lowest(lambda: iter([np.zeros(2, np.float32), np.zeros(1, np.float32)]), k)


def test_a_nan_is_named_by_its_row() -> None:
    bad = np.array([1, np.nan], np.float32)
    with pytest.raises(DataError, match=r"row 3: .* not a number"):
        lowest.lowest(lambda: iter([np.zeros(2, np.float32), bad]), 1)
