"""A shard that is a copy of another is refused, with both names; what is alike for a better reason is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faults import DATA, POOL, TARGET, assert_says, command
from gapsel.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

HALVES = np.split(POOL, 2)


@pytest.fixture(autouse=True)
def _inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("target.npy", TARGET)
    Path("pool").mkdir()


def documents(half: int) -> list[dict[str, str]]:
    return [{"id": f"{half}-{row}", "text": f"document {row} of {half}"} for row in range(len(HALVES[half]))]


def write_lines(path: Path, half: int) -> None:
    path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents(half)))


def write_table(path: Path, half: int) -> None:
    pq.write_table(pa.Table.from_pylist(documents(half)), path.with_suffix(".parquet"))


def write_vectors(path: Path, half: int) -> None:
    np.save(path.with_suffix(".npy"), HALVES[half])


def write_table_of_vectors(path: Path, half: int) -> None:
    pq.write_table(pa.table({"vector": list(HALVES[half])}), path.with_suffix(".parquet"))


VECTORS = ["--pool-vectors", "pool", "--target-vectors", "target.npy"]
TEXTS = ["--pool", "pool", "--pool-vectors", "all.npy", "--target-vectors", "target.npy"]
SHARDS: list[tuple[Callable[[Path, int], None], list[str]]] = [
    (write_lines, TEXTS),
    (write_table, TEXTS),
    (write_vectors, VECTORS),
    (write_table_of_vectors, VECTORS),
]


@pytest.mark.parametrize(("write", "given"), SHARDS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_copied_shard_is_refused_and_the_right_one_is_read(
    write: Callable[[Path, int], None], given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("all.npy", POOL)
    write(Path("pool/a"), 0)
    first = next(Path("pool").iterdir())
    second = first.with_stem("b")
    shutil.copy(first, second)
    embed = ["embed", *given, "-o", "out", "--quiet"]
    code, said = command(embed, capsys)
    assert code == DATA
    assert_says(said, (f"{second}: is a copy of", str(first), "fetch the right file, or remove it"))
    assert not Path("out").exists()
    write(second.with_suffix(""), 1)
    assert main([*embed[:-1]]) == 0
    assert "60 documents of the pool" in capsys.readouterr().out


def test_files_may_be_alike_where_no_shard_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    """Empty ones, and those of single documents; examples of two tasks."""
    write_table(Path("pool/a"), 0)
    empty = pq.read_table("pool/a.parquet").slice(0, 0)
    for name in ("b", "c"):
        pq.write_table(empty, f"pool/{name}.parquet")
        Path(f"pool/{name}.txt").write_text("the same sentence\n")
        np.save(f"{name}.npy", TARGET)
    np.save("all.npy", POOL[:32])
    targets = ["--target-vectors", "b.npy", "--target-vectors", "c.npy"]
    assert main(["embed", *TEXTS[:4], *targets, "-o", "out", "--quiet"]) == 0
    assert "32 documents of the pool and 12 of the target" in capsys.readouterr().out
