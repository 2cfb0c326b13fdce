"""The GPU backend's sums, on an emulated device: chunks, widths, digits, types, and rows that are refused."""

from __future__ import annotations

import os
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from cuda_emulator import compiler
from emulated_gpu import emulated, emulated_backend
from gapsel.backends.gpu import gram, strip
from gapsel.backends.gpu import span as spans
from gapsel.backends.gpu.operands import Form
from gapsel.backends.gpu.rows import gather
from gapsel.errors import DataError
from gapsel.records import Box, Cost, Target, frozen
from sweeps import REFERENCE, assert_agrees, bits, problem

pytestmark = pytest.mark.skipif(compiler() is None and not os.environ.get("CI"), reason="there is no g++")


def small_chunks(monkeypatch: pytest.MonkeyPatch, rows: int = 512, window: int = 512) -> None:
    monkeypatch.setattr(strip, "MOST_ROWS", rows)
    monkeypatch.setattr(spans, "WINDOW_ROWS", window)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("window", [512, 1024])
def test_chunks_and_windows_change_no_bit(monkeypatch: pytest.MonkeyPatch, window: int, normalize: bool) -> None:  # noqa: FBT001
    """Three chunks, the last one short; outputs of one or two chunks at a time; bounds of each row."""
    p = problem(1300, 40, 9, dtype=np.float16, normalize=normalize)
    whole = p.sweep(emulated_backend(), k=30)
    small_chunks(monkeypatch, window=window)
    assert bits(p.sweep(emulated_backend(), k=30)) == bits(whole)
    assert_agrees(p, whole, p.sweep(REFERENCE))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("rough", [False, True])
def test_shards_change_no_bit(monkeypatch: pytest.MonkeyPatch, dtype: type[Any], rough: bool) -> None:  # noqa: FBT001
    p = problem(1300, 21, 5, dtype=dtype)
    whole = bits(p.sweep(emulated_backend(), k=9, rough=rough))
    small_chunks(monkeypatch)
    for cuts in ([511, 512, 513], [0, 700, 700, 1299]):
        assert bits(p.sweep(emulated_backend(), np.split(p.x, cuts), k=9, rough=rough)) == whole


def test_more_rows_of_the_gram_than_one_product_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem(700, 30, 7)
    exact = p.sweep(REFERENCE)
    monkeypatch.setattr(gram, "ROWS", 100)
    small_chunks(monkeypatch)
    assert_agrees(p, p.sweep(emulated_backend()), exact)


def test_a_gram_with_negative_weights() -> None:
    """Where eta is far below eps, a row's weight w may be negative."""
    p = problem(400, 30, 7)
    p.box = Box(0.0, 0.01, p.eps / 10)
    assert_agrees(p, p.sweep(emulated_backend()), p.sweep(REFERENCE))


def test_chunks_are_even_and_whole_segments() -> None:
    assert strip.chunk_rows(1_000_000, 10_000, 1536, 1 << 40) == 9728
    assert strip.chunk_rows(100, 10_000, 1536, 1 << 40) == 512
    assert strip.chunk_rows(100_000, 8, 1536, 1 << 40) == 50_176
    assert strip.chunk_rows(1_000_000, 100_000, 1536, 1 << 20) == 512
    assert strip.chunk_rows(1_000_000, 1000, 1536, 1 << 30) == 62_976


@pytest.mark.parametrize(
    ("m", "kernel"),
    [(200, "strip_32_4"), (700, "strip_128_4"), (2600, "strip_256_5"), (6500, "strip_512_5"), (13_000, "stats")],
)
@pytest.mark.parametrize("kind", ["sqeuclidean", "euclidean"])
def test_every_width(m: int, kernel: str, kind: Any) -> None:  # noqa: ANN401
    p, backend = problem(70, m, 5, kind=kind, rel=0.3), emulated_backend()
    found, exact = p.sweep(backend, gram=m < 300), p.sweep(REFERENCE, gram=m < 300)
    assert kernel in emulated(backend).launches
    np.testing.assert_allclose(found.f, exact.f, atol=1e-4)
    np.testing.assert_allclose(found.hard, exact.hard, atol=1e-4)
    assert np.abs(found.swept.q - exact.swept.q).sum() < 1e-4
    assert found.swept.entropy == pytest.approx(exact.swept.entropy, rel=1e-4)
    assert (p.target.b[found.nearest] > 0).all()


@pytest.mark.parametrize("m", [1, 2, 8, 9])
def test_few_columns(m: int) -> None:
    p = problem(40, m, 3)
    assert_agrees(p, p.sweep(emulated_backend()), p.sweep(REFERENCE))


def test_equal_weights_need_no_hard_biases() -> None:
    p = problem(90, 30, 7)
    p.target.b[:] = 1 / 30
    assert_agrees(p, p.sweep(emulated_backend()), p.sweep(REFERENCE))


def test_wide_rows_with_a_gram(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of rows too wide for registers, at a size that the reference holds."""
    monkeypatch.setattr(strip, "STRIPS", ())
    p = problem(300, 60, 7)
    assert_agrees(p, p.sweep(emulated_backend(), k=5), p.sweep(REFERENCE))


@pytest.mark.parametrize("exponent", [-14, -20, 10])
def test_float16_of_any_size(exponent: int) -> None:
    """Subnormal numbers too: no kernel may take them for zeros."""
    p = problem(200, 30, 16, dtype=np.float16)
    p.x = (np.asarray(p.x, np.float32) * 2.0**exponent).astype(np.float16)
    p.x = p.x[np.abs(p.x).max(axis=1) > 0]
    p.box = Box.fixed(1 / len(p.x))
    assert_agrees(p, p.sweep(emulated_backend()), p.sweep(REFERENCE))


@pytest.mark.parametrize("scale", [1e-30, 1e-5, 1e15, 1e30])
def test_float32_of_any_size(scale: float) -> None:
    """float16 holds no such numbers: each row gets a power of two of its own."""
    p = problem(200, 30, 16)
    p.x = (p.x * scale).astype(np.float32)
    assert_agrees(p, p.sweep(emulated_backend()), p.sweep(REFERENCE))


def test_one_large_coordinate_does_not_drown_the_others() -> None:
    p = problem(200, 30, 16, normalize=False)
    p.x[:, 0] *= 1000
    assert_agrees(p, p.sweep(emulated_backend()), p.sweep(REFERENCE))


def test_rough_is_off_by_the_rounding_of_y() -> None:
    p = problem(200, 30, 16, dtype=np.float16)
    exact, rough = p.sweep(emulated_backend()), p.sweep(emulated_backend(), rough=True)
    off = float(np.abs(exact.f - rough.f).max())
    assert 0 < off < 2**-10


@pytest.mark.parametrize("freeze", [False, True])
def test_bad_rows_are_refused_each_time(freeze: bool) -> None:  # noqa: FBT001
    p, backend = problem(1300, 20, 8, dtype=np.float16), emulated_backend()
    p.x[1200] = 0
    shards = [frozen(p.x) if freeze else p.x]
    for _ in range(2):
        with pytest.raises(DataError, match="pool row 1200 has norm 0"):
            p.sweep(backend, shards)


def test_blocks_end_where_the_type_changes() -> None:
    shards = [np.zeros((3, 2), np.float16), np.zeros((4, 2), np.float16), np.zeros((5, 2), np.float32)]
    rows = gather(shards, 2, [])
    found = [(block.first, block.rows, block.dtype, len(block.parts)) for block in rows.blocks(range(1, 12), 5)]
    assert found == [(1, 5, "float16", 2), (6, 1, "float16", 1), (7, 5, "float32", 1)]
    assert rows.row(3).tolist() == [0, 0]


def test_forms() -> None:
    assert Form.of(frozenset({"float16"}), Cost(), 9) == Form(9, 9, unit=True, direct=True, split=False)
    assert Form.of(frozenset({"bfloat16"}), Cost(), 9) == Form(9, 16, unit=True, direct=False, split=False)
    assert Form.of(frozenset({"float16"}), Cost(normalize=False), 8).split
    assert Form.of(frozenset({"float32", "float16"}), Cost("cosine"), 8).width == 16


def test_a_single_column_of_weight() -> None:
    p = problem(40, 6, 3)
    b = np.zeros(6)
    b[4] = 1.0
    p.target = Target(p.target.y, b)
    found = p.sweep(emulated_backend())
    assert (found.nearest == 4).all()
    assert found.swept.q[4] == pytest.approx(float(p.sweep(REFERENCE).swept.q[4]), rel=1e-6)
