"""Documents scored by a model file while they pass: the run's own scores, every row accounted for, no end needed."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gapsel
from gapsel import corpus, embed, model, stream
from gapsel.backends.cpu import CpuBackend
from gapsel.cli import main
from gapsel.stream.inputs import Inputs
from texts import FORMS, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

WORDS = ["cell", "protein", "gene", "king", "lord", "psalm", "table", "index", "row", "query", "page", "file"]
SOURCE = [sys.executable, "-c", "import sys; from gapsel.cli import main; sys.exit(main())"]


def documents(count: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 12, count)
    texts = [" ".join(rng.choice(WORDS, length)) for length in lengths]
    return [{"id": f"d{at}", "text": text, "more": [at, {"ü": None}]} for at, text in enumerate(texts)]


POOL = documents(300, 0)
FLAT = [row | {"more": at} for at, row in enumerate(POOL)]


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def make_encoder(folder: Path, seed: int) -> Path:
    """Save a tiny encoder with random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(["?", *WORDS])}, unk_token="?"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(folder)  # noqa: S106
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=len(WORDS) + 1, n_positions=32, n_embd=16, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=None
    )
    transformers.GPT2Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on texts, with its encoder and its pool beside it."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "pool.jsonl").write_bytes(as_jsonl(POOL))
    (folder / "target.jsonl").write_bytes(as_jsonl(documents(12, 1)))
    encoder = make_encoder(folder / "tiny", 0)
    gapsel.run(
        folder / "out", pool=folder / "pool.jsonl", target=folder / "target.jsonl", model=encoder, k=30, max_tokens=32,
        dtype="float32",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def with_vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on ready-made vectors."""
    folder, rng = tmp_path_factory.mktemp("vectors"), np.random.default_rng(0)
    np.save(folder / "pool.npy", rng.normal(size=(500, 6)).astype(np.float32))
    np.save(folder / "target.npy", rng.normal(size=(8, 6)).astype(np.float32))
    gapsel.run(folder / "out", pool_vectors=folder / "pool.npy", target_vectors=folder / "target.npy", k=50)
    return folder


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


class Terminal(io.TextIOWrapper):
    """Text over bytes, as the standard streams are."""


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, bytes, str]]:
    """Run `gapsel score` in this process: (what comes in, flags) -> (exit code, what goes out, what is told)."""

    def run(stdin: bytes, *flags: str) -> tuple[int, bytes, str]:
        out = io.BytesIO()
        monkeypatch.setattr(sys, "stdin", Terminal(io.BufferedReader(io.BytesIO(stdin))))
        monkeypatch.setattr(sys, "stdout", Terminal(out))
        code = main(["score", *flags])
        return code, out.getvalue(), capsys.readouterr().err

    return run


Score = Any


def own_scores(run: Path) -> dict[str, float]:
    table = pa.concat_tables([pq.read_table(file) for file in sorted((run / "out/scores").iterdir())])
    return dict(zip(table["id"].to_pylist(), table["score"].to_pylist(), strict=True))


def parsed(out: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def arrow(rows: list[dict[str, Any]], batches: int = 3) -> bytes:
    table, out = pa.Table.from_pylist(rows), io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=-(-len(rows) // batches))
    return out.getvalue()


# ---- the same scores, every row


def test_a_stream_of_the_pool_has_the_runs_own_scores_bit_for_bit(fitted: Path, score: Score) -> None:
    code, out, err = score(as_jsonl(POOL), "--model", str(fitted / "out"))
    assert code == 0
    rows = parsed(out)
    assert [{name: row[name] for name in POOL[0]} for row in rows] == POOL
    assert {row["id"]: row["gapsel_score"] for row in rows} == own_scores(fitted)
    assert "scored 300 documents; set aside 0" in err
    assert score(b"", "--model", str(fitted / "out"), str(fitted / "pool.jsonl"))[1] == out


def test_rows_keep_their_characters(fitted: Path, score: Score) -> None:
    line = b'{ "text":"cell  gene", "x": 1.50, "gapsel_scores": [1] }'
    code, out, _ = score(line + b"\n\n" + line, "--model", str(fitted / "out"))
    assert code == 0
    assert [found.rpartition(b', "gapsel_score":')[0] for found in out.splitlines()] == [line[:-2]] * 2
    again = score(out, "--model", str(fitted / "out"))[1]
    assert parsed(again) == parsed(out), "a score that was there is replaced"


@pytest.mark.parametrize("batch_rows", ["1", "7", "64"])
def test_the_size_of_parts_moves_no_score_by_more_than_rounding(fitted: Path, score: Score, batch_rows: str) -> None:
    own = own_scores(fitted)
    out = score(as_jsonl(POOL[:80]), "--model", str(fitted / "out"), "--batch-rows", batch_rows)[1]
    found = {row["id"]: row["gapsel_score"] for row in parsed(out)}
    assert list(found) == list(own)[:80]
    assert max(abs(found[name] - own[name]) for name in found) < 1e-3 * np.std(list(own.values()))


@pytest.mark.parametrize("kind", [*FORMS, "jsonl.gz", "parquet", "arrow"])
def test_files_of_every_format_are_scored(fitted: Path, score: Score, kind: str) -> None:
    rows = [{"id": row["id"], "text": row["text"]} for row in POOL[:40]]
    file = Path(f"some.{kind}")
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif kind == "arrow":
        file.write_bytes(arrow(rows))
    else:
        write(file, FORMS[kind.removesuffix(".gz")](rows))
    code, out, _ = score(b"", "--model", str(fitted / "out/model.safetensors"), str(file))
    assert code == 0
    found = parsed(out)
    assert [row["text"] for row in found] == [row["text"] for row in rows]
    assert [row["id"] for row in found] == [f"some.txt:{at}" if kind == "txt" else f"d{at}" for at in range(40)]
    own = own_scores(fitted)
    assert [row["gapsel_score"] for row in found] == pytest.approx([own[f"d{at}"] for at in range(40)], abs=1e-4)


def test_inputs_are_scored_in_their_order(fitted: Path, score: Score) -> None:
    Path("a.jsonl").write_bytes(as_jsonl(POOL[:3]))
    Path("b.txt").write_text("king lord\n")
    flags = ["--model", str(fitted / "out"), "b.txt", "-", "a.jsonl"]
    found = parsed(score(as_jsonl(POOL[5:7]), *flags)[1])
    assert [row["id"] for row in found] == ["b.txt:0", "d5", "d6", "d0", "d1", "d2"]


# ---- rows that cannot be used

BAD = b'{"text": "cell gene"}\n{broken\n{"text": " "}\n{"text": null}\n{"no": 1}\n' + b'{"text": "king"}\n' * 5


def test_rows_that_cannot_be_used_are_set_aside_and_told(fitted: Path, score: Score) -> None:
    code, out, err = score(BAD, "--model", str(fitted / "out"), "--quiet")
    assert (code, len(out.splitlines())) == (0, 6)
    assert "scored 6 documents; set aside 4" in err
    assert "1 x the text is empty, for example standard input row 3" in err
    code, _, err = score(BAD, "--model", str(fitted / "out"), "--rejects", "aside.jsonl")
    assert code == 0
    assert "see aside.jsonl" in err
    assert [row["line"] for row in parsed(Path("aside.jsonl").read_bytes())] == [2, 3, 4, 5]


def test_rows_that_are_only_counted_fill_no_disk() -> None:
    rejects = corpus.Rejects(listed=False)
    rejects.add("a", 1, "empty", "")
    assert (rejects.count, rejects.example["empty"].line) == (1, 1)
    assert rejects.finish("none.jsonl").read_bytes() == b""


def test_a_stream_that_is_mostly_bad_ends_with_an_error_and_its_rejects(fitted: Path, score: Score) -> None:
    code, _, err = score(b"{\n" * 3 + as_jsonl(POOL[:2]), "--model", str(fitted / "out"), "--rejects", "aside.jsonl")
    assert code == 3
    assert "3 of the first 5 rows cannot be used" in err
    assert len(Path("aside.jsonl").read_bytes().splitlines()) == 3


def test_an_empty_stream_is_no_error(fitted: Path, score: Score) -> None:
    assert score(b"", "--model", str(fitted / "out"))[:2] == (0, b"")
    code, out, _ = score(arrow_of_none(), "--model", str(fitted / "out"), "--format=arrow")
    assert code == 0
    assert pa.ipc.open_stream(out).read_all().num_rows == 0


def arrow_of_none() -> bytes:
    out = io.BytesIO()
    with pa.ipc.new_stream(out, pa.schema([("text", pa.string())])):
        pass
    return out.getvalue()


# ---- Arrow


def test_arrow_goes_through_with_all_its_columns(fitted: Path, score: Score) -> None:
    rows = [row | {"text": None if at % 50 == 3 else row["text"]} for at, row in enumerate(FLAT)]
    code, out, err = score(arrow(rows), "--model", str(fitted / "out"), "--format", "arrow")
    assert code == 0
    assert "set aside 6" in err
    found = pa.ipc.open_stream(out).read_all()
    good = [row for row in rows if row["text"]]
    assert found.drop_columns(["gapsel_score"]).to_pylist() == good
    own = own_scores(fitted)
    assert found["gapsel_score"].to_pylist() == pytest.approx([own[row["id"]] for row in good], abs=1e-4)


def test_texts_of_a_file_become_arrow_and_other_columns_are_refused(fitted: Path, score: Score) -> None:
    Path("a.txt").write_text("king lord\npsalm\n")
    code, out, _ = score(b"", "--model", str(fitted / "out"), "--format=arrow", "a.txt")
    assert code == 0
    found = pa.ipc.open_stream(out).read_all()
    assert found.column_names == ["id", "source", "row", "text", "gapsel_score"]
    assert found["id"].to_pylist() == ["a.txt:0", "a.txt:1"]
    pq.write_table(pa.Table.from_pylist(FLAT[:3]), "b.parquet")
    code, _, err = score(b"", "--model", str(fitted / "out"), "--format=arrow", "a.txt", "b.parquet")
    assert code == 3
    assert "b.parquet: its columns (id, text, more, gapsel_score) are not those of the inputs before" in err


def test_an_arrow_stream_that_is_damaged_is_named(fitted: Path, score: Score) -> None:
    for data in (b"no arrow at all, but long enough for a header", arrow(FLAT)[:-2000]):
        code, _, err = score(data, "--model", str(fitted / "out"), "--format", "arrow")
        assert code == 3
        assert "standard input: cannot be read" in err
    code, _, err = score(arrow([{"words": "x"}]), "--model", str(fitted / "out"), "--format", "arrow")
    assert code == 3
    assert "standard input: has no field 'text'; its fields are 'words'" in err


# ---- vectors


def vector_files(pool: NDArray[np.float32]) -> Iterator[tuple[str, list[str]]]:
    np.save("some.npy", pool)
    np.save("wide.npy", pool.astype(np.float64))
    table = {"id": [f"v{at}" for at in range(len(pool))], "vector": list(pool)}
    pq.write_table(pa.table(table), "some.parquet")
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(pool.ravel()), pool.shape[1])
    pq.write_table(pa.table({"other": list(pool[:, :2]), "vector": fixed}), "two.parquet")
    yield "some.npy", []
    yield "wide.npy", []
    yield "some.parquet", []
    lines = [{"at": at, "vector": vector, "tags": [at]} for at, vector in enumerate(pool.tolist())]
    Path("two.jsonl").write_bytes(as_jsonl(lines))
    Path("some.jsonl.gz").write_bytes(gzip.compress(as_jsonl([row | {"tags": []} for row in lines])))
    yield "two.jsonl", ["--vector-field=vector"]
    yield "some.jsonl.gz", []
    yield "two.parquet", ["--vector-field=vector"]


def test_vectors_have_the_runs_own_scores_bit_for_bit(with_vectors: Path, score: Score) -> None:
    own = list(own_scores(with_vectors).values())
    for file, flags in vector_files(np.load(with_vectors / "pool.npy")):
        code, out, _ = score(b"", "--model", str(with_vectors / "out"), file, *flags, "--batch-rows=99")
        assert code == 0, file
        assert [row["gapsel_score"] for row in parsed(out)] == own, file


def test_vectors_in_an_arrow_stream(with_vectors: Path, score: Score) -> None:
    pool = np.load(with_vectors / "pool.npy")[:9].astype(object)
    vectors: list[Any] = [list(map(float, row)) for row in pool]
    vectors[1], vectors[3], vectors[5], vectors[7] = None, [1.0, 2.0], [0.0] * 6, [float("nan")] * 6
    rows = [{"name": at, "vector": vector} for at, vector in enumerate(vectors)]
    code, out, err = score(arrow(rows), "--model", str(with_vectors / "out"), "--format=arrow", "--rejects=aside.jsonl")
    assert code == 0, err
    found = pa.ipc.open_stream(out).read_all()
    own = list(own_scores(with_vectors).values())
    assert found["name"].to_pylist() == [0, 2, 4, 6, 8]
    assert found["gapsel_score"].to_pylist() == [own[at] for at in (0, 2, 4, 6, 8)]
    aside = parsed(Path("aside.jsonl").read_bytes())
    assert [(row["line"], row["reason"]) for row in aside] == [
        (2, "no vector of 6 numbers"),
        (4, "no vector of 6 numbers"),
        (6, "all zeros, which is no direction"),
        (8, "NaN or infinite values"),
    ]


BAD_VECTORS: dict[str, tuple[bytes, str]] = {
    "of another d": (b'{"v": [1, 2, 3]}', "no vector of 6 numbers"),
    "null": (b'{"v": null}', "no vector of 6 numbers"),
    "not a list": (b'{"v": "1 2 3 4 5 6"}', "no vector of 6 numbers"),
    "a truth in it": (b'{"v": [1, 2, 3, 4, 5, true]}', "no vector of 6 numbers"),
    "missing": (b'{"w": [1, 2, 3, 4, 5, 6]}', "no field 'v'"),
    "NaN": (b'{"v": [1, 2, 3, 4, 5, NaN]}', "NaN or infinite values"),
    "beyond float32": (b'{"v": [1, 2, 3, 4, 5, 1e300]}', "NaN or infinite values"),
    "beyond float64": (b'{"v": [1, 2, 3, 4, 5, 1' + 400 * b"0" + b"]}", "NaN or infinite values"),
    "zeros": (b'{"v": [0, 0, 0, 0, 0, 0]}', "all zeros, which is no direction"),
    "no object": (b"[1, 2, 3, 4, 5, 6]", "not a JSON object"),
    "broken": (b'{"v": [1, 2', "not JSON (Expecting ',' delimiter)"),
}


@pytest.mark.parametrize("form", ["jsonl", "arrow"])
def test_bad_vectors_in_a_stream_of_lines_are_set_aside_by_line(with_vectors: Path, score: Score, form: str) -> None:
    """The others keep their characters, and a blank line its number."""
    pool = np.load(with_vectors / "pool.npy")[:12]
    good = [f'{{"id": {at},  "v": {vector}, "w": "x"}}'.encode() for at, vector in enumerate(pool.tolist())]
    bad = [line for line, _ in BAD_VECTORS.values()]
    lines = [good[0], b"", *(line for pair in zip(bad, good[1:], strict=True) for line in pair)]
    flags = ["--model", str(with_vectors / "out"), "--batch-rows=5", "--rejects=aside.jsonl"]
    if form == "jsonl":
        code, out, err = score(b"\n".join(lines), *flags)
        found = [
            (line.rpartition(b', "gapsel_score":')[0] + b"}", json.loads(line)["gapsel_score"])
            for line in out.splitlines()
        ]
        assert [line for line, _ in found] == good
    else:
        Path("lines.jsonl").write_bytes(b"\n".join(lines))
        code, out, err = score(b"", *flags, "--format=arrow", "lines.jsonl")
        table = pa.ipc.open_stream(out).read_all()
        assert table.column_names == ["id", "source", "row", "gapsel_score"]
        assert table["row"].to_pylist() == [0, *range(3, 25, 2)]
        found = list(zip(table["id"].to_pylist(), table["gapsel_score"].to_pylist(), strict=True))
    assert code == 0, err
    assert [one for _, one in found] == list(own_scores(with_vectors).values())[:12]
    aside = parsed(Path("aside.jsonl").read_bytes())
    reasons = zip(range(3, 25, 2), [reason for _, reason in BAD_VECTORS.values()], strict=True)
    assert sorted((row["line"], row["reason"]) for row in aside) == list(reasons)


def test_the_field_of_vectors_in_lines_is_found_or_named(with_vectors: Path, score: Score) -> None:
    two = as_jsonl([{"a": [1.0] * 6, "b": [2.0] * 6}])
    there = "its fields with lists of numbers"
    for rows, flags, words in (
        (two, [], f"line 1: has not one field with a list of numbers; {there}: a, b: name one"),
        (as_jsonl(POOL[:2]), [], f"line 1: has not one field with a list of numbers; {there}: none: name one"),
        (two, ["--vector-field=c"], f"line 1: has not such a field 'c'; {there}: a, b"),
    ):
        code, _, err = score(rows, "--model", str(with_vectors / "out"), *flags)
        assert code == 3
        assert f"standard input {words}" in err
    assert score(two, "--model", str(with_vectors / "out"), "--vector-field=b")[0] == 0


def test_vectors_of_another_width_and_texts_without_an_encoder_are_refused(with_vectors: Path, score: Score) -> None:
    np.save("wide.npy", np.ones((3, 7), np.float32))
    code, _, err = score(b"", "--model", str(with_vectors / "out"), "wide.npy")
    assert code == 3
    assert "the vectors have 7 dimensions, the model 6" in err
    Path("texts.txt").write_text("king lord\n")
    code, _, err = score(b"", "--model", str(with_vectors / "out"), "texts.txt")
    assert code == 2
    assert "was fitted with ready-made vectors, so that no encoder of texts is known: give vectors" in err


def test_damaged_tables_and_mostly_bad_vectors_are_named(with_vectors: Path, fitted: Path, score: Score) -> None:
    pq.write_table(pa.Table.from_pylist(FLAT), "cut.parquet", compression="none")
    raw = Path("cut.parquet").read_bytes()
    Path("cut.parquet").write_bytes(b"PAR1" + bytes(2000) + raw[2004:])
    code, _, err = score(b"", "--model", str(fitted / "out"), "cut.parquet")
    assert code == 3
    assert "cut.parquet: cannot be read" in err
    np.save("large.npy", np.full((3, 6), 1e300))
    code, out, err = score(b"", "--model", str(with_vectors / "out"), "large.npy")
    assert (code, out) == (3, b"")
    assert "the most frequent reason is: NaN or infinite values (3 rows), for example large.npy line 1" in err


# ---- thresholds


def test_keep_passes_on_the_best_and_says_what_it_keeps(with_vectors: Path, score: Score) -> None:
    own = np.array(list(own_scores(with_vectors).values()))
    flags = ["--model", str(with_vectors / "out"), str(with_vectors / "pool.npy")]
    code, out, err = score(b"", *flags, "--keep", "10%")
    assert code == 0
    assert [row["row"] for row in parsed(out)] == np.flatnonzero(own <= np.sort(own)[49]).tolist()
    said = re.search(r"up to (\S+)\n.* that is ([\d.]+)%, with 95% confidence ([\d.]+)% to ([\d.]+)% ", err)
    assert said
    assert float(said[1]) == np.sort(own)[49]
    assert float(said[3]) < 10 < float(said[4])
    assert "the solver has seen these" in err
    assert "kept 50 (10.000%)" in err
    assert score(b"", *flags, "--threshold", said[1])[1] == out


def test_a_part_of_the_pool_that_the_solver_has_not_seen_is_said(with_vectors: Path, score: Score) -> None:
    x, y = (np.load(with_vectors / f"{side}.npy") for side in ("pool", "target"))
    gapsel.Selector(k="10%", fit_rows=300).fit(y, x).save("part.safetensors")
    _, _, err = score(b"", "--model", "part.safetensors", str(with_vectors / "pool.npy"), "--keep=20%")
    assert "40 of 200 that the solver has not seen)" in err


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


# ---- the encoder


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


# ---- from Python


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


def test_batches_of_vectors_from_python(with_vectors: Path) -> None:
    pool = np.load(with_vectors / "pool.npy")
    loaded = gapsel.load(with_vectors / "out")
    batch = pa.RecordBatch.from_pydict({"a": list(pool[:5]), "b": list(pool[5:10])})
    (found,) = loaded.score_batches([batch], vector_field="b")
    assert found.column("gapsel_score").to_pylist() == loaded.score(pool[5:10]).tolist()
    with pytest.raises(gapsel.DataError, match="lists of floats: a, b: name one"):
        list(loaded.score_batches([batch]))
    with pytest.raises(gapsel.UsageError, match="ready-made vectors"):
        loaded.score_texts(["king"])


# ---- without end


class Endless(io.RawIOBase):
    """Lines without end, one at a time."""

    def __init__(self) -> None:
        self.given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - memory
        line = b'{"text": "king lord"}\n'
        buffer[: len(line)] = line
        self.given += 1
        return len(line)


def test_no_more_of_a_stream_is_held_than_a_part(fitted: Path) -> None:
    loaded = model.load(fitted / "out")
    scorer = stream.Scorer(loaded, CpuBackend(1), lambda: stream.load_encoder(loaded, fitted / "out"))
    endless = Endless()
    parts = Inputs(stream.Reading(batch_rows=16), scorer, corpus.Rejects()).parts((), io.BufferedReader(endless, 32))
    for done in range(1, 50):
        assert len(next(parts).texts or ()) == 16
        assert 16 * done <= endless.given <= 16 * done + 2


def test_long_texts_make_short_parts(fitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("gapsel.corpus.read"), "BATCH_CHARACTERS", 100)
    loaded = model.load(fitted / "out")
    scorer = stream.Scorer(loaded, CpuBackend(1), lambda: stream.load_encoder(loaded, fitted / "out"))
    lines: Any = io.BytesIO(as_jsonl([{"text": "king " * 12}] * 9))
    parts = list(Inputs(stream.Reading(), scorer, corpus.Rejects()).parts((), lines))
    assert [len(part.texts or ()) for part in parts] == [2, 2, 2, 2, 1]


def test_a_slow_stream_is_answered_row_by_row_and_a_reader_that_leaves_ends_it(fitted: Path) -> None:
    flags = ["score", "--model", str(fitted / "out"), "--batch-rows=1", "--rejects=aside.jsonl", "--keep=50%"]
    with subprocess.Popen(
        [*SOURCE, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as running:  # fmt: skip
        assert running.stdin
        assert running.stdout
        assert running.stderr
        best = min(own_scores(fitted).items(), key=lambda pair: pair[1])[0]
        line = as_jsonl([row for row in POOL if row["id"] == best])
        for _ in range(3):
            running.stdin.write(line)
            running.stdin.flush()
            assert json.loads(running.stdout.readline())["id"] == best
        running.stdin.write(b"{broken\n")
        running.stdout.close()
        with pytest.raises(BrokenPipeError):
            feed_for_ever(running.stdin, line)
        said = running.stderr.read().decode()
        with pytest.raises(BrokenPipeError):
            running.stdin.close()
    assert running.returncode == 0, said
    assert "Traceback" not in said
    assert "set aside 1" in said
    assert Path("aside.jsonl").exists()


def feed_for_ever(stdin: IO[bytes], line: bytes) -> None:
    while True:
        stdin.write(line)
        stdin.flush()


def test_compressed_files_and_folders(fitted: Path, score: Score) -> None:
    Path("in").mkdir()
    Path("in/a.jsonl.gz").write_bytes(gzip.compress(as_jsonl(POOL[:2])))
    Path("in/b.csv").write_text("id,text\nx,king lord\n")
    found = parsed(score(b"", "--model", str(fitted / "out"), "in")[1])
    assert [row["id"] for row in found] == ["d0", "d1", "x"]
