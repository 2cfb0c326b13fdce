"""What a sample says of a corpus: rows, bad rows, bytes, whatever the format."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gapsel.corpus.rows import Fields
from gapsel.errors import DataError
from gapsel.plan import pieces, ready, sample
from texts import as_csv, as_json, as_jsonl, as_txt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS = 6000


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 1 << 13)
    monkeypatch.setattr(pieces, "PIECES", 16)
    monkeypatch.setattr(pieces, "WHOLE", 0)


def documents(count: int = ROWS, seed: int = 0) -> list[dict[str, Any]]:
    """Documents of very different lengths, the later ones longer."""
    rng = np.random.default_rng(seed)
    lengths = rng.lognormal(3.5, 0.8, count) * np.linspace(0.8, 1.2, count)
    words = ["".join(map(chr, rng.integers(97, 123, size=6))) for _ in range(2000)]
    texts = (" ".join(words[at] for at in rng.integers(2000, size=int(1 + length / 7))) for length in lengths)
    return [{"id": str(at), "text": text} for at, text in enumerate(texts)]


def jsonl(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "pool.jsonl"
    file.write_bytes(as_jsonl(rows))
    return file


def packed(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "pool.jsonl.gz"
    file.write_bytes(gzip.compress(as_jsonl(rows)))
    return file


def zstd(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "pool.jsonl.zst"
    with pa.output_stream(file, compression="zstd") as stream:
        stream.write(as_jsonl(rows))
    return file


def array(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "pool.json"
    file.write_bytes(as_json(rows))
    return file


def csv(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "pool.csv"
    file.write_bytes(as_csv([{**row, "text": f"{row['text']}\nand a line"} for row in rows]))
    return file


def txt(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "pool.txt"
    file.write_bytes(as_txt(rows))
    return file


def arrow(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "pool.arrow"
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    return file


def parts(folder: Path, rows: list[dict[str, Any]]) -> Path:
    for at in range(0, len(rows), 1000):
        own = folder / f"part{at}"
        own.mkdir(parents=True)
        (packed if at % 2000 else jsonl)(own, rows[at : at + 1000])
    return folder


@pytest.mark.parametrize("write", [jsonl, packed, zstd, array, csv, txt, arrow, parts])
def test_rows_are_estimated_from_pieces(tmp_path: Path, write: Callable[[Path, list[dict[str, Any]]], Path]) -> None:
    found = sample.take([str(write(tmp_path, documents()))], "text", "id")
    assert found.seen < 0.8 * ROWS or write is zstd  # which is read in larger pieces
    assert found.rows.value == pytest.approx(ROWS, rel=0.2)
    assert found.rows.low <= ROWS <= found.rows.high
    assert not found.bad
    assert (found.beginnings > 0) == (write not in {jsonl, txt, zstd})


def test_parquet_says_its_rows(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(documents()), tmp_path / "pool.parquet")
    found = sample.take([str(tmp_path / "pool.parquet")], "text", "id")
    assert found.rows == sample.Estimate(ROWS, ROWS, ROWS)
    assert found.seen <= 4096


def test_what_is_small_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "WHOLE", 1 << 22)
    file = jsonl(tmp_path, documents(500))
    file.write_bytes(file.read_bytes() + b"{broken\n")
    found = sample.take([str(file)], "text", "id")
    assert found.rows == sample.Estimate(500, 500, 500)
    assert found.rejected == pytest.approx(1)
    assert found.row_bytes == pytest.approx((file.stat().st_size - 8) / 500)


def test_bad_rows_have_share_reason_and_example(tmp_path: Path) -> None:
    lines = as_jsonl(documents()).splitlines(keepends=True)
    for at in range(0, ROWS, 10):
        lines[at] = b'{"id": "x", "text": ""}\n'
    lines[5::20] = [b"{broken\n"] * len(lines[5::20])
    (tmp_path / "pool.jsonl").write_bytes(b"".join(lines))
    found = sample.take([str(tmp_path / "pool.jsonl")], "text", "id")
    share = {one.reason.split(" (")[0]: one.share for one in found.bad}
    assert share["the text is empty"] == pytest.approx(0.10, rel=0.4)
    assert share["not JSON"] == pytest.approx(0.05, rel=0.4)
    assert found.bad[0].file == str(tmp_path / "pool.jsonl")
    assert '"text": ""' in found.bad[0].value
    assert found.rows.value == pytest.approx(0.85 * ROWS, rel=0.2)


def test_lines_longer_than_a_piece_are_no_bad_rows(tmp_path: Path) -> None:
    rows = [{"text": "w" * 50_000} for _ in range(100)]
    found = sample.take([str(jsonl(tmp_path, rows))], "text", "id")
    assert not found.bad
    assert found.rows.low <= 100 <= found.rows.high


def test_a_last_line_without_an_end_counts(tmp_path: Path) -> None:
    file = tmp_path / "pool.txt"
    file.write_bytes(b"\n".join(b"line %d" % at for at in range(1700)))
    size = file.stat().st_size
    last = pieces.look(pieces.Piece(str(file), size - 4000, 4000, 1, size), Fields("text", "id"))
    assert last.good[-1].text == "line 1699"


def test_pieces_lie_all_over_and_large_files_get_more() -> None:
    files = [("a.jsonl", 2 << 20), ("b.jsonl", 6 << 20), ("c.jsonl.gz", 8 << 20)]
    plain, packed_ones = pieces.alike(files)
    laid = pieces.lay_out(plain)
    count = {name: [piece for piece in laid if piece.source.startswith(name)] for name in "ab"}
    assert [len(count[name]) for name in "ab"] == [4, 12]
    assert [(piece.offset, piece.share) for piece in pieces.lay_out(packed_ones, 8)] == [(0, 8)]
    offsets = [piece.offset for piece in count["b"]]
    assert offsets == sorted(offsets)
    assert offsets[-1] > 5 << 20
    assert sum(piece.length for piece in laid) <= pieces.PIECES * pieces.PIECE


def test_nothing_usable_is_an_error_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "pool.jsonl").write_bytes(b'{"body": "text"}\n' * 1000)
    with pytest.raises(DataError, match=r"no usable document among the .* no field 'text'"):
        sample.take([str(tmp_path / "pool.jsonl")], "text", "id")


@pytest.mark.parametrize("kind", ["npy", "parquet", "double"])
def test_ready_vectors_are_known_from_their_headers(tmp_path: Path, kind: str) -> None:
    x = np.random.default_rng(0).normal(size=(700, 6)).astype(np.float64 if kind == "double" else np.float16)
    file = tmp_path / f"x.{'parquet' if kind == 'parquet' else 'npy'}"
    if kind == "parquet":
        pq.write_table(pa.table({"id": list(map(str, range(700))), "v": list(x.astype(np.float32))}), file)
    else:
        np.save(file, x)
    found = ready.look([str(file)])
    assert (found.n, found.d, found.number_bytes) == (700, 6, 2 if kind == "npy" else 4)
    assert found.stored == (kind != "npy")
    known = {tuple(row) for row in x.astype(np.float32)}
    assert {tuple(row) for row in found.some} <= known


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((2, 2), int), np.zeros((0, 2))])
def test_what_is_no_vectors_is_refused(tmp_path: Path, bad: Any) -> None:  # noqa: ANN401
    np.save(tmp_path / "x.npy", bad)
    with pytest.raises(DataError, match=r"x\.npy: is"):
        ready.look([str(tmp_path / "x.npy")])


def test_vectors_of_two_embedders_are_refused(tmp_path: Path) -> None:
    for d in (2, 3):
        np.save(tmp_path / f"{d}.npy", np.ones((4, d), np.float32))
    with pytest.raises(DataError, match="use vectors of one embedder"):
        ready.look([str(tmp_path / "2.npy"), str(tmp_path / "3.npy")])


def test_texts_are_those_of_the_pieces(tmp_path: Path) -> None:
    rows = documents()
    known = {row["text"] for row in rows}
    found = sample.take([str(jsonl(tmp_path, rows))], "text", "id")
    assert all(row.text in known for row in found.text)
    assert json.loads(str(found.text[0].raw)).keys() == {"id", "text"}


def test_files_elsewhere_are_looked_at_by_parts(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for write in (jsonl, packed):
        file = write(tmp_path, documents())
        system.pipe(f"/plan/{file.name}", file.read_bytes())
        here = sample.take([str(file)], "text", "id")
        there = sample.take([f"memory://plan/{file.name}"], "text", "id")
        assert (there.rows, there.seen, there.bytes) == (here.rows, here.seen, here.bytes)
    system.rm("/plan", recursive=True)
