"""What the head of a file of ready-made vectors says, whatever its format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gapsel import remote
from gapsel.corpus.find import kind_of
from gapsel.errors import DataError
from gapsel.store.given import look_at_npy, look_at_parquet, reading
from gapsel.store.lines import look_at_lines

if TYPE_CHECKING:
    from gapsel.store.given import Given


def look(source: str, column: str | None = None) -> Given:
    """Read the head of a file: .npy, .parquet or .jsonl; ``column`` says which of several columns of vectors is meant.

    Raises DataError for what is no file of vectors, ResourceError for a URL that cannot be reached.
    """
    suffix = Path(remote.name_of(source)).suffix.lower()
    with reading(source):
        if suffix == ".parquet":
            return look_at_parquet(source, column)
        if suffix == ".npy":
            return look_at_npy(source)
        if kind_of(source) == "jsonl":
            return look_at_lines(source, column)
    msg = f"{source}: the extension is unknown: ready-made vectors come as .npy, .parquet or .jsonl"
    raise DataError(msg)
