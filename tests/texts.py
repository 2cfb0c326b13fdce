"""Small texts in every form that gapsel reads, for the tests of reading and writing."""

from __future__ import annotations

import csv
import gzip
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from gapsel import corpus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gapsel.corpus import Rejects

Rows = list[dict[str, Any]]

GOOD = b'{"text": "good"}'
ODD_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: bool(text.strip()))

ROWS: Rows = [
    {"id": "one", "text": "plain words", "label": "a"},
    {"id": "two", "text": 'a "quoted", comma\tand tab', "label": "b"},
    {"id": "three", "text": "two\nlines, \u00fcml\u00e4ut \u2028 and \U0001f600", "label": ""},
    {"id": "four", "text": "nul \x00 and return \r inside", "label": "d"},
]


def as_jsonl(rows: Rows) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def as_json(rows: Rows) -> bytes:
    return json.dumps(rows, indent=2).encode()


def as_csv(rows: Rows, delimiter: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def as_tsv(rows: Rows) -> bytes:
    return as_csv(rows, "\t")


def as_txt(rows: Rows) -> bytes:
    return b"".join(row["text"].replace("\n", " ").encode() + b"\n" for row in rows)


FORMS: dict[str, Callable[[Rows], bytes]] = {
    "jsonl": as_jsonl,
    "json": as_json,
    "csv": as_csv,
    "tsv": as_tsv,
    "txt": as_txt,
}


def write(path: Path, data: bytes) -> str:
    """Write a file, compressed as its name says, and return its path."""
    if path.suffix == ".zst":
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(data)
    else:
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def hugging_face(folder: Path, rows: Rows, files: int = 2) -> str:
    """Write a folder as `datasets.Dataset.save_to_disk` does."""
    folder.mkdir(parents=True)
    names = [f"data-{at:05d}-of-{files:05d}.arrow" for at in range(files)]
    features = {name: {"dtype": "string", "_type": "Value"} for name in rows[0]}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    for at, name in enumerate(names):
        table = pa.Table.from_pylist(rows[at::files]).replace_schema_metadata(metadata)
        with pa.OSFile(str(folder / name), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
            writer.write_table(table, max_chunksize=1)
    (folder / "cache-0123.arrow").write_bytes(b"a cache that must not be read")
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return str(folder)


def read_all(
    paths: list[str], batch_rows: int = 1024, text_field: str = "text", rejects: Rejects | None = None
) -> tuple[list[str], list[str], list[tuple[str, int]]]:
    ids, texts, places = [], [], []
    for batch in corpus.read(paths, batch_rows=batch_rows, text_field=text_field, rejects=rejects):
        assert len(batch.ids) == len(batch.texts) == len(batch.rows) > 0
        assert batch.rows.dtype == np.int64
        ids += batch.ids
        texts += batch.texts
        places += [(batch.source, int(row)) for row in batch.rows]
    return ids, texts, places
