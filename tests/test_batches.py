"""Batches of other people's pipelines: in every form, with the bits of `gapsel score`, and every row in its place."""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

import gapsel
from gapsel.stream.forms import form_of
from streams import FLAT, POOL, Score, as_jsonl, make_encoder, own_scores, parsed

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("offline")


def frame(table: pa.Table) -> Any:  # noqa: ANN401 - a pandas.DataFrame
    return pytest.importorskip("pandas").DataFrame(arrays(table))


def arrays(table: pa.Table) -> dict[str, NDArray[Any]]:
    """As Ray Data gives them."""
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


MADE: dict[str, Callable[[pa.Table], Any]] = {
    "table": lambda table: table,
    "table in pieces": lambda table: pa.concat_tables([table.slice(0, 7), table.slice(7)]),
    "record batch": lambda table: table.combine_chunks().to_batches()[0],
    "arrays": arrays,
    "lists": pa.Table.to_pydict,
    "frame": frame,
}
each_form = pytest.mark.parametrize("make", MADE.values(), ids=MADE)


def listed(batch: object, name: str) -> list[Any]:
    """Return a column, None for what is null or NaN."""
    values = form_of(batch).column(name).to_pylist()
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values]


def unknown(vector: list[float | None] | None) -> bool:
    """Whether there is no vector, or one of nulls or NaN, as forms without nulls have it."""
    return vector is None or all(number is None or math.isnan(number) for number in vector)


@each_form
def test_every_form_of_a_batch_of_texts_has_the_runs_own_scores(fitted: Path, make: Callable[[pa.Table], Any]) -> None:
    batch = make(pa.Table.from_pylist(FLAT))
    found = gapsel.BatchScorer(fitted / "out", threads=1)(batch)
    assert type(found) is type(batch)
    assert list(form_of(found).names) == [*FLAT[0], "gapsel_score"]
    assert listed(found, "gapsel_score") == list(own_scores(fitted).values())
    for name in FLAT[0]:
        assert listed(found, name) == [row[name] for row in FLAT]


@each_form
def test_a_vector_has_one_score_however_batches_are_cut(with_vectors: Path, make: Callable[[pa.Table], Any]) -> None:
    """Its column is found without a name: the model knows no encoder."""
    pool = np.load(with_vectors / "pool.npy")
    table = pa.table({"at": np.arange(len(pool)), "x": list(pool), "label": ["a"] * len(pool)})
    scorer, found = gapsel.BatchScorer(with_vectors / "out", threads=1), []
    cuts = [0, 1, 2, 9, 108, len(pool)]
    for first, stop in pairwise(cuts):
        found += listed(scorer(make(table.slice(first, stop - first))), "gapsel_score")
    assert found == list(own_scores(with_vectors).values())


def tensors(vectors: NDArray[np.float32]) -> pa.ExtensionArray:
    """Of a type that extends what it is stored as, as Ray's do."""
    stored = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), vectors.shape[1:]), stored)


def test_matrices_and_tensors_are_columns_of_vectors(with_vectors: Path) -> None:
    pool = np.load(with_vectors / "pool.npy")[:40]
    scorer = gapsel.BatchScorer(with_vectors / "out", vector_field="x")
    expected = list(own_scores(with_vectors).values())[:40]
    made: list[Any] = [{"x": pool}, {"x": pool.astype(np.float64)}, pa.table({"x": tensors(pool)})]
    for batch in made:
        assert listed(scorer(batch), "gapsel_score") == expected


@each_form
def test_rows_that_cannot_be_used_keep_their_place(fitted: Path, make: Callable[[pa.Table], Any]) -> None:
    texts = ["king lord", None, "", " ", "psalm"]
    scorer = gapsel.BatchScorer(fitted / "out", keep="50%", threads=1)
    found = scorer(make(pa.table({"text": texts, "n": range(5)})))
    scores, kept = listed(found, "gapsel_score"), listed(found, "gapsel_kept")
    assert [score is None for score in scores] == [False, True, True, True, False]
    assert listed(found, "text") == texts
    assert not any(kept[1:4])
    vectors = listed(gapsel.BatchEmbedder(fitted / "out")(found), "gapsel_vector")
    assert [unknown(vector) for vector in vectors] == [score is None for score in scores]


def test_a_batch_without_a_single_text_or_vector_is_no_error(fitted: Path, with_vectors: Path) -> None:
    empty: list[Any] = [pa.table({"text": pa.nulls(3)}), {"text": np.array([None] * 3)}, {"text": []}]
    for batch in empty:
        assert listed(gapsel.BatchScorer(fitted / "out")(batch), "gapsel_score") == [None] * len(batch["text"])
    scorer = gapsel.BatchScorer(with_vectors / "out", vector_field="x")
    assert listed(scorer({"x": [None, [1.0, 2.0], [math.nan] * 6, [0.0] * 6]}), "gapsel_score") == [None] * 4


def test_keep_marks_what_the_command_passes_on(fitted: Path, score: Score) -> None:
    code, out, _ = score(as_jsonl(POOL), "--model", str(fitted / "out"), "--keep=10%")
    assert code == 0
    found = gapsel.BatchScorer(fitted / "out", keep="10%")(pa.Table.from_pylist(FLAT))
    kept = [name for name, kept in zip(found["id"].to_pylist(), found["gapsel_kept"].to_pylist(), strict=True) if kept]
    assert kept == [row["id"] for row in parsed(out)]
    assert 0 < len(kept) < len(POOL)


@each_form
def test_vectors_are_those_of_the_run_and_have_its_scores(fitted: Path, make: Callable[[pa.Table], Any]) -> None:
    embedder = gapsel.BatchEmbedder(fitted / "out", threads=1)
    found = embedder(make(pa.Table.from_pylist(FLAT)))
    own = np.load(fitted / "out/vectors/pool/00000.npy")
    column = form_of(found).column("gapsel_vector")
    assert column.flatten().to_numpy(zero_copy_only=False).tobytes() == own.tobytes()
    scored = gapsel.BatchScorer(fitted / "out", vector_field="gapsel_vector")(found)
    assert listed(scored, "gapsel_score") == list(own_scores(fitted).values())


def test_an_encoder_is_named_where_there_is_no_model_yet(fitted: Path) -> None:
    used: dict[str, Any] = {"encoder": fitted / "tiny", "max_tokens": 32, "dtype": "float32"}
    found = gapsel.BatchEmbedder(**used, vector_field="x")({"text": [row["text"] for row in POOL]})
    assert found["x"].tobytes() == np.load(fitted / "out/vectors/pool/00000.npy").tobytes()


def test_what_cannot_be_read_is_said(fitted: Path, with_vectors: Path) -> None:
    texts, vectors = gapsel.BatchScorer(fitted / "out"), gapsel.BatchScorer(with_vectors / "out")
    refused: list[tuple[Any, Any, str]] = [
        (texts, {"body": ["x"]}, "a batch: has no field 'text'; its fields are 'body'"),
        (texts, pa.table({"text": [1, 2]}), "column 'text' is of type int64 and not a string"),
        (texts, {"text": ["x", 1]}, "column 'text' of a batch holds values that are not of one type"),
        (gapsel.BatchEmbedder(fitted / "out"), {"body": ["x"]}, "has no field 'text'"),
        (vectors, {"x": ["king"]}, "has no column of lists of floats"),
        (vectors, {"x": np.ones((2, 7))}, "the vectors have 7 dimensions, the model 6"),
        (vectors, {"x": np.ones((2, 6)), "y": np.ones((2, 6))}, "lists of floats: name one, x, y"),
    ]
    for callable_, batch, says in refused:
        with pytest.raises(gapsel.DataError, match=says):
            callable_(batch)
    with pytest.raises(gapsel.DataError, match="501 of the first 1,001 rows cannot be used"):
        texts({"text": ["king"] * 500 + [""] * 600})
    with pytest.raises(gapsel.UsageError, match="a batch is of type list: give a pyarrow Table"):
        texts(["king"])
    with pytest.raises(gapsel.UsageError, match="ready-made vectors"):
        gapsel.BatchEmbedder(with_vectors / "out")({"text": ["king"]})


def test_what_cannot_be_made_is_said(fitted: Path) -> None:
    with pytest.raises(gapsel.DataError, match="there is no model"):
        gapsel.BatchScorer("nowhere")
    with pytest.raises(gapsel.UsageError, match="give per cent"):
        gapsel.BatchScorer(fitted / "out", keep="1")
    with pytest.raises(gapsel.UsageError, match="the model says how its encoder is used"):
        gapsel.BatchEmbedder(fitted / "out", pooling="cls")
    with pytest.raises(gapsel.UsageError, match="known are pooling, max_tokens, dtype"):
        gapsel.BatchEmbedder(features="hidden")
    other = make_encoder(Path("elsewhere/tiny"), 1)
    for make in (gapsel.BatchScorer, gapsel.BatchEmbedder):
        with pytest.raises(gapsel.DataError, match="is not the one that the model was fitted with"):
            make(fitted / "out", encoder=other)({"text": ["king"]})


def test_what_is_loaded_stays_and_the_model_travels(fitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker need not see the model's file; it is told by OMP_NUM_THREADS how many processors it has."""
    told: list[int] = []
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    Path("moved").mkdir()
    Path("moved/model.safetensors").write_bytes((fitted / "out/model.safetensors").read_bytes())
    for make in (gapsel.BatchScorer, gapsel.BatchEmbedder):
        used = make("moved", encoder=fitted / "tiny")
        expected = used({"text": ["king lord"]})
        # What pickle does too.
        there = copy.deepcopy(used)
        assert "_tool" in vars(used)
        assert "_tool" not in vars(there)
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        found = there({"text": ["king lord"]})
        assert told[-1] == 3
        assert {name: listed(found, name) for name in found} == {name: listed(expected, name) for name in expected}
        make(fitted / "out", threads=2)({"text": ["king lord"]})
        assert told[-1] == 2
