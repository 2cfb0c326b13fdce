"""Texts <-> documents.

``read`` streams documents out of the files people have, whatever their format, in batches whose memory does not grow
with the files. A row that cannot be used is set aside in ``Rejects`` with its file, line and reason, and never dropped
in silence. ``write_selected`` writes the chosen rows back in the user's own format, with gapsel's fields added.

    find.py     which files a path means, how they are opened, their fingerprint
    rows.py     what a row is; plain text as rows; jsons.py, csvs.py, tables.py: the other formats
    read.py     rows as batches; rejects.py: the rows that cannot be used
    labels.py   one more field of the same rows
    write.py    the chosen rows, in the user's own format
"""

from __future__ import annotations

from gapsel.corpus.find import fingerprint, fingerprint_files, sources
from gapsel.corpus.labels import MissingLabelError, labels
from gapsel.corpus.read import Batch, read, texts_at
from gapsel.corpus.rejects import Rejects
from gapsel.corpus.rows import text_hash
from gapsel.corpus.write import Chosen, by_source, write_selected, write_selected_vectors

__all__ = [
    "Batch",
    "Chosen",
    "MissingLabelError",
    "Rejects",
    "by_source",
    "fingerprint",
    "fingerprint_files",
    "labels",
    "read",
    "sources",
    "text_hash",
    "texts_at",
    "write_selected",
    "write_selected_vectors",
]
