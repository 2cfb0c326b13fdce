"""The third door: potentials to a score for every row of the pool."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gapsel import selection
from gapsel.files import whole
from gapsel.pipeline.work import SCORES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.pipeline.work import Run


# Rows of a row group, the part of a table that is in memory.
_GROUP_ROWS = 1 << 17


def score_step(run: Run) -> dict[str, Any]:
    """Potentials to scores of every row of the pool, one Parquet file for each shard of vectors."""
    f = run.model.f(run.pool.shards, run.backend)
    nearest = selection.nearest_targets(run.pool.shards, run.model.potentials, run.backend)
    values = selection.scores(f, run.rows.a)
    run.folder.writes("score")
    for old in (run.path / SCORES).glob("*.parquet"):
        old.unlink()
    files = [_write_scores(run, at, values, f, nearest) for at in range(len(run.pool.shards))]
    run.forget("f")
    return {"rows": run.pool.n, "mean": float(values.mean()), "lowest": float(values.min()), "files": files}


def _write_scores(
    run: Run, at: int, values: NDArray[np.float64], f: NDArray[np.float32], nearest: NDArray[np.int32]
) -> str:
    """Write the scores of one shard of the pool and return the file's name in the run folder."""
    first, stop = map(int, run.pool.starts[at : at + 2])
    names = pa.array(run.target_store.ids(np.arange(run.target_store.n)))
    file = f"{SCORES}/{at:05d}.parquet"
    with whole(run.path / file) as stream, ExitStack() as open_files:
        writer = None
        for start in range(first, stop, _GROUP_ROWS):
            part = slice(start, min(start + _GROUP_ROWS, stop))
            table = run.pool.table(part.start, part.stop).drop_columns(["text_hash"])
            columns = {"score": values[part], "potential": f[part], "nearest": names.take(pa.array(nearest[part]))}
            for name, column in columns.items():
                table = table.append_column(name, pa.array(column))
            writer = writer or open_files.enter_context(pq.ParquetWriter(stream, table.schema))
            writer.write_table(table)
    return file
