"""Texts <-> documents.

``read`` streams documents out of the files people have, whatever their format, in batches whose memory does not grow
with the files. A row that cannot be used is set aside in ``Rejects`` with its file, line and reason, and never dropped
in silence. ``write_selected`` writes the chosen rows back in the user's own format, with gapsel's fields added.

    find.py     which files a path means, how they are opened, their fingerprint
    rows.py     what a row is; plain text as rows; jsons.py, csvs.py, tables.py: the other formats
    texts.py    what of a row is its text
    read.py     rows as batches; rejects.py: the rows that cannot be used
    labels.py   one more field of the same rows
    write.py    the chosen rows, in the user's own format; lines.py: rows as JSON lines
    passing.py  rows that are passed on with a score, a part at a time; vector_lines.py: JSON lines with vectors
"""

from __future__ import annotations

from gapsel.corpus.find import contents, fingerprint, fingerprint_files, kind_of, open_stream, reading, sources
from gapsel.corpus.labels import MissingLabelError, labels
from gapsel.corpus.passing import SCORE, Lines, Part, Table, file_parts, jsonl_parts, table_parts, with_column
from gapsel.corpus.read import Batch, judge, judge_early, read, source_rows, texts_at
from gapsel.corpus.rejects import Rejects
from gapsel.corpus.rows import Fields, missing_field, text_hash
from gapsel.corpus.tables import check_text, whole_rows
from gapsel.corpus.vector_lines import VectorLines
from gapsel.corpus.write import Chosen, by_source, write_selected, write_selected_vectors

__all__ = [
    "SCORE",
    "Batch",
    "Chosen",
    "Fields",
    "Lines",
    "MissingLabelError",
    "Part",
    "Rejects",
    "Table",
    "VectorLines",
    "by_source",
    "check_text",
    "contents",
    "file_parts",
    "fingerprint",
    "fingerprint_files",
    "jsonl_parts",
    "judge",
    "judge_early",
    "kind_of",
    "labels",
    "missing_field",
    "open_stream",
    "read",
    "reading",
    "source_rows",
    "sources",
    "table_parts",
    "text_hash",
    "texts_at",
    "whole_rows",
    "with_column",
    "write_selected",
    "write_selected_vectors",
]
