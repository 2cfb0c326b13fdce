"""What a stream is scored by: what cannot be asked, damaged models, other encoders; and the same from Python."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import gapsel
from gapsel import embed, model
from gapsel.cli import main
from streams import FLAT, POOL, Score, as_jsonl, make_encoder, own_scores, parsed

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("offline")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--keep=0.1%"], "keep 2% or more, fit on more rows"),
        (["--keep=1"], "give per cent between 0 and 100, like 1%"),
        (["--threshold=nan"], "threshold is nan: give a score"),
        (["--batch-rows=0"], "batch_rows is 0: give at least 1"),
        (["--json"], "--json goes with -o"),
    ],
)
def test_what_cannot_be_asked_is_a_matter_of_usage(
    with_vectors: Path, score: Score, flags: list[str], says: str
) -> None:
    code, out, err = score(b"", "--model", str(with_vectors / "out"), str(with_vectors / "pool.npy"), *flags)
    assert (code, out) == (2, b"")
    assert says in err


@pytest.mark.parametrize("flags", [["pool.jsonl"], ["--keep=1%"], ["--format=arrow"], ["--rejects=x"]])
def test_what_belongs_to_a_model_file_is_refused_in_a_run_folder(
    with_vectors: Path, score: Score, flags: list[str]
) -> None:
    code, _, err = score(b"", "-o", str(with_vectors / "out"), *flags)
    assert code == 2
    assert "goes with --model MODEL" in err


def test_either_a_run_folder_or_a_model_is_named(with_vectors: Path) -> None:
    for flags in ([], ["-o", str(with_vectors / "out"), "--model", "x"], ["--model=x", "--keep=1%", "--threshold=0"]):
        with pytest.raises(SystemExit) as ended:
            main(["score", *flags])
        assert ended.value.code == 2
    assert main(["score", "-o", str(with_vectors / "out"), "--quiet"]) == 0


def refused(fitted: Path, score: Score, *flags: str) -> str:
    code, out, err = score(as_jsonl(POOL[:3]), "--model", "model.safetensors", *flags)
    assert (code, out) == (3, b"")
    made = model.load(fitted / "out").embedder
    assert f"the model was fitted with, 'tiny' (fingerprint {made['hash']})" in err
    return str(err)


def test_another_encoder_of_the_same_name_is_refused(fitted: Path, score: Score) -> None:
    shutil.copy(fitted / "out/model.safetensors", "model.safetensors")
    other = make_encoder(Path("elsewhere/tiny"), 1)
    message = refused(fitted, score, "--encoder", str(other))
    assert "the encoder 'tiny' (fingerprint" in message
    assert "they differ in model.safetensors: name the folder of the right one" in message
    shutil.copytree(fitted / "tiny", "moved")
    code, out, _ = score(as_jsonl(POOL), "--model", "model.safetensors", "--encoder", "moved")
    assert code == 0
    assert {row["id"]: row["gapsel_score"] for row in parsed(out)} == own_scores(fitted)


def test_an_encoder_that_is_not_found_is_asked_for(score: Score, fitted: Path) -> None:
    shutil.copy(fitted / "out/model.safetensors", "model.safetensors")
    code, _, err = score(as_jsonl(POOL[:3]), "--model", "model.safetensors")
    assert code == 2
    assert "fitted with the encoder 'tiny': name its folder (--encoder)" in err


@pytest.mark.parametrize("settings", [{"pooling": "last"}, {"max_tokens": 16}])
def test_an_encoder_used_in_another_way_is_refused(fitted: Path, settings: dict[str, Any]) -> None:
    used: dict[str, Any] = {"pooling": "mean", "max_tokens": 32, "dtype": "float32"}
    other = embed.load(fitted / "tiny", **(used | settings))
    with pytest.raises(gapsel.DataError, match=f"they differ in {next(iter(settings))}: name the folder"):
        gapsel.load(fitted / "out", encoder=other).score_texts(["king"])
    same = embed.load(fitted / "tiny", **used)
    assert len(gapsel.load(fitted / "out", encoder=same).score_texts(["king", "psalm"])) == 2


@pytest.mark.parametrize(("data", "says"), [(None, "there is no model"), (b"x" * 99, "cannot be read as a model")])
def test_a_bad_model_file_is_bad_data(score: Score, data: bytes | None, says: str) -> None:
    if data is not None:
        Path("bad.safetensors").write_bytes(data)
    code, out, err = score(as_jsonl(POOL), "--model", "bad.safetensors")
    assert (code, out) == (3, b"")
    assert f"bad.safetensors: {says}" in err


def test_texts_and_batches_from_python(fitted: Path) -> None:
    own, loaded = own_scores(fitted), gapsel.load(fitted / "out", threads=1)
    scores = loaded.score_texts([row["text"] for row in POOL])
    assert scores.tolist() == list(own.values())
    assert loaded.score_texts([]).shape == (0,)
    with pytest.raises(gapsel.UsageError, match="one string"):
        loaded.score_texts("king")
    rows = [row | {"text": None if at == 4 else row["text"]} for at, row in enumerate(FLAT[:10])]
    table = pa.Table.from_pylist(rows)
    found = pa.Table.from_batches(loaded.score_batches(iter([table.slice(0, 3), *table.slice(3).to_batches()])))
    assert found.drop_columns(["gapsel_score"]) == table
    values = found["gapsel_score"].to_pylist()
    assert values[4] is None
    assert values[5:] == pytest.approx(scores[5:10], abs=1e-4)
