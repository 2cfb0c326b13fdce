"""Counts before nouns: one is told as one, in summaries and in messages."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gapsel.cli import main
from gapsel.wording import counted

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("count", "many", "words"), [(0, None, "0 entrys"), (1, "entries", "1 entry"), (2000, "entries", "2,000 entries")]
)
def test_a_count_has_its_noun(count: int, many: str | None, words: str) -> None:
    assert counted(count, "entry", many) == words


def test_a_pool_of_one_document_is_told_in_the_singular(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for side in ("pool", "target"):
        (tmp_path / f"{side}.jsonl").write_text(json.dumps({"id": f"{side}-ø", "text": "ein Text, 漢字"}) + "\n")
        np.save(f"{side}.npy", np.eye(1, 2, dtype=np.float32))
    sides = [f"--{side}{kind}" for side in ("pool", "target") for kind in (f"={side}.jsonl", f"-vectors={side}.npy")]
    said = []
    for arguments in (["run", *sides, "-k", "1"], ["fit"], ["score"], ["select"], ["compare"]):
        assert main([*arguments, "-o", "out", "--quiet"]) == 0
        said.append(capsys.readouterr().out)
    assert main(["select", "-o", "out", "-k", "2", "--quiet"]) == 2
    said.append(capsys.readouterr().err)
    assert "Chose 1 of 1 document for 1 example of the task" in said[0]
    assert "-0.000" not in said[0], "a distance of 0 has no sign"
    assert "Barely not chosen" not in said[0], "there is none"
    assert not re.findall(r"\b1 [a-z]+s\b(?! is)", "\n".join(said))
