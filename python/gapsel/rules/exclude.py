"""Documents that must not be chosen, by their ids or by their exact texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gapsel import corpus
from gapsel.findings import Excluded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

_HASH = pa.binary(16)


def exclude(
    paths: Sequence[str],
    tables: Iterable[pa.Table],
    n: int,
    *,
    by_text: bool,
    text_field: str = "text",
    id_field: str = "id",
) -> tuple[NDArray[np.bool_], list[Excluded]]:
    """Return which rows (n,) of a pool some lists name, and what each list did.

    A .txt file has an id in each line. Other files have documents: ``by_text`` each stands for all that have exactly
    its text, else for those of its id. ``tables`` yields id and text_hash of all rows of the pool. Raises as
    `corpus.read` does.
    """
    lists = [
        (file, *_entries(file, by_text=by_text, text_field=text_field, id_field=id_field))
        for file in corpus.sources(paths)
    ]
    flags, hits = np.zeros(n, np.bool_), [_Hits(len(entries)) for _, _, entries in lists]
    start = 0
    for table in tables:
        own = flags[start : start + table.num_rows]
        for (_, column, entries), hit in zip(lists, hits, strict=True):
            own |= hit.found(table.column(column), entries)
        start += table.num_rows
    said = [
        Excluded(file, len(entries), int(hit.matched.sum()), hit.documents)
        for (file, _, entries), hit in zip(lists, hits, strict=True)
    ]
    return flags, said


class _Hits:
    """Which entries of a list the pool has, and how many of its documents they are."""

    def __init__(self, entries: int) -> None:
        self.matched = np.zeros(entries, np.bool_)
        self.documents = 0

    def found(self, column: pa.ChunkedArray, entries: pa.Array) -> NDArray[np.bool_]:
        """Tell which values of a column (r,) are entries."""
        at = pc.fill_null(pc.index_in(column, value_set=entries), -1).to_numpy()
        self.matched[at[at >= 0]] = True
        self.documents += int(np.count_nonzero(at >= 0))
        return np.asarray(at >= 0)


def _entries(file: str, *, by_text: bool, text_field: str, id_field: str) -> tuple[str, pa.Array]:
    """Return the column of the pool that a list is compared with, and its entries, each once."""
    listed = Path(file).name.removesuffix(".gz").removesuffix(".zst").endswith(".txt")
    if by_text and not listed:
        hashes = (list(map(corpus.text_hash, texts)) for texts in _texts(file, text_field))
        return "text_hash", _unique(hashes, _HASH)
    return "id", _unique(_texts(file, "text" if listed else id_field), pa.string())


def _texts(file: str, field: str) -> Iterator[list[str]]:
    # No id is wanted here, and one that is also the text would be read twice.
    return (batch.texts for batch in corpus.read([file], text_field=field))


def _unique(batches: Iterable[list[str] | list[bytes]], kind: pa.DataType) -> pa.Array:
    return pc.unique(pa.chunked_array([pa.array(batch, kind) for batch in batches], kind))
