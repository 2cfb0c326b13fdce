"""The third door: potentials to a score for every row of the pool, part after part; finished parts are kept."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gapsel import selection
from gapsel.calibration import scores
from gapsel.pipeline import parts
from gapsel.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from gapsel.pipeline.parts import Part
    from gapsel.pipeline.work import Run

# Rows of a row group, the part of a table that is in memory.
_GROUP_ROWS = 1 << 17


def score_step(run: Run) -> dict[str, Any]:
    """Potentials to scores of every row of the pool, one Parquet file for each part."""
    run.folder.writes("score")
    with track("score", run.pool.n, enabled=not run.quiet) as advance:
        about = [_scored(run, part, advance) for part in run.parts]
    files = [part.file for part in run.parts]
    for old in (run.path / parts.SCORES).glob("*.parquet"):
        if f"{parts.SCORES}/{old.name}" not in files:
            old.unlink()
    run.forget("f")
    return {
        "rows": run.pool.n,
        "mean": math.fsum(one["sum"] for one in about) / run.pool.n,
        "lowest": min(one["lowest"] for one in about),
        "files": files,
    }


def _scored(run: Run, part: Part, advance: Callable[[int], None]) -> dict[str, Any]:
    """Write a part, unless it is finished, and return what it remembers."""
    about = parts.finished(run.path, part)
    if about is None:
        about = write_part(run, part)
    advance(part.stop - part.first)
    return about


def write_part(run: Run, part: Part) -> dict[str, Any]:
    """Score the rows of one part, write its file, and return what that remembers: the sum and the lowest score."""
    start = int(run.pool.starts[part.shard])
    rows = (run.pool.shards[part.shard][part.first - start : part.stop - start],)
    f = run.model.f(rows, run.backend)
    nearest = selection.nearest_targets(rows, run.model.potentials, run.backend)
    a = run.rows.a if isinstance(run.rows.a, float) else run.rows.a[part.first : part.stop]
    values = scores(f, a, run.model.calibration.mean)
    about = {"sum": math.fsum(values), "lowest": float(values.min())}
    parts.write(run.path, part, _tables(run, part, values, f, nearest), about)
    return about


def _tables(
    run: Run, part: Part, values: NDArray[np.float64], f: NDArray[np.float32], nearest: NDArray[np.int32]
) -> Iterator[pa.Table]:
    """Yield the rows of a part, some at a time, with where they come from and what was found."""
    names = pa.array(run.target_store.ids(np.arange(run.target_store.n)))
    for low in range(0, len(f), _GROUP_ROWS):
        some = slice(low, min(low + _GROUP_ROWS, len(f)))
        table = run.pool.table(part.first + some.start, part.first + some.stop).drop_columns(["text_hash"])
        columns = {"score": values[some], "potential": f[some], "nearest": names.take(pa.array(nearest[some]))}
        for name, column in columns.items():
            table = table.append_column(name, pa.array(column))
        yield table
