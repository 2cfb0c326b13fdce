"""Scores in parts: finished ones are kept, others made; what is damaged, lost or out of place is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gapsel
from faults import DATA, GOOD, POOL, TARGET, N, assert_says, command, finish_run
from gapsel.cli import main
from gapsel.pipeline.folder import parts
from gapsel.pipeline.steps import score

if TYPE_CHECKING:
    from collections.abc import Callable

    from gapsel.pipeline.folder.parts import Part
    from gapsel.pipeline.work import Run

ROWS = 16
FILES = [f"out/scores/{at:05d}.parquet" for at in range(-(-N // ROWS))]


@pytest.fixture(autouse=True)
def _inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parts, "PART_ROWS", ROWS)
    np.save("pool.npy", POOL)
    np.save("target.npy", TARGET)


def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that will have the number of each part that is scored from now on."""
    found: list[int] = []
    write_part = score.write_part

    def note(run: Run, part: Part, *swept: Any) -> object:  # noqa: ANN401
        found.append(part.at)
        return write_part(run, part, *swept)

    monkeypatch.setattr(score, "write_part", note)
    return found


def test_parts_cover_the_pool_in_order() -> None:
    assert parts.cut([0, 16, 17, 50]) == [(0, 0, 16), (1, 16, 17), (2, 17, 33), (2, 33, 49), (2, 49, 50)]
    finish_run()
    tables = [pq.read_table(file) for file in FILES]
    assert [table.num_rows for table in tables] == [16, 16, 16, 12]
    table = pa.concat_tables(tables).to_pydict()
    assert table["row"] == list(range(N))
    selector = gapsel.Selector(k=5, tolerance=0.05).fit(TARGET, POOL)
    assert np.array_equal(table["potential"], selector.potentials_[0])
    assert np.array_equal(table["score"], selector.score())
    facts = json.loads(Path("out/run.json").read_text())["steps"]["score"]
    assert facts["mean"] == pytest.approx(0, abs=1e-9)
    assert facts["lowest"] == min(table["score"])


def test_parts_change_no_row_of_the_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    finish_run()
    monkeypatch.setattr(parts, "PART_ROWS", N)
    finish_run("whole")
    assert Path("out/selection.json").read_bytes() == Path("whole/selection.json").read_bytes()


def test_only_the_parts_that_are_missing_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    finish_run()
    before = [Path(file).read_bytes() for file in FILES]
    Path(FILES[2]).unlink()
    Path(FILES[0]).write_bytes(b"half")
    found = made(monkeypatch)
    finish_run()
    assert found == [0, 2]
    assert [Path(file).read_bytes() for file in FILES] == before


def test_a_step_that_was_stopped_goes_on_after_its_last_part(monkeypatch: pytest.MonkeyPatch) -> None:
    finish_run("whole")
    write = parts.write

    def stop(folder: Path, part: Part, *rest: object) -> None:
        if part.at == 2:
            raise KeyboardInterrupt
        write(folder, part, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(parts, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            finish_run()
    found = made(monkeypatch)
    finish_run()
    assert found == [2, 3]
    for file in FILES:
        assert pq.read_table(file).equals(pq.read_table(file.replace("out", "whole")))


def test_other_potentials_make_all_parts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    finish_run()
    Path("out/scores/00007.parquet").touch()
    found = made(monkeypatch)
    assert main(["score", "-o", "out", "--quiet"]) == 0
    assert found == []
    assert main(["fit", "-o", "out", "--quiet", "--eps=0.7"]) == 0
    assert main(["score", "-o", "out", "--quiet"]) == 0
    assert found == [0, 1, 2, 3]
    assert not Path("out/scores/00007.parquet").exists()


def _flip(file: Path) -> None:
    group, data = pq.ParquetFile(file).metadata.row_group(0), bytearray(file.read_bytes())
    columns = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
    found = columns["potential"]
    data[found.data_page_offset + found.total_compressed_size - 2] ^= 4
    file.write_bytes(data)


def _none(file: Path) -> None:
    pq.write_table(pa.table({"potential": np.zeros(ROWS, np.float32)}), file)


HARM: dict[str, Callable[[Path], object]] = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "empty": lambda file: file.write_bytes(b""),
    "a bit flipped": _flip,
    "of other rows": lambda file: shutil.copy(FILES[0], file),
    "of another table": _none,
}


@pytest.mark.parametrize("harm", HARM)
def test_a_part_that_cannot_be_used_is_named_and_made_again(harm: str, capsys: pytest.CaptureFixture[str]) -> None:
    finish_run()
    rows = Path("out/selection.json").read_bytes()
    Path("out/selection.json").unlink()
    HARM[harm](Path(FILES[1]))
    code, said = command(["select", "-o", "out", "--quiet"], capsys)
    assert code == DATA, said
    assert_says(said, (FILES[1], "cannot be used", "delete it, and give the same command again"))
    Path(FILES[1]).unlink()
    assert main(["select", "-o", "out", "--quiet"]) == 0
    assert Path("out/selection.json").read_bytes() == rows


def test_at_mass_0_another_k_reads_the_scores_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gapsel.run("out", **GOOD, mass=0)
    rows = json.loads(Path("out/selection.json").read_text())["rows"]

    def refuse(_run: Run) -> NoReturn:
        raise AssertionError("all of f was read into memory")  # noqa: EM101, TRY003 - seen by a reader of this test

    monkeypatch.setattr("gapsel.pipeline.work.Run.f", property(refuse))
    assert main(["select", "-k=20", "-o", "out", "--quiet"]) == 0
    assert json.loads(Path("out/selection.json").read_text())["rows"][: len(rows)] == rows
