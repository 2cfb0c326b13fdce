"""Vectors on disk, with the provenance of every row.

A store is a folder of shards. Shard ``00000.npy`` holds vectors (rows, d), C-contiguous, so that it opens as a memory
map; ``00000.parquet`` holds id, source, row, text_hash and tokens of the same rows; ``store.json`` lists the shards
with their content hashes and what made them. It is rewritten after each shard: whatever it lists is complete.

    shards.py   the noun, and `open`          writer.py   shards written, resumed and checked against the texts
    provenance.py  where rows come from
    find.py     which files of vectors a path means
    heads.py    what the head of a file of ready-made vectors says
    given.py    .npy and Parquet, here or by URL, block by block; lines.py: JSON lines; columns.py: checks of columns
    vectors.py  ready-made vectors as a store, and the check of all vectors before they are used
"""

from __future__ import annotations

from gapsel.store.find import files
from gapsel.store.given import Block, Given, vector_column
from gapsel.store.heads import look
from gapsel.store.shards import Store, embedders, open, verify  # noqa: A004 - store.open is what it does
from gapsel.store.vectors import check, check_block, from_vectors
from gapsel.store.writer import Writer

__all__ = [
    "Block", "Given", "Store", "Writer", "check", "check_block", "embedders", "files", "from_vectors", "look", "open",
    "vector_column", "verify",
]  # fmt: skip
