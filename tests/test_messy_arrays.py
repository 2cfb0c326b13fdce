"""Arrays as people have them, and what people do with a Selector: show it, copy it, send it to another process."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

import gapsel
from faults import GOOD, POOL, TARGET, D, M, N, assert_says
from gapsel import Selector

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

K = 5


@pytest.fixture(scope="module")
def fitted() -> Selector:
    return Selector(k=K, at_most="half=60%").fit(TARGET, POOL, fields={"half": np.arange(N) % 2})


def _objects(rows: Any) -> NDArray[np.object_]:  # noqa: ANN401 - whatever is a vector
    found = np.empty(len(rows), object)
    for at, row in enumerate(rows):
        found[at] = row
    return found


COLUMNS = {
    "of lists": _objects(POOL.tolist()),
    "of arrays": _objects(POOL),
    "of arrow": pa.array(POOL.tolist()),
    "chunked": pa.chunked_array([POOL[:9].tolist(), POOL[9:].tolist()]),
    "of a mixed frame": POOL.astype(object),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_of_vectors_is_an_array(column: str) -> None:
    chosen, same = (Selector(k=K).fit(TARGET, pool).select() for pool in (COLUMNS[column], POOL))
    assert np.array_equal(chosen.rows, same.rows)
    assert np.array_equal(chosen.scores, same.scores)


@pytest.mark.parametrize(
    ("pool", "words"),
    [(_objects([[1.0], [2.0, 3.0]]), ("all rows alike",)), (_objects(["a", "b"]), ("<U1",)), (None, ("object",))],
)
def test_a_column_of_something_else_is_refused(pool: Any, words: tuple[str, ...]) -> None:  # noqa: ANN401 - as above
    with pytest.raises(gapsel.DataError) as raised:
        Selector(k=1).fit(TARGET, pool)
    assert_says(str(raised.value), ("pool", *words))


def test_arrays_in_the_place_of_files_are_sent_to_the_selector() -> None:
    with pytest.raises(gapsel.UsageError) as raised:
        gapsel.run("out", pool_vectors=POOL, target_vectors=TARGET)
    assert str(raised.value) == "pool_vectors is 'an array of ndarray': give files; gapsel.Selector takes arrays"


def test_a_selector_survives_copies_and_pickles(fitted: Selector, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    for twin in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):  # noqa: S301 - our own
        assert np.array_equal(twin.select().rows, fitted.select().rows)
        assert np.array_equal(twin.select(6).rows, fitted.select(6).rows)
    for one in (Selector(k=K), Selector(k=K).fit(TARGET, POOL), gapsel.load(tmp_path)):
        twin = pickle.loads(pickle.dumps(one))  # noqa: S301 - as above
        assert repr(twin) == repr(one)
        # A copy is its own: what is fitted anew does not move the first.
        state = one.__dict__.copy()
        twin.fit(TARGET[:3], POOL[:9])
        assert one.__dict__ == state


def test_what_is_shown_in_a_notebook_fits_on_a_screen(fitted: Selector, tmp_path: Path) -> None:
    for name, array in {"pool": POOL, "target": TARGET}.items():
        np.save(tmp_path / f"{name}.npy", array)
    inputs = {f"{name}_vectors": tmp_path / f"{name}.npy" for name in ("pool", "target")}
    result = gapsel.run(tmp_path / "out", **{**GOOD, **inputs, "k": "50%"})
    chosen = fitted.select()
    shown = {
        "unfitted": repr(Selector(k=7, mass=1)),
        "fitted": repr(fitted),
        "evidence": repr(fitted.evidence),
        "certificate": repr(fitted.certify(chosen)),
        "distances": repr(fitted.distances(chosen)),
        "selection": repr(chosen),
        "result": repr(result),
        "settings": repr(gapsel.Settings(seed=3)),
    }
    assert max(map(len, shown.values())) < 500
    assert shown["unfitted"] == "<Selector(k='7', mass=1.0), not fitted>"
    assert shown["fitted"].endswith(f"fitted on {N} rows and {M} examples of {D} dimensions>")
    assert shown["evidence"].startswith(f"Evidence(converged={fitted.evidence.converged}, marginal_error=")
    before = fitted.distances(chosen).before
    assert shown["distances"].startswith(f"Distances(before={before.lower:.3f} .. {before.upper:.3f}, after=")
    assert shown["selection"].startswith(
        f"Selection(k=5, best=[{chosen.rows[0]}, {chosen.rows[1]}, {chosen.rows[2]}, .."
    )
    assert f"k=30, best=['{result.ids[0]}', " in shown["result"]
    assert shown["settings"] == "Settings(seed=3)"
