"""The third door: potentials to a score for every row of the pool, part after part; finished parts are kept."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gapsel import selection
from gapsel.calibration import scores
from gapsel.model import potential
from gapsel.pipeline.folder import parts
from gapsel.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gapsel.pipeline.folder.parts import Part
    from gapsel.pipeline.work import Run

# Rows of a row group, the part of a table that is in memory.
_GROUP_ROWS = 1 << 17


def score_step(run: Run) -> dict[str, Any]:
    """Potentials to scores of every row of the pool, one Parquet file for each part."""
    run.writes("score")
    with track("score", run.pool.n, enabled=not run.quiet) as advance:
        about = _scored(run, advance)
    parts.discard_others(run.path, run.parts)
    run.forget("f", "f_of_rows", "price_of_rows")
    return {
        "rows": run.pool.n,
        "mean": math.fsum(one["sum"] for one in about) / run.pool.n,
        "lowest": min(one["lowest"] for one in about),
        "files": [part.file for part in run.parts],
    }


def _scored(run: Run, advance: Callable[[int], None]) -> list[dict[str, Any]]:
    """Write the parts that are not finished, and return what each of all remembers."""
    about = {part: said for part in run.parts if (said := parts.finished(run.path, part)) is not None}
    advance(sum(map(len, about)))
    for part, said in write_parts(run, [part for part in run.parts if part not in about]):
        about[part] = said
        advance(len(part))
    return [about[part] for part in run.parts]


def write_parts(run: Run, todo: Sequence[Part]) -> Iterator[tuple[Part, dict[str, Any]]]:
    """Score the rows of some parts and write their files; yield each with what it remembers."""
    for several in _swept_together(run, todo):
        f, nearest, price = _swept(run, several)
        start = several[0].first
        for part in several:
            own = slice(part.first - start, part.stop - start)
            yield part, write_part(run, part, f[own], nearest[own], None if price is None else price[own])


def _swept_together(run: Run, todo: Sequence[Part]) -> Iterator[list[Part]]:
    """Group parts by the sweep that scores them: each its own, or on a cluster so many that all of it has work."""
    group: list[Part] = []
    for part in todo:
        follows = bool(group) and group[-1].stop == part.first and run.settings.on_cluster
        if group and not (follows and part.stop - group[0].first <= parts.PART_ROWS):
            yield group
            group = []
        group.append(part)
    if group:
        yield group


def _swept(
    run: Run, several: Sequence[Part]
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32] | None]:
    """Return f, the nearest targets, and what they cost, of the rows of some parts that follow one another."""
    starts = run.pool.starts
    rows = [
        run.pool.shards[part.shard][part.first - starts[part.shard] : part.stop - starts[part.shard]]
        for part in several
    ]
    f, price = potential(run.model.potentials, rows, run.backend), None
    if run.model.avoided is not None:
        price = run.model.prices(rows, run.backend)
        f += price
    return f, selection.nearest_targets(rows, run.model.potentials, run.backend), price


def write_part(
    run: Run, part: Part, f: NDArray[np.float32], nearest: NDArray[np.int32], price: NDArray[np.float32] | None = None
) -> dict[str, Any]:
    """Write the file of a part, and return what it remembers: the sum of its scores and the lowest."""
    a = run.rows.a if isinstance(run.rows.a, float) else run.rows.a[part.first : part.stop]
    values = scores(f, a, run.model.calibration.mean)
    about = {"sum": math.fsum(values), "lowest": float(values.min())}
    columns: dict[str, NDArray[Any]] = {"score": values, "potential": f}
    columns |= {} if price is None else {"price": price}
    parts.write(run.path, part, _tables(run, part, columns, nearest), about)
    return about


def _tables(
    run: Run, part: Part, columns: Mapping[str, NDArray[Any]], nearest: NDArray[np.int32]
) -> Iterator[pa.Table]:
    """Yield the rows of a part, some at a time, with where they come from and what was found."""
    names = pa.array(run.target_store.ids(np.arange(run.target_store.n)))
    for low in range(0, len(part), _GROUP_ROWS):
        some = slice(low, min(low + _GROUP_ROWS, len(part)))
        table = run.pool.table(part.first + some.start, part.first + some.stop).drop_columns(["text_hash"])
        for name, column in columns.items():
            table = table.append_column(name, pa.array(column[some]))
        yield table.append_column("nearest", names.take(pa.array(nearest[some])))
