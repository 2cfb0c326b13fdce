"""Weights of the pool from a field of its documents: the same as those in a file, in every format, and what is refused.

The documents have ready-made vectors beside them, so that nothing is embedded.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gapsel
from gapsel.cli import main
from gapsel.errors import DataError, GapselError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

N, M, D, K = 300, 10, 6, 20
CUT = 180
RNG = np.random.default_rng(0)
WEIGHTS = np.where(np.arange(N) % 3 == 0, 0.0, RNG.random(N))
X, Y = RNG.standard_normal((N, D)).astype(np.float32), RNG.standard_normal((M, D)).astype(np.float32)


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def documents(weights: Any = WEIGHTS) -> list[dict[str, Any]]:  # noqa: ANN401 - a list or an array
    return [{"text": f"document {i}", "seen": weight} for i, weight in enumerate(np.asarray(weights, object).tolist())]


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """A pool in a .jsonl and a .parquet, with vectors in two files that are cut elsewhere."""
    rows = documents()
    (tmp_path / "a.jsonl").write_text(lines(rows[:CUT]))
    pq.write_table(pa.Table.from_pylist(rows[CUT:]), tmp_path / "b.parquet")
    np.save(tmp_path / "x0.npy", X[:70])
    np.save(tmp_path / "x1.npy", X[70:])
    np.save(tmp_path / "y.npy", Y)
    np.save(tmp_path / "w.npy", WEIGHTS)
    return {
        "pool": [tmp_path / "a.jsonl", tmp_path / "b.parquet"],
        "pool_vectors": [tmp_path / "x0.npy", tmp_path / "x1.npy"],
        "target_vectors": tmp_path / "y.npy",
        "k": K, "backend": "cpu", "threads": 1, "methods": [],
    }  # fmt: skip


def test_a_field_weighs_as_a_file_does(given: dict[str, Any], tmp_path: Path) -> None:
    by_field = gapsel.run(tmp_path / "field", **given, weight_field="seen")
    by_file = gapsel.run(tmp_path / "file", **given, pool_weights=tmp_path / "w.npy")
    assert by_field.rows.tolist() == by_file.rows.tolist()
    np.testing.assert_array_equal(by_field.scores, by_file.scores)
    alike = gapsel.run(tmp_path / "alike", **given)
    assert not np.array_equal(alike.scores, by_field.scores)
    assert json.loads((tmp_path / "field" / "run.json").read_text())["settings"]["weight_field"] == "seen"


def test_text_that_is_a_number_weighs_too(given: dict[str, Any], tmp_path: Path) -> None:
    rows = "".join(f"document {i},{weight!r}\n" for i, weight in enumerate(WEIGHTS.tolist()))
    (tmp_path / "c.csv").write_text("text,seen\n" + rows)
    by_file = gapsel.run(tmp_path / "file", **given, pool_weights=tmp_path / "w.npy")
    by_field = gapsel.run(tmp_path / "field", **given | {"pool": tmp_path / "c.csv"}, weight_field="seen")
    np.testing.assert_array_equal(by_field.scores, by_file.scores)


def test_another_field_is_another_fit_on_the_same_vectors(given: dict[str, Any], tmp_path: Path) -> None:
    rows = [{**row, "other": 1.0} for row in documents()]
    (tmp_path / "a.jsonl").write_text(lines(rows))
    given["pool"] = tmp_path / "a.jsonl"
    out = tmp_path / "out"
    gapsel.run(out, **given, weight_field="seen")
    before = json.loads((out / "run.json").read_text())["steps"]
    assert main(["fit", "-o", str(out), "--quiet", "--weight-field", "other"]) == 0
    after = json.loads((out / "run.json").read_text())["steps"]
    assert after["embed"] == before["embed"]
    assert after["fit"]["signature"] != before["fit"]["signature"]
    assert main(["select", "-o", str(out), "--quiet"]) == 0
    even = gapsel.run(tmp_path / "even", **given)
    assert gapsel.run(out, **given, weight_field="other").rows.tolist() == even.rows.tolist()


def test_a_mixture_is_weighted_too(given: dict[str, Any], tmp_path: Path) -> None:
    given = {name: value for name, value in given.items() if name not in {"k", "methods"}} | {"clusters": 3}
    by_field = gapsel.mix(tmp_path / "field", **given, weight_field="seen")
    by_file = gapsel.mix(tmp_path / "file", **given, pool_weights=tmp_path / "w.npy")
    assert by_field.to_json() == by_file.to_json()
    assert by_field.to_json() != gapsel.mix(tmp_path / "alike", **given).to_json()


BAD = {
    "null": (None, r"bad\.jsonl row 7: has nothing in 'seen', and a weight is a finite number"),
    "negative": (-0.5, r"bad\.jsonl row 7: has '-0\.5' in 'seen'"),
    "a word": ("much", r"bad\.jsonl row 7: has 'much' in 'seen'.*--weight-field"),
    "a list": ([1.0], r"bad\.jsonl row 7: has '\[1\.0\]'"),
    "true": (True, r"bad\.jsonl row 7: has 'true'"),
    "nan": (float("nan"), r"bad\.jsonl row 7: has 'nan'"),
    "infinite": (float("inf"), r"bad\.jsonl row 7: has 'inf'"),
    "underscores": ("1_0", r"bad\.jsonl row 7: has '1_0'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_row_without_a_weight_is_named(given: dict[str, Any], tmp_path: Path, name: str) -> None:
    value, message = BAD[name]
    rows = documents()
    rows[CUT + 7]["seen"] = value
    (tmp_path / "a.jsonl").write_text(lines(rows[:CUT]))
    (tmp_path / "bad.jsonl").write_text(lines(rows[CUT:]))
    given["pool"] = [tmp_path / "a.jsonl", tmp_path / "bad.jsonl"]
    with pytest.raises(DataError, match=message):
        gapsel.run(tmp_path / "out", **given, weight_field="seen")
    assert not (tmp_path / "out" / "vectors").exists(), "said before the long work"


def test_a_wrong_field_loses_nothing(given: dict[str, Any], tmp_path: Path) -> None:
    chosen = gapsel.run(tmp_path / "out", **given)
    assert main(["fit", "-o", str(tmp_path / "out"), "--quiet", "--weight-field", "text"]) == 3
    assert gapsel.run(tmp_path / "out", **given).rows.tolist() == chosen.rows.tolist()


REFUSED: dict[str, tuple[dict[str, Any], type[GapselError], str]] = {
    "no such field": ({"weight_field": "heavy"}, DataError, "no field 'heavy'; its fields are 'text', 'seen'.*"),
    "with a file": ({"pool_weights": "w.npy"}, UsageError, "weight_field is 'seen': give it or pool_weights: both are"),
    "with a model": ({"loss_weights": "m"}, UsageError, "weight_field is 'seen': give it or loss_weights: both are"),
    "bare vectors": ({"pool": ()}, UsageError, "weight_field is 'seen'.*the pool has vectors alone: give the docu"),
    "a base": ({"base_vectors": "y.npy"}, UsageError, "weight_field is 'seen', and there is a base.*--base-weights"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_weighed_is_refused(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    more, error, message = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        gapsel.run(tmp_path / "out", **{**given, "weight_field": "seen", **more})


def test_weights_that_are_all_zero_are_refused(given: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "zero.jsonl").write_text(lines(documents(np.zeros(N))))
    with pytest.raises(DataError, match=r"zero\.jsonl: the weights in 'seen' sum to 0: give at least one row some"):
        gapsel.run(tmp_path / "out", **given | {"pool": tmp_path / "zero.jsonl"}, weight_field="seen")


def test_arrays_have_no_fields() -> None:
    with pytest.raises(UsageError, match="weight_field is a setting of runs over files"):
        gapsel.Selector(k=K, weight_field="seen")
