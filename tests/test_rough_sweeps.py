"""Sweeps that may multiply in bfloat16: off by the rounding of the vectors, and by nothing else."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gapsel.backends.cpu import CpuBackend
from gapsel.records import COST_KINDS, CostKind
from sweeps import BACKENDS, ISAS, REFERENCE, ROUGH, assert_agrees, bits, problem

if TYPE_CHECKING:
    from numpy.typing import NDArray


def bfloat16(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to the nearest bfloat16, ties to even, by hand."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)


@pytest.mark.parametrize("isa", ROUGH)
@pytest.mark.parametrize("kind", COST_KINDS)
@pytest.mark.parametrize("d", [1, 19, 769])
def test_a_rough_sweep_is_off_by_the_rounding_of_unit_vectors(isa: str, kind: CostKind, d: int) -> None:
    p = problem(250, 71, d, kind=kind, rel=0.2)
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (np.asarray(p.x), p.target.y))
    # A product of two roundings is off by at most 2^-7 of it, and the cost by two of them.
    error = 2**-6 * float((np.abs(x) @ np.abs(y).T).max())
    if kind == "euclidean":
        error = math.sqrt(error)
    found, exact = p.sweep(CpuBackend(1, isa), rough=True), p.sweep(CpuBackend(1, isa))
    assert_agrees(p, found, p.sweep(REFERENCE), error)
    if d > 1:
        assert not np.array_equal(found.f, exact.f)


@pytest.mark.parametrize("isa", ROUGH)
@pytest.mark.parametrize("kind", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("d", [2, 25, 770])
def test_a_rough_sweep_is_exact_where_bfloat16_is(isa: str, kind: CostKind, d: int) -> None:
    """The targets come in pairs (y, -y) of one weight, so that no centre is taken off."""
    p = problem(250, 60, d, kind=kind, normalize=False)
    p.x, p.target.y[:] = bfloat16(p.x), bfloat16(p.target.y)
    p.target.y[30:], p.target.b[30:] = -p.target.y[:30], p.target.b[:30]
    assert_agrees(p, p.sweep(CpuBackend(1, isa), rough=True), p.sweep(REFERENCE))


@pytest.mark.parametrize("isa", ROUGH)
def test_a_rough_distance_to_itself_is_zero(isa: str) -> None:
    """Norms are those of the rounded numbers, where they are not known to be 1."""
    p = problem(40, 40, 30, kind="euclidean", lam=0.0)
    p.x, p.target.b[:], p.g = p.target.y.copy(), 1 / 40, np.zeros(40)
    assert p.sweep(CpuBackend(1, isa), rough=True).hard.max() < 1e-3


@pytest.mark.parametrize("name", [f"cpu-{isa}" for isa in ISAS if isa not in ROUGH])
def test_rough_is_close_without_products_of_bfloat16(name: str) -> None:
    p, backend = problem(30, 20, 9), BACKENDS[name]()
    assert bits(p.sweep(backend, k=5, rough=True)) == bits(p.sweep(backend, k=5, close=True))


# What products need only be close for: AMX leaves digits out, others multiply shorts, AVX-512 where it has VNNI.
CLOSE = {"amx": True, "avx512bf16": None, "avx512": None, "avx2": True}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", ["sqeuclidean", "cosine"])
@pytest.mark.parametrize("d", [1, 19, 384, 769])
def test_a_close_sweep_is_off_by_the_last_digits(isa: str, kind: CostKind, d: int) -> None:
    """Six deviations: 2^-16 of the largest numbers of a row in AMX's three products, or a 14,000th of a unit vector."""
    p = problem(250, 71, d, kind=kind, rel=0.2)
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (np.asarray(p.x), p.target.y))
    digits = 3 * 2**-16 * math.sqrt(d) * float(np.abs(x).max() * np.abs(y).max())
    error = 6 * (digits if isa == "amx" else 2 / 14_000 / math.sqrt(12))
    found, exact = p.sweep(CpuBackend(1, isa), k=5, close=True), p.sweep(CpuBackend(1, isa), k=5)
    is_close = CLOSE.get(isa, False)
    assert_agrees(p, found, p.sweep(REFERENCE), 1e-6 if is_close is False else 1e-6 + error)
    if is_close is False:
        assert bits(found) == bits(exact)
    elif is_close and d > 1:
        assert not np.array_equal(found.f, exact.f)
