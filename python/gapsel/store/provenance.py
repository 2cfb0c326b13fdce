"""Where the rows of a shard come from: looked up row by row, or read a part at a time, and never held as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("row", pa.int64()),
        ("text_hash", pa.binary(16)),
        ("tokens", pa.int32()),
    ]
)


class Provenance(Protocol):
    """Where the rows of one shard come from, in the columns of SCHEMA."""

    def table(self, first: int, stop: int) -> pa.Table:
        """Return all columns of the rows from ``first`` up to ``stop``, both within the shard."""
        ...

    def take(self, name: str, rows: NDArray[np.int64]) -> pa.Array:
        """Return one column at some rows (r,) of the shard, in their order."""
        ...

    def sources(self) -> dict[str, int]:
        """Return how many rows come from each source."""
        ...

    def tokens(self) -> int:
        """Return the number of tokens of all rows together."""
        ...


@dataclass(frozen=True, slots=True)
class TableFile:
    """Provenance in a Parquet file, of as many rows as fit into memory."""

    path: Path

    def table(self, first: int, stop: int) -> pa.Table:
        """Read all columns."""
        return pq.read_table(self.path).slice(first, stop - first)

    def take(self, name: str, rows: NDArray[np.int64]) -> pa.Array:
        """Read one column."""
        return self.column(name).take(pa.array(rows)).combine_chunks()

    def sources(self) -> dict[str, int]:
        """Count them."""
        counted = self.column("source").value_counts().to_pylist()
        return {one["values"]: one["counts"] for one in counted}

    def tokens(self) -> int:
        """Add them up."""
        return int(self.column("tokens").to_numpy().sum(dtype=np.int64))

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a whole column."""
        return pq.read_table(self.path, columns=[name]).column(name)


@dataclass(frozen=True, slots=True)
class Numbered:
    """Provenance of ready-made vectors: a file or array, ids given or else the numbers from ``first`` on.

    Text hashes and tokens are zeros.
    """

    source: str
    first: int
    rows: int
    given: pa.Array | None = None

    def table(self, first: int, stop: int) -> pa.Table:
        """Make all columns."""
        rows = np.arange(first, stop)
        return pa.table([self.take(name, rows) for name in SCHEMA.names], schema=SCHEMA)

    def take(self, name: str, rows: NDArray[np.int64]) -> pa.Array:
        """Make one column."""
        kind = SCHEMA.field(name).type
        if name == "id" and self.given is not None:
            return cast("pa.Array", self.given.take(pa.array(rows)))
        if name in ("id", "row"):
            return pa.array(rows + (self.first if name == "id" else 0)).cast(kind)
        same = {"source": self.source, "text_hash": bytes(16), "tokens": 0}[name]
        return pa.repeat(pa.scalar(same, kind), len(rows))

    def sources(self) -> dict[str, int]:
        """Name the only one."""
        return {self.source: self.rows}

    def tokens(self) -> int:
        """None are known."""
        return 0
