"""Ray Data, on a real Ray of this machine: batches embedded and scored by actors have the bits of `gapsel score`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import gapsel
from gapsel import model
from ray_cluster import needs_ray, one_machine
from streams import FLAT, Score, arrow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("pandas")
pytestmark = [
    needs_ray,
    pytest.mark.usefixtures("offline"),
    # Ray Data copies its own settings, deprecated ones too.
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*"),
]
ROWS = 60


@pytest.fixture(scope="module")
def data() -> Iterator[Any]:
    with one_machine():
        import ray.data

        yield ray.data


def test_actors_give_the_scores_of_the_command(data: Any, fitted: Path, score: Score) -> None:  # noqa: ANN401 - Ray's
    """Texts by Ray's own kind of batch, their vectors as Arrow; in the batches that the command reads."""
    table = pa.Table.from_pylist([row | {"text": None if at % 50 == 3 else row["text"]} for at, row in enumerate(FLAT)])
    flags = ["--model", str(fitted / "out"), f"--batch-rows={ROWS}"]
    code, out, _ = score(arrow(table.to_pylist(), len(FLAT) // ROWS), *flags, "--format=arrow")
    assert code == 0
    expected = pa.ipc.open_stream(out).read_all()
    blocks = [table.slice(first, ROWS) for first in range(0, len(FLAT), ROWS)]
    each: dict[str, Any] = {"fn_constructor_args": (fitted / "out",), "batch_size": None, "num_cpus": 0.5}
    embedded = data.from_arrow(blocks).map_batches(gapsel.BatchEmbedder, concurrency=1, **each)
    scored = embedded.map_batches(
        gapsel.BatchScorer, fn_constructor_kwargs={"vector_field": "gapsel_vector", "keep": "10%"},
        batch_format="pyarrow", concurrency=2, **each,
    )  # fmt: skip
    found = {row["id"]: row for row in scored.take_all()}
    assert sorted(found) == sorted(row["id"] for row in FLAT)
    given = {name: row["gapsel_score"] for name, row in found.items() if row["gapsel_score"] is not None}
    assert given == dict(zip(expected["id"].to_pylist(), expected["gapsel_score"].to_pylist(), strict=True))
    kept = {name for name, row in found.items() if row["gapsel_kept"]}
    limit = model.load(fitted / "out").calibration.keep("10%").score
    assert kept == {name for name, value in given.items() if value <= limit}
    assert kept
