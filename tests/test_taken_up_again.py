"""A run taken up again: what is done is not done twice, what was lost or follows from something else is made anew."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gapsel
from corridor import SHARD, K, M, N, chosen_rows, flags, matrix, needs_encoder, settings, state
from gapsel import embed
from gapsel.cli import main

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = [needs_encoder, pytest.mark.usefixtures("small_shards")]

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
