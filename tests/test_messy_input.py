"""Data as people have it: chats, several fields, other encodings, hidden files, links; flags given twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gapsel
from faults import DATA, GOOD, POOL, TARGET, USAGE, N, assert_says, command, flags, snapshot
from gapsel import corpus, store
from gapsel.cli import main
from gapsel.config import rows_for
from texts import read_all, write

CHAT: list[tuple[dict[str, Any], ...]] = [
    ({"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}),
    ({"role": "user", "content": "Look"}, {"role": "assistant", "content": None}),
]
SAID = ["Why?\n\nBecause.", "Look"]
CHATS: dict[str, list[Any]] = {
    "messages": [list(one) for one in CHAT],
    "sharegpt": [[{"from": one["role"], "value": one["content"]} for one in chat] for chat in CHAT],
    "parts": [
        [{"role": "user", "content": [{"type": "text", "text": one["content"]}, {"type": "image"}]} for one in chat]
        for chat in CHAT
    ],
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


# ---- what of a row is its text


@pytest.mark.parametrize("form", CHATS)
def test_a_conversation_is_what_its_messages_say(form: str) -> None:
    path = write(Path("pool.jsonl"), _lines([{"chat": chat} for chat in CHATS[form]]))
    assert read_all([path], text_field="chat")[1] == SAID
    if form != "parts":
        pq.write_table(pa.table({"chat": CHATS[form]}), "pool.parquet")
        assert read_all(["pool.parquet"], text_field="chat")[1] == SAID


def test_lists_that_are_no_conversation_are_set_aside() -> None:
    odd = [["a"], [], [{"n": 1}], [{"role": "user", "content": "x"}, "y"], "good", "good", "good", "good"]
    rejects = corpus.Rejects()
    path = write(Path("pool.jsonl"), _lines([{"text": one} for one in odd]))
    assert read_all([path], rejects=rejects)[1] == ["good"] * 4
    assert dict(rejects.by_reason) == {"the text is of type list and not a string": 4}
    pq.write_table(pa.table({"text": [["a"]]}), "pool.parquet")
    with pytest.raises(gapsel.DataError, match=r"of type list<.*> and not a string"):
        read_all(["pool.parquet"])


ASKED: list[dict[str, Any]] = [{"q": "Why?", "a": "Because.", "q,b": "x"}, {"q": "Look", "a": "", "q,b": "y"}]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_several_fields_are_one_text(form: str) -> None:
    path = Path(f"pool.{form}")
    if form == "jsonl":
        write(path, _lines(ASKED))
    elif form == "csv":
        write(path, b'q,a,"q,b"\nWhy?,Because.,x\nLook,,y\n')
    else:
        pq.write_table(pa.Table.from_pylist(ASKED), path)
    assert read_all([str(path)], text_field="q, a")[1] == SAID
    # A field that bears the whole name is that field.
    assert read_all([str(path)], text_field="q,b")[1] == ["x", "y"]
    if form != "jsonl":
        with pytest.raises(gapsel.DataError, match="has no field 'q,c'; its fields are 'q', 'a'"):
            read_all([str(path)], text_field="q,c")


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_chosen_conversations_are_written_back_as_they_came(form: str) -> None:
    rows: list[dict[str, Any]] = [
        {"id": str(at), "chat": [{"role": "user", "content": f"document {at}"}]} for at in range(N)
    ]
    if form == "jsonl":
        write(Path("pool.jsonl"), _lines(rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), "pool.parquet")
    np.save("pool.npy", POOL)
    np.save("target.npy", TARGET)
    result = gapsel.run("out", pool=f"pool.{form}", text_field="chat", **GOOD)
    chosen = pq.read_table(result.file).to_pylist() if form == "parquet" else _read(result.file)
    assert len(chosen) == GOOD["k"]
    for row in chosen:
        assert {"id": row["id"], "chat": row["chat"]} == rows[int(row["id"])]


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


# ---- encodings and forms that are not read

UNREAD = [
    ("pool.jsonl", '{"text": "x"}\n'.encode("utf-16"), ("is UTF-16", "iconv -f UTF-16")),
    ("pool.csv", "id,text\n1,x\n".encode("utf-16-be").join([b"\xfe\xff", b""]), ("is UTF-16", "iconv -f UTF-16")),
    ("pool.csv", "id,text\n1,café\n".encode("latin-1"), ("not UTF-8", "line 2", "iconv -f LATIN1")),
    ("pool.jsonl", json.dumps({"text": "x", "n": 1}, indent=2).encode(), ("not JSON", "one JSON object a line")),
    ("pool.json", b'["x", "y"]', ("not a JSON object", "each row is an object")),
    ("pool.npy", b"", ("pool.npy", "vectors and not texts", "--pool-vectors")),
]


@pytest.mark.parametrize(("name", "content", "words"), UNREAD, ids=[words[0] for _, _, words in UNREAD])
def test_what_is_not_read_is_named_with_its_remedy(name: str, content: bytes, words: tuple[str, ...]) -> None:
    write(Path(name), content)
    with pytest.raises(gapsel.DataError) as raised:
        read_all([name])
    assert_says(str(raised.value), (name, *words))


# ---- folders of vectors


def test_vectors_are_found_as_texts_are() -> None:
    for at, name in enumerate(["in/a-b/1", "in/a/2", "in/.ipynb_checkpoints/2", "elsewhere/3"]):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        np.save(f"{name}.npy", POOL + at)
        write(Path(f"{name}.txt"), b"x\n")
    Path("in/b").symlink_to("../elsewhere")
    Path("in/b/up").symlink_to("../in")
    for pattern in ("in", "in/*"):
        vectors = [Path(file).with_suffix("") for file in store.files([pattern])]
        assert vectors == [Path(file).with_suffix("") for file in corpus.sources([pattern])]
        assert sorted(map(str, vectors)) == ["in/a-b/1", "in/a/2", "in/b/3"]


# ---- flags


def test_what_is_given_twice_counts_twice(capsys: pytest.CaptureFixture[str]) -> None:
    for name, array in {"one": POOL[:20], "two": POOL[20:], "target": TARGET}.items():
        np.save(f"{name}.npy", array)
    twice = ["--pool-vectors=one.npy", "--pool-vectors=two.npy", "--methods=random", "--methods", "nearest", "kde"]
    assert main(["run", "--quiet", "-o", "out", *twice, "--target-vectors=target.npy", "-k=5"]) == 0
    assert f"Chose 5 of {N} documents" in capsys.readouterr().out
    settings = json.loads(Path("out/run.json").read_text(encoding="utf-8"))["settings"]
    assert settings["methods"] == ["random", "nearest", "kde"]


def test_a_run_folder_lies_on_a_disk(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = command(["run", "-o", "s3://bucket/out", *flags(GOOD)], capsys)
    assert code == USAGE
    assert_says(said, ("bucket/out", "is a URL", "name a folder here"))
    assert snapshot("s3:") is None
    monkeypatch.setenv("HOME", str(Path("home").absolute()))
    np.save("pool.npy", POOL)
    np.save("target.npy", TARGET)
    assert gapsel.run("~/out", **GOOD).folder == Path("home/out").absolute()


def test_python_runs_the_package() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gapsel", "fit", "-o", "nowhere"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (DATA, "")
    assert done.stderr.startswith("gapsel: nowhere: is no run folder")


def test_error_bars_of_a_few_examples_are_refused_before_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("pool.npy", POOL)
    np.save("target.npy", TARGET[:3])
    code, said = command(["run", "--quiet", "--error-bars", "-o", "out", *flags(GOOD)], capsys)
    assert code == USAGE
    assert_says(said, ("3 examples", "give 4 or more", "leave error bars out"))
    assert snapshot("out") is None


def test_texts_beside_vectors_name_the_row_that_is_too_little(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("pool.npy", POOL)
    np.save("target.npy", TARGET)
    write(Path("pool.jsonl"), b'{"text": "x"}\n' * 40 + b'{"text": 3}\n{"text": null}\n' + b'{"text": "x"}\n' * 18)
    code, said = command(["run", "--pool=pool.jsonl", "--quiet", "-o", "out", *flags(GOOD)], capsys)
    assert code == DATA
    assert_says(
        said, (f"58 usable documents and {N} vectors", "the 2 that cannot", "pool.jsonl line 41", "of type int")
    )


@pytest.mark.parametrize(("k", "rows"), [("10K", 10_000), ("1.5 k", 1500), ("2M", 2_000_000), ("5%", 500_000)])
def test_k_in_thousands(k: str, rows: int) -> None:
    assert rows_for(k, 10**7) == rows


def test_a_configuration_may_begin_with_a_mark_of_utf_8() -> None:
    np.save("pool.npy", POOL)
    np.save("target.npy", TARGET)
    Path("good.json").write_text(json.dumps(GOOD), encoding="utf-8-sig")
    assert main(["run", "--quiet", "--config=good.json", "-o", "out"]) == 0


def test_a_rule_can_be_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("pool.npy", POOL)
    np.save("target.npy", TARGET)
    gapsel.run("out", **GOOD)
    first = Path("out/selection.json").read_bytes()
    Path("used.txt").write_text("".join(f"{row}\n" for row in json.loads(first)["rows"]), encoding="utf-8")
    select = ["select", "--quiet", "-o", "out"]
    assert main([*select, "--exclude=used.txt", "--max-cosine=0.9", "-k=4"]) == 0
    assert Path("out/selection.json").read_bytes() != first
    assert main([*select, "--reset", "exclude", "max-cosine", "-k=5"]) == 0
    assert json.loads(Path("out/selection.json").read_bytes())["rows"] == json.loads(first)["rows"]
    capsys.readouterr()
    code, said = command([*select, "--reset", "pool"], capsys)
    assert code == USAGE
    assert_says(said, ("reset is 'pool'", "`gapsel select`", "max_cosine"))


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--pol=x", ("--pol=x", "did you mean --pool?")),
        ("--clusters=3", ("--clusters=3 (--clusters goes with gapsel mix)",)),
        ("--zzz", ("--zzz",)),
    ],
)
def test_an_unknown_flag_is_told_by_its_command(
    flag: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = command(["run", "-o", "out", flag], capsys)
    assert code == USAGE
    assert_says(said, ("usage: gapsel run", "gapsel run: error: unrecognized", *words))


def test_a_stream_that_cannot_begin_is_not_summed_up(capfd: pytest.CaptureFixture[str]) -> None:
    np.save("pool.npy", POOL)
    np.save("target.npy", TARGET)
    np.save("narrow.npy", POOL[:, :2])
    gapsel.run("out", **GOOD)
    assert main(["score", "--model=out", "narrow.npy"]) == DATA
    said = capfd.readouterr()
    assert said.err.startswith("gapsel: narrow.npy: the vectors have 2 dimensions")
    assert not said.out
