"""The same bits however the work is cut: into threads, shards, spans, rows by themselves, files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapsel.backends.cpu import CpuBackend
from gapsel.backends.parts import Part, added, swept
from gapsel.errors import DataError, UsageError
from gapsel.records import COST_KINDS, Box, CostKind
from sweeps import ISAS, Result, bits, problem

if TYPE_CHECKING:
    from pathlib import Path

    from gapsel.backends import Backend


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", COST_KINDS)
@pytest.mark.parametrize("rough", [False, True])
def test_threads_change_no_bit(isa: str, kind: CostKind, rough: bool) -> None:  # noqa: FBT001
    p = problem(5000, 90, 40, kind=kind)
    one, *others = (bits(p.sweep(CpuBackend(threads, isa), k=50, rough=rough)) for threads in (1, 2, 3, 0))
    assert all(other == one for other in others)


@given(
    cuts=st.lists(st.integers(0, 700), max_size=6),
    isa=st.sampled_from(ISAS),
    dtype=st.sampled_from([np.float16, np.float32]),
    rough=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_shards_change_no_bit(cuts: list[int], isa: str, dtype: type[np.floating[Any]], rough: bool) -> None:  # noqa: FBT001
    p = problem(700, 45, 11, dtype=dtype)
    shards = np.split(p.x, sorted(cuts))
    whole = p.sweep(CpuBackend(1, isa), k=9, rough=rough)
    assert bits(p.sweep(CpuBackend(2, isa), shards, k=9, rough=rough)) == bits(whole)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("gram", "rough"), [(True, False), (True, True), (False, False)])
def test_spans_swept_one_by_one_add_up_to_the_whole(isa: str, gram: bool, rough: bool) -> None:  # noqa: FBT001
    p, backend = problem(37_000 if gram else 10_000, 60, 23, price="float32"), CpuBackend(2, isa)
    whole = p.sweep(backend, k=5000, gram=gram, rough=rough)
    rows = backend.span_rows(p.target, len(p.x), gram=gram, rough=rough)
    assert 2 * rows < len(p.x) < 3 * rows
    f, hard, nearest = np.empty_like(whole.f), np.empty_like(whole.hard), np.empty_like(whole.nearest)

    def part(first: int) -> Part:
        at = slice(first, first + rows)
        query = p.query(gram=gram, k=5000, rough=rough, f=f[at], hard=hard[at], nearest=nearest[at])
        return backend.part(np.split(p.x[at], [77]), replace(query, box=p.box.at(at)), first, len(p.x))

    found = swept(added(map(part, range(0, len(p.x), rows)), k=5000))
    assert bits(Result(found, f, hard, nearest, 0.0)) == bits(whole)


def test_a_span_names_rows_by_their_number_in_the_pool() -> None:
    p, backend = problem(8000, 30, 9), CpuBackend(1)
    rows = backend.span_rows(p.target, 8000)
    p.x[rows + 3, 1], p.box = np.nan, Box.fixed(1 / 8000)
    with pytest.raises(DataError, match=f"pool row {rows + 3} holds NaN"):
        backend.part([p.x[rows:]], p.query(), rows, 8000)
    lo = np.zeros(8000 - rows)
    lo[4], p.box = -1.0, Box(lo, 1.0, 1.0)
    with pytest.raises(DataError, match=rf"lo\[{rows + 4}\] is -1"):
        backend.part([p.x[rows:]], p.query(), rows, 8000)


@pytest.mark.parametrize(("first", "rows"), [(0, 10), (1, 4999), (4999, 1), (0, 4999)])
def test_rows_that_are_no_span_are_refused(first: int, rows: int) -> None:
    p = problem(5000, 30, 9)
    p.box = Box.fixed(1.0)
    with pytest.raises(UsageError, match=f"{rows} rows from row {first} of 5000 are no span of the pool: give all"):
        CpuBackend(1).part([p.x[first : first + rows]], p.query(), first, 5000)


def test_a_row_is_the_same_wherever_it_stands(cpu: CpuBackend) -> None:
    p = problem(260, 45, 11)
    whole = p.sweep(cpu)
    for row in (0, 13, 14, 111, 112, 259):
        p.box = Box.fixed(1.0)
        x, p.x = p.x, p.x[row : row + 1]
        alone = p.sweep(cpu)
        p.x = x
        assert (alone.f[0], alone.hard[0], alone.nearest[0]) == (whole.f[row], whole.hard[row], whole.nearest[row])


@pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16])
def test_half_and_single_shards_mix(backend: Backend, half: type[Any]) -> None:
    p = problem(300, 20, 29)
    p.x = p.x.astype(half)
    single = p.x.astype(np.float32)
    mixed = [p.x[:130], single[130:200], p.x[200:]]
    assert bits(p.sweep(backend, mixed, k=3)) == bits(p.sweep(backend, [single], k=3))


def test_memory_mapped_shards(fast: Backend, tmp_path: Path) -> None:
    p = problem(300, 20, 9, dtype=np.float16)
    np.save(tmp_path / "x.npy", p.x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert bits(p.sweep(fast, [mapped], k=3)) == bits(p.sweep(fast, k=3))
