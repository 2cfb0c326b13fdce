"""docs/scale.md and its picture are what the cost model says of the newest record, and near what was measured."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from gapsel.plan.cost import KINDS

BENCHES = Path(__file__).parent.parent / "benches"
# Single times of docs/growth.json can be off by as much, as that page says.
FACTOR = 2.0


@pytest.fixture(scope="module")
def tables() -> Any:  # noqa: ANN401
    spec = importlib.util.spec_from_file_location("scale_tables", BENCHES / "scale_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scale_tables"] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_model_says(tables: Any) -> None:  # noqa: ANN401
    text = tables.PAGE.read_text(encoding="utf-8")
    assert tables.page(text, tables.newest()) == text, "run benches/scale_tables.py"


def test_the_picture_is_what_the_model_says(tables: Any) -> None:  # noqa: ANN401
    assert tables.picture(tables.newest()) == tables.PICTURE.read_text(encoding="utf-8"), "run benches/scale_tables.py"


def test_a_page_without_a_place_is_an_error(tables: Any) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match="no place for constants"):
        tables.page("# Scale", tables.newest())


def test_the_model_is_near_the_measured_points(tables: Any) -> None:  # noqa: ANN401
    large = [(n, mass, took, said) for n, mass, took, said in tables.points(tables.newest()) if n >= 100_000]
    assert max(n for n, *_ in large) >= 10**7
    for n, mass, took, said in large:
        assert 1 / FACTOR < said / took < FACTOR, (n, mass, took, said)


def test_every_kind_of_work_has_a_pace(tables: Any) -> None:  # noqa: ANN401
    found = tables.newest()
    assert set(found["rates"]) == set(KINDS) - {"loss", "bring"}, "but for those of the user's own model and files"
    assert all(rate > 0 for rate in found["rates"].values())


def test_more_gpus_never_take_longer(tables: Any) -> None:  # noqa: ANN401
    found = tables.newest()
    problem = tables.of_texts(10**9, found)
    took = [
        sum(tables.seconds(problem, tables.gpus(count, found, problem.token_flop)).values()) for count in (1, 8, 64)
    ]
    assert took == sorted(took, reverse=True)


@pytest.mark.parametrize(("value", "said"), [(0.43, "0.43 s"), (43.2, "43 s"), (5.13 * 3600, "5.1 h"), (1e7, "120 d")])
def test_short_times(tables: Any, value: float, said: str) -> None:  # noqa: ANN401
    assert tables.short(value) == said
