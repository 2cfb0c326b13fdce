"""The third door: potentials to a score for every row of the pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from gapsel import selection
from gapsel.files import whole
from gapsel.pipeline.work import SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gapsel.pipeline.work import Run


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
    part = slice(*map(int, run.pool.starts[at : at + 2]))
    columns = {"score": values[part], "potential": f[part], "nearest": run.target_store.ids(nearest[part])}
    table = run.pool.table(at).drop_columns(["text_hash"])
    for name, column in columns.items():
        table = table.append_column(name, pa.array(column))
    file = f"{SCORES}/{at:05d}.parquet"
    with whole(run.path / file) as stream:
        pq.write_table(table, stream)
    return file
