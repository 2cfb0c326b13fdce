"""The same choice by other ways: arrays, ready-made vectors, other formats, another cut into shards."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gapsel
from corridor import ADDED, K, M, N, documents, lines, matrix, needs_encoder
from gapsel.cli import main

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = [needs_encoder, pytest.mark.usefixtures("small_shards")]


@pytest.mark.parametrize("mass", [0, 0.5])
def test_selector_chooses_the_same_rows_of_the_same_vectors(
    home: Path, done: gapsel.pipeline.Result, beside: dict[str, Any], mass: float
) -> None:
    x, y = (matrix(done.folder, side) for side in ("pool", "target"))
    chosen = gapsel.Selector(k=K, mass=mass).fit(y, x).select()
    there = done if mass == 0.5 else gapsel.run(home / "at_mass_0", **beside, mass=mass)
    assert np.array_equal(chosen.rows, there.rows)
    assert np.array_equal(chosen.scores, there.scores)


@pytest.mark.usefixtures("no_encoder")
def test_vectors_beside_texts_choose_the_same_without_an_encoder(
    home: Path, done: gapsel.pipeline.Result, beside: dict[str, Any]
) -> None:
    again = gapsel.run(home / "beside", **beside)
    assert again.ids == done.ids
    assert np.array_equal(again.scores, done.scores)
    assert again.file.read_bytes() == done.file.read_bytes()


@pytest.mark.usefixtures("no_encoder")
def test_a_config_repeats_a_run_bit_for_bit(home: Path, beside: dict[str, Any]) -> None:
    first = gapsel.run(home / "first", **beside, mass=0.3, seed=7)
    assert main(["run", "--config", str(home / "first" / "run.json"), "-o", str(home / "second"), "--quiet"]) == 0
    for file in ("selected.jsonl", "selection.json", "rejected.jsonl", "scores/00001.parquet"):
        assert (first.folder / file).read_bytes() == (home / "second" / file).read_bytes(), file


@pytest.mark.usefixtures("no_encoder")
def test_threads_and_shards_change_no_bit(home: Path, beside: dict[str, Any]) -> None:
    x = np.load(beside["pool_vectors"])
    parts = []
    for first, last in ((0, 1), (1, 50), (50, N)):
        np.save(home / f"part{first}.npy", x[first:last])
        parts.append(home / f"part{first}.npy")
    ways: dict[str, dict[str, Any]] = {
        "one": {"threads": 1},
        "two": {"threads": 2},
        "parts": {"pool_vectors": parts},
    }
    target = {"target_vectors": beside["target_vectors"], "k": K}
    results = [
        gapsel.run(home / f"way_{name}", **{"pool_vectors": beside["pool_vectors"], **target, **way})
        for name, way in ways.items()
    ]
    for other in results[1:]:
        assert np.array_equal(results[0].rows, other.rows)
        assert np.array_equal(results[0].scores, other.scores)
        assert other.certificate == results[0].certificate


@pytest.mark.usefixtures("no_encoder")
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_selection_has_the_format_of_the_pool(home: Path, beside: dict[str, Any], form: str) -> None:
    rows = list(map(json.loads, documents("pool.jsonl.gz", N)))
    file = home / f"pool.{form}"
    if form == "csv":
        with file.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), file)
    chosen = gapsel.run(home / f"of_{form}", **{**beside, "pool": file})
    assert chosen.file.name == f"selected.{form}"
    if form == "csv":
        with chosen.file.open(encoding="utf-8", newline="") as stream:
            selected: list[dict[str, Any]] = list(csv.DictReader(stream))
    else:
        selected = pq.read_table(chosen.file).to_pylist()
    assert list(selected[0]) == [*rows[0], *ADDED]
    assert {row["id"] for row in selected} == set(chosen.ids)
    assert [int(row["gapsel_rank"]) for row in selected] == [chosen.ids.index(row["id"]) + 1 for row in selected]


@pytest.mark.usefixtures("no_encoder")
def test_vectors_alone_are_selected_by_their_ids(home: Path, beside: dict[str, Any]) -> None:
    x = np.load(beside["pool_vectors"]).astype(np.float32)
    ids = [f"doc-{row}" for row in range(N)]
    pq.write_table(pa.table({"id": ids, "v": list(x)}), home / "pool_vectors.parquet")
    target = {"target_vectors": beside["target_vectors"], "k": K}
    chosen = gapsel.run(home / "alone", pool_vectors=home / "pool_vectors.parquet", **target)
    selected = lines(chosen.file)
    assert [row["id"] for row in selected] == [ids[row] for row in sorted(chosen.rows)]
    assert chosen.ids == [ids[row] for row in chosen.rows]


@pytest.mark.usefixtures("no_encoder")
def test_texts_and_vectors_of_another_width_are_refused_before_any_work(home: Path, beside: dict[str, Any]) -> None:
    np.save(home / "narrow.npy", np.ones((M, 8), np.float32))
    with pytest.raises(gapsel.DataError, match="384 dimensions, those of the target 8: embed both"):
        gapsel.run(home / "mixed", **{**beside, "target_vectors": home / "narrow.npy"})
    assert not (home / "mixed").exists()
