"""What lies in the folder of a finished run on real text."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corridor import ADDED, SHARD, K, N, documents, lines, needs_encoder
from gapsel import store

if TYPE_CHECKING:
    from pathlib import Path

    import gapsel


pytestmark = [needs_encoder, pytest.mark.usefixtures("small_shards")]

COLUMNS = {"id", "source", "row", "tokens", "score", "potential", "nearest"}
FILES = {
    "findings.json",
    "model.safetensors",
    "rejected.jsonl",
    "rejected_target.jsonl",
    "report.html",
    "run.json",
    "selected.jsonl",
    "selection.json",
}


def test_run_folder_has_all_its_files(done: gapsel.pipeline.Result) -> None:
    assert {file.name for file in done.folder.iterdir() if file.is_file()} == FILES
    assert {file.name for file in done.folder.iterdir() if file.is_dir()} == {"scores", "vectors"}
    assert len(list((done.folder / "scores").glob("*.parquet"))) == -(-N // SHARD)
    assert not list(done.folder.rglob("*.tmp"))


def test_record_has_what_a_reader_asks_for(home: Path, done: gapsel.pipeline.Result) -> None:
    record = json.loads((done.folder / "run.json").read_text())
    assert record["settings"]["pool"] == [str(home / "pool.jsonl")]
    assert record["inputs"].keys() == {"pool", "target"}
    assert record["versions"]["torch"]
    assert record["peak_memory_bytes"] > 1 << 20
    assert record["steps"]["embed"]["pool"] == {
        "rows": N, "d": 384, "rejected": 1, "tokens": store.open(done.folder / "vectors" / "pool").tokens(),
    }  # fmt: skip
    assert record["steps"]["fit"]["converged"] is True
    for step in record["steps"].values():
        assert step["seconds"] >= 0
        assert all((done.folder / file).exists() for file in step["files"])


def test_rejected_rows_are_kept_with_their_place(home: Path, done: gapsel.pipeline.Result) -> None:
    (rejected,) = lines(done.folder / "rejected.jsonl")
    assert (rejected["file"], rejected["line"]) == (str(home / "pool.jsonl"), N + 1)
    assert lines(done.folder / "rejected_target.jsonl") == []


def test_scores_have_a_row_for_every_document_in_the_pools_order(home: Path, done: gapsel.pipeline.Result) -> None:
    tables = [pq.read_table(file) for file in sorted((done.folder / "scores").glob("*.parquet"))]
    table = pa.concat_tables(tables)
    assert set(table.column_names) == COLUMNS
    assert table.column("row").to_pylist() == list(range(N))
    own = lines(home / "target.jsonl")
    assert set(table.column("nearest").to_pylist()) <= {document["id"] for document in own}
    assert min(table.column("tokens").to_pylist()) > 2
    scores = table.column("score").to_numpy()
    assert np.array_equal(np.argsort(scores, kind="stable")[:K], done.rows)


def test_selected_rows_are_the_users_own_in_source_order_with_three_fields_more(done: gapsel.pipeline.Result) -> None:
    own = {document["id"]: document for document in map(json.loads, documents("pool.jsonl.gz", N))}
    selected = lines(done.file)
    order = list(own)
    assert [order.index(row["id"]) for row in selected] == sorted(done.rows)
    for row in selected:
        added = {name: row.pop(name) for name in ADDED}
        assert row == own[row["id"]]
        at = done.ids.index(row["id"])
        assert (added["gapsel_rank"], added["gapsel_score"]) == (at + 1, done.scores[at])


def test_the_targets_domain_is_found_at_least_as_well_as_by_nearest_neighbours(done: gapsel.pipeline.Result) -> None:
    findings = json.loads((done.folder / "findings.json").read_text())
    precision = {one["name"]: one["precision"] for one in findings["methods"]}
    assert precision["gapsel"] >= precision["nearest neighbours"]
    assert precision["gapsel"] > 0.9 > precision["random"]
    shares = next(one["shares"] for one in findings["compositions"] if one["field"] == "domain")
    assert shares[0]["label"] == "fiction"
    assert done.certificate.percent < 10
    ours = findings["methods"][-1]
    assert asdict(done.distances) == {"before": findings["pool_distance"], "after": ours["mixture"]}
    assert done.distances.after.upper < done.distances.before.lower


def test_findings_and_report_show_texts_and_places(done: gapsel.pipeline.Result) -> None:
    findings = json.loads((done.folder / "findings.json").read_text())
    example = findings["chosen"][0]
    assert example["rank"] == 1
    assert example["id"] == done.ids[0]
    assert all(example[name] for name in ("text", "nearest_text", "nearest_id", "label", "source"))
    assert findings["barely_rejected"][0]["rank"] == K + 1
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    assert done.ids[0] in page
