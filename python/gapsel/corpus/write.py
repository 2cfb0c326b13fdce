"""The chosen rows, in the user's own format and in source order, with gapsel's fields added.

    gapsel_score    the score; the lower, the more the document closes the gap
    gapsel_rank     1 = lowest score
    gapsel_nearest  id of the nearest target

JSON objects keep their own characters: the fields are spliced in before the closing brace. Fields of these three names
that an earlier selection left in the rows are replaced; the input itself is never changed.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gapsel.corpus import tables
from gapsel.corpus.find import TABLES, kind_of, reading, sources
from gapsel.corpus.lines import header_of, json_line, line_maker
from gapsel.corpus.read import rows_at
from gapsel.corpus.rows import Fields, Row, text_hash
from gapsel.corpus.texts import fields_of
from gapsel.errors import DataError
from gapsel.files import whole

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

ADDED = ("gapsel_score", "gapsel_rank", "gapsel_nearest")
_BATCH_ROWS = 1024
_GROUP_ROWS = 16384
_GROUP_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Chosen:
    """The chosen rows of one source, k of them.

    ``rows`` (k,) int64, 0-based within the source and ascending (in any order for `by_source`); ``score`` (k,)
    floating; ``rank`` (k,) int64; ``nearest`` k target ids; ``hashes`` k text hashes (`text_hash`) as they were when
    the rows were read, () for ready-made vectors.
    """

    rows: NDArray[np.int64]
    score: NDArray[np.floating]
    rank: NDArray[np.int64]
    nearest: Sequence[str]
    hashes: Sequence[bytes] = ()

    def added(self, at: int) -> dict[str, object]:
        """Return the fields that the chosen row ``at`` gains; the score with as few digits as its precision has."""
        return dict(zip(ADDED, (float(str(self.score[at])), int(self.rank[at]), self.nearest[at]), strict=True))


def by_source(source: Sequence[str], chosen: Chosen) -> dict[str, Chosen]:
    """Group chosen documents, given in any order with the k sources they came from, by source."""
    members: dict[str, list[int]] = {}
    for at, name in enumerate(source):
        members.setdefault(name, []).append(at)
    return {name: _sorted(chosen, np.array(places)) for name, places in members.items()}


def write_selected(
    paths: Sequence[str | os.PathLike[str]],
    folder: Path | str,
    chosen: Mapping[str, Chosen],
    *,
    text_field: str = "text",
    id_field: str = "id",
) -> Path:
    """Write the chosen rows of the sources to ``folder`` and return the file, which appears whole or not at all.

    JSON becomes selected.jsonl, CSV and TSV with one header become selected.csv or .tsv, Parquet and Hugging Face
    datasets become selected.parquet with all columns and types. Plain text becomes selected.jsonl with id and text, and
    so do formats that are mixed, headers that differ and columns whose types do not agree.

    The sources are read again; a row whose text differs from the one that was scored, or is gone, raises DataError, and
    so does a source in ``chosen`` that the paths do not hold.
    """
    files = sources(paths)
    unknown = [source for source in chosen if source not in files]
    if unknown:
        msg = f"{unknown[0]}: rows of it were chosen but it is not among the inputs: name the inputs that were scored"
        raise DataError(msg)
    fields = Fields(text_field, id_field)
    picked = {source: chosen[source] for source in files if source in chosen and len(chosen[source].rows)}
    kinds = {kind_of(source) for source in files}
    schema = _one_schema(files) if kinds <= set(TABLES) else None
    if schema:
        return _write_table(Path(folder) / "selected.parquet", schema, picked, fields)
    kind = str(kinds.pop()) if len(kinds) == 1 else "mixed"
    header = _one_header(files, kind) if kind in ("csv", "tsv") else None
    if header:
        return _write_records(Path(folder) / f"selected.{kind}", header, picked, fields)
    return _write_objects(Path(folder) / "selected.jsonl", picked, fields)


def write_selected_vectors(folder: Path | str, ids: Sequence[str], chosen: Chosen) -> Path:
    """Write selected.jsonl for ready-made vectors, which have no text: id, row and gapsel's fields, in order of row."""
    path = Path(folder) / "selected.jsonl"
    with whole(path) as out:
        for at in np.argsort(chosen.rows, kind="stable"):
            own = {"id": ids[at], "row": int(chosen.rows[at])}
            out.write(json_line(own | chosen.added(at)))
    return path


def _sorted(chosen: Chosen, places: NDArray[np.intp]) -> Chosen:
    """Return the chosen rows at ``places``, ascending."""
    order = places[np.argsort(chosen.rows[places], kind="stable")]
    nearest = [chosen.nearest[at] for at in order]
    hashes = [chosen.hashes[at] for at in order]
    return Chosen(chosen.rows[order], chosen.score[order], chosen.rank[order], nearest, hashes)


# ---- objects


def _write_objects(path: Path, picked: Mapping[str, Chosen], fields: Fields) -> Path:
    """Write one JSON object a line."""
    with whole(path) as out:
        for source, chosen in picked.items():
            lines = _table_lines if kind_of(source) in TABLES else _text_lines
            for line in lines(source, chosen, fields):
                out.write(line)
    return path


def _text_lines(source: str, chosen: Chosen, fields: Fields) -> Iterator[bytes]:
    """Yield the lines for the chosen rows of a text format."""
    line_of = line_maker(source, fields)
    for row, at in _picked_rows(source, chosen, fields):
        yield line_of(row, chosen.added(at))


def _table_lines(source: str, chosen: Chosen, fields: Fields) -> Iterator[bytes]:
    """Yield the lines for the chosen rows of a Parquet or Arrow file."""
    for batch, part in _picked_batches(source, chosen, fields):
        for at, own in zip(range(part.start, part.stop), batch.to_pylist(), strict=True):
            yield json_line(own | chosen.added(at))


# ---- records


def _write_records(path: Path, header: list[str], picked: Mapping[str, Chosen], fields: Fields) -> Path:
    """Write CSV or TSV, with gapsel's columns last."""
    delimiter = "\t" if path.suffix == ".tsv" else ","
    kept = [at for at, name in enumerate(header) if name not in ADDED]
    with whole(path) as out:
        out.write(_record_line([*(header[at] for at in kept), *ADDED], delimiter))
        for source, chosen in picked.items():
            for row, at in _picked_rows(source, chosen, fields):
                own = [row.raw[column] for column in kept]
                out.write(_record_line([*own, *map(str, chosen.added(at).values())], delimiter))
    return path


def _record_line(record: list[str], delimiter: str) -> bytes:
    r"""Return one record; written with \r\n first, since only then does csv quote a field that holds a lone \r."""
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter, lineterminator="\r\n").writerow(record)
    return line.getvalue()[:-2].encode(errors="surrogateescape") + b"\n"


def _one_header(files: Sequence[str], kind: str) -> list[str] | None:
    """Return the header that all files share, None if they differ."""
    headers = [header_of(file, kind) for file in files]
    return headers[0] if all(header == headers[0] for header in headers) else None


def _picked_rows(source: str, chosen: Chosen, fields: Fields) -> Iterator[tuple[Row, int]]:
    """Yield (row, its place in ``chosen``), each checked against the text that was scored."""
    at = 0
    for row in rows_at(source, fields, set(chosen.rows.tolist())):
        if not isinstance(row, Row) or row.number < chosen.rows[at]:
            continue
        _check(source, chosen, at, row.text if row.number == chosen.rows[at] else None)
        yield row, at
        at += 1
        if at == len(chosen.rows):
            return
    _check(source, chosen, at, None)


# ---- tables


def _write_table(path: Path, own: pa.Schema, picked: Mapping[str, Chosen], fields: Fields) -> Path:
    """Write Parquet with all columns of all files, gapsel's last."""
    scores = {chosen.score.dtype for chosen in picked.values()} or {np.dtype(np.float32)}
    schema = _with_added(own, max(scores))
    with whole(path) as out, pq.ParquetWriter(out, schema) as writer:
        for group in _groups(_added_batches(picked, schema, fields)):
            writer.write_table(pa.Table.from_batches(group, schema))
    return path


def _one_schema(files: Sequence[str]) -> pa.Schema | None:
    """Return the columns of all files together, None if their types do not agree."""
    schemas = [tables.schema(file) for file in files]
    try:
        return pa.unify_schemas(schemas)
    except pa.ArrowException:
        return None


def _with_added(schema: pa.Schema, score: np.dtype[np.floating]) -> pa.Schema:
    """Return the schema with gapsel's columns last, in the feature list that Hugging Face `datasets` keeps as well."""
    types = (pa.from_numpy_dtype(score), pa.int64(), pa.string())
    own = [field for field in schema if field.name not in ADDED]
    metadata = dict(schema.metadata or {})
    if b"huggingface" in metadata:
        described = json.loads(metadata[b"huggingface"])
        added = {
            name: {"dtype": kind, "_type": "Value"}
            for name, kind in zip(ADDED, (score.name, "int64", "string"), strict=True)
        }
        described.setdefault("info", {}).setdefault("features", {}).update(added)
        metadata[b"huggingface"] = json.dumps(described).encode()
    return pa.schema([*own, *map(pa.field, ADDED, types)], metadata=metadata)


def _added_batches(picked: Mapping[str, Chosen], schema: pa.Schema, fields: Fields) -> Iterator[pa.RecordBatch]:
    """Yield the chosen rows with gapsel's columns, fitted to the schema."""
    for source, chosen in picked.items():
        for batch, part in _picked_batches(source, chosen, fields):
            added = (chosen.score[part], chosen.rank[part], list(chosen.nearest[part]))
            own = [_fitted(batch, field) for field in list(schema)[: -len(ADDED)]]
            columns = [pa.array(values, kind) for values, kind in zip(added, schema.types[-len(ADDED) :], strict=True)]
            yield pa.RecordBatch.from_arrays([*own, *columns], schema=schema)


def _fitted(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    """Return a column in the type of the output; nulls where this source lacks it."""
    if field.name not in batch.schema.names:
        return pa.nulls(batch.num_rows, field.type)
    column = batch.column(field.name)
    return column if column.type == field.type else column.cast(field.type)


def _picked_batches(source: str, chosen: Chosen, fields: Fields) -> Iterator[tuple[pa.RecordBatch, slice]]:
    """Yield (chosen rows with all columns, their places in ``chosen``), each checked against the text scored."""
    if not fields_of(fields.text, tables.schema(source).names):
        _check(source, chosen, 0, None)
    done = 0
    with reading(source):
        for batch, part in tables.chosen_rows(source, chosen.rows, _BATCH_ROWS):
            for at, text in zip(range(part.start, part.stop), tables.texts_of(batch, fields), strict=True):
                _check(source, chosen, at, text)
            yield batch, part
            done = part.stop
    if done < len(chosen.rows):
        _check(source, chosen, done, None)


def _groups(batches: Iterator[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Gather batches into row groups of a decent size."""
    group: list[pa.RecordBatch] = []
    for batch in batches:
        group.append(batch)
        if sum(one.num_rows for one in group) >= _GROUP_ROWS or sum(one.nbytes for one in group) >= _GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


# ---- the check


def _check(source: str, chosen: Chosen, at: int, text: object) -> None:
    """Raise unless ``text`` is the one that was scored."""
    if isinstance(text, str) and text_hash(text) == chosen.hashes[at]:
        return
    msg = (
        f"{source} row {chosen.rows[at]}: the text is not the one that was scored, or is gone: the file has changed "
        "since; restore it, or run again into a new folder"
    )
    raise DataError(msg)
