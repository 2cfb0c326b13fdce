"""Settings: every field validated, the same after JSON, and the one source of the command line's flags and help."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import typing
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from gapsel.cli import build_parser
from gapsel.cli.flags import HEADINGS
from gapsel.config import STEPS, Settings, parse_k, parse_size, rows_for
from gapsel.errors import UsageError
from gapsel.pipeline.steps.order import signatures
from gapsel.records import COST_KINDS, CostKind

FIELDS = dataclasses.fields(Settings)
HINTS = typing.get_type_hints(Settings)
NAMES = [field.name for field in FIELDS]

# For every setting: values that it takes, and values that it does not.
PATHS: tuple[list[Any], list[Any]] = ([("a.npy",), ("a", "b"), ()], ["a", [1], (1,), ("",), None, 5])
TEXT: tuple[list[Any], list[Any]] = (["text"], [None, 5, b"x", ["x"]])
TEXT_OR_NONE: tuple[list[Any], list[Any]] = (["x", None], [5, b"x", True])
VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "pool": PATHS,
    "target": PATHS,
    "pool_vectors": PATHS,
    "target_vectors": PATHS,
    "base": PATHS,
    "base_vectors": PATHS,
    "avoid": PATHS,
    "avoid_vectors": PATHS,
    "avoid_strength": ([1.0, 0.1, 3, np.float32(0.25)], [0.0, -0.1, float("nan"), float("inf"), "1", True, None]),
    "paths_per_task": ([(2, 1), (1, 1, 3), ()], [(1,), (0, 2), (1.5, 2), ("1", "2"), [1, 2], None, 5]),
    "balance": (["gap", "tasks", "examples"], ["none", None]),
    "robust": ([0.0, 0.1, 0, np.float32(0.25)], [0.5, -0.1, float("nan"), "5%", True, None]),
    "text_field": TEXT,
    "id_field": TEXT,
    "vector_field": TEXT_OR_NONE,
    "label_field": TEXT_OR_NONE,
    "methods": ([("random",), ("dsir", "kde"), ()], ["dsri", ["", "kde"], (1,), None, 5]),
    "model": TEXT,
    "features": (["text", "hidden", "gradient"], ["loss", None, 1]),
    "gradient_dims": ([1, 8192], [0, -1, 1.5, "8", True, None]),
    "pooling": (["mean", "cls", "last"], ["max", None, 1]),
    "max_tokens": ([1, 512], [0, -1, 1.5, "8", True, None]),
    "dtype": (["auto", "float32", "bfloat16", "float16"], ["int8", None]),
    "device": TEXT,
    "cost": (list(COST_KINDS), ["l1", None, ["cosine"]]),
    "normalize": ([True, False], [1, "yes", None]),
    "pool_weights": TEXT_OR_NONE,
    "loss_weights": TEXT_OR_NONE,
    "weight_field": TEXT_OR_NONE,
    "target_weights": TEXT_OR_NONE,
    "base_weights": TEXT_OR_NONE,
    "k": (
        ["1", "10000", "5%", "0.1%", "100%", "20.0"],
        ["0", "-1", "1.5", "0%", "101%", "5 %x", "", "many", "9" * 400],
    ),
    "tokens": (["50M", "1.5B", "800000", "2 k", None], ["", "many", "0", "-1M", "5X", 5, True]),
    "token_field": TEXT_OR_NONE,
    "at_most": ([("domain=20%",), ("a=b=1.5%", "file=100%"), ()], ["domain=20%", ("",), (1,), None, 5]),
    "threshold": ([None, -0.5, 0, np.float32(1)], [float("nan"), float("inf"), "0.1", True]),
    "exclude": PATHS,
    "held_out": PATHS,
    "max_jaccard": ([None, 0.7, 1], [0, 1.1, -0.5, float("nan"), "0.7", True]),
    "max_cosine": ([None, 0.95, 1], [0, 1.1, -0.5, float("nan"), "0.7", True]),
    "temperature": ([0, 0.5, 3], [-1, float("inf"), float("nan"), None, "1", True]),
    "mass": ([0, 0.0, 0.5, 1, np.float32(0.25)], [-0.1, 1.1, float("nan"), "0.5", True, None]),
    "eps": ([None, 0.1, 3, np.float64(2)], [0, -1.0, float("nan"), float("inf"), "0.1", False]),
    "tolerance": ([1e-12, 0.5], [0, 1, -0.1, float("nan"), "x", None]),
    "fit_rows": ([1, 2_000_000, np.int64(7)], [0, -1, 2.5, True, "3"]),
    "max_sweeps": ([1, 60, np.int64(7)], [0, -1, 2.5, True, "3"]),
    "seed": ([0, 2**40, np.int32(3)], [-1, 0.5, None, "0"]),
    "mass_path": ([True, False], [1, "yes", None]),
    "error_bars": ([True, False], [1, "yes", None]),
    "clusters": ([2, None, np.int64(64)], [1, 0, 2.5, True, "3"]),
    "choose": ([True, False], [1, "yes", None]),
    "backend": (["auto", "cpu", "gpu", "ray", "reference"], ["tpu", None]),
    "ray": ([True, False], [1, "yes", None]),
    "gpu_share": ([None, 1, 0.25], [0, 1.5, -1, "half", True]),
    "test": PATHS,
    "lm": TEXT_OR_NONE,
    "masses": ([("0", "0.5", "1"), ()], [("1.5",), ("0", "-0.1"), ("x",), ("",), (0.5,), "0.5", None]),
    "seeds": ([1, 5, np.int64(7)], [0, -1, 2.5, True, "3"]),
    "warm_tokens": ([1, 2**40], [0, -1, 2.5, True, "3"]),
    "tune_tokens": ([1, 2**40], [0, -1, 2.5, True, "3"]),
    "pretrain_tokens": ([1, 2**40], [0, -1, 2.5, True, "3"]),
    "context": ([2, 1024], [1, 0, -1, 2.5, True, "3"]),
    "learning_rate": ([None, 1e-3, 1], [0, -1.0, float("nan"), float("inf"), "0.1", False]),
    "threads": ([0, 1, 1024], [-1, 1025, 1.5, True]),
    "memory": (["2GB", None, "1.5 GiB", "800M", "2g"], ["", "lots", "-1GB", "0", "2XB", 5, True]),
}
GOOD = [(name, value) for name, (good, _) in VALUES.items() for value in good]
BAD = [(name, value) for name, (_, bad) in VALUES.items() for value in bad]


def test_every_setting_is_in_the_table_above() -> None:
    assert list(VALUES) == NAMES


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_a_good_value_survives_json(name: str, value: object) -> None:
    settings = Settings(**{name: value})  # type: ignore[arg-type]
    assert getattr(settings, name) == value
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_named_with_its_setting_and_what_it_may_be(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=rf"^{name} is .*: give ") as raised:
        Settings(**{name: value})  # type: ignore[arg-type]
    assert repr(value)[:20].strip("'") in str(raised.value)


@pytest.mark.parametrize(
    ("size", "count"),
    [("2GB", 2 * 10**9), ("1.5GiB", 3 * 2**29), ("800 mb", 8 * 10**8), ("4T", 4 * 10**12), ("123456", 123456)],
)
def test_a_size_is_a_number_of_bytes(size: str, count: int) -> None:
    assert parse_size(size) == count


@pytest.mark.parametrize("quota", ["domain", "domain=20", "=20%", "domain=0%", "domain=101%", "domain=-1%"])
def test_a_quota_is_a_field_and_a_share(quota: str) -> None:
    with pytest.raises(UsageError, match=f"^at_most is '{quota}': give a field and a share"):
        Settings(at_most=("file=20%", quota))


def test_memory_changes_no_result_and_urls_are_no_paths() -> None:
    assert "memory" not in Settings(memory="2GB").of("run", *STEPS)
    given = Settings(pool=("s3://bucket/a*.jsonl", "file:///data/b.jsonl", "c.jsonl"))
    assert given.absolute().pool == ("s3://bucket/a*.jsonl", "/data/b.jsonl", str(Path("c.jsonl").absolute()))


def test_defaults_survive_json() -> None:
    assert Settings.from_json(json.loads(json.dumps(Settings().to_json()))) == Settings()


def test_numbers_of_numpy_become_plain_ones() -> None:
    settings = Settings(seed=np.int64(3), mass=np.float32(0.5), eps=1)  # type: ignore[arg-type]
    assert [type(value) for value in (settings.seed, settings.mass, settings.eps)] == [int, float, float]


@pytest.mark.parametrize(
    ("loose", "exact"),
    [
        ({"pool": "a.jsonl"}, {"pool": ("a.jsonl",)}),
        ({"pool": Path("a.jsonl")}, {"pool": ("a.jsonl",)}),
        ({"pool_vectors": [Path("a.npy"), "b.npy"]}, {"pool_vectors": ("a.npy", "b.npy")}),
        ({"target": [["a", "b"], ["c"]]}, {"target": ("a", "b", "c"), "paths_per_task": (2, 1)}),
        ({"target": [["a", "b"]]}, {"target": ("a", "b")}),
        ({"target_vectors": (["a"], Path("b"))}, {"target_vectors": ("a", "b"), "paths_per_task": (1, 1)}),
        ({"k": 20}, {"k": "20"}),
        ({"k": np.int64(20)}, {"k": "20"}),
        ({"tokens": 5000}, {"tokens": "5000"}),
        ({"at_most": "file=20%"}, {"at_most": ("file=20%",)}),
        ({"exclude": Path("ids.txt")}, {"exclude": ("ids.txt",)}),
        ({"pool_weights": Path("w.npy")}, {"pool_weights": "w.npy"}),
        ({"model": Path("folder")}, {"model": "folder"}),
        ({"lm": Path("folder")}, {"lm": "folder"}),
        ({"masses": [0, 0.5, np.int64(1)]}, {"masses": ("0", "0.5", "1")}),
        ({"masses": 0.25}, {"masses": ("0.25",)}),
    ],
)
def test_loose_values_are_taken_as_they_are_meant(loose: dict[str, Any], exact: dict[str, Any]) -> None:
    assert Settings.from_json(loose) == Settings(**exact)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tolerence": 1}, "run.json: 'tolerence' .* did you mean 'tolerance'"),
        ({"flavour": 1}, "run.json: 'flavour' .* the settings are pool, target"),
        ({"mass": "half"}, "run.json: mass is 'half': give a number"),
        ({"target": [["a"], ["b"]], "target_vectors": [["c", "d"]]}, "target_vectors is .* as many tasks as target"),
        ({"target": [["a"], []]}, r"paths_per_task is \(1, 0\)"),
        ([1], r"run.json: the settings are \[1\]"),
        (None, "run.json: the settings are None"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_name(values: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings.from_json(values, "run.json")


def test_absolute_paths_keep_globs_and_hub_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encoder").mkdir()
    given = Settings(pool=("a*.jsonl", "/b"), target_vectors=("../y.npy",), pool_weights="w.npy", model="encoder")
    found = given.absolute()
    assert found.pool == (f"{tmp_path}/a*.jsonl", "/b")
    assert found.target_vectors == (f"{tmp_path.parent}/y.npy",)
    assert (found.pool_weights, found.target_weights) == (f"{tmp_path}/w.npy", None)
    assert found.model == f"{tmp_path}/encoder"
    assert Settings(model="org/encoder").absolute().model == "org/encoder"
    assert found.absolute() == found


@pytest.mark.parametrize(
    ("k", "n", "rows"), [("7", 10, 7), ("10", 10, 10), ("5%", 200, 10), ("0.1%", 10, 1), ("100%", 3, 3)]
)
def test_k_in_rows(k: str, n: int, rows: int) -> None:
    assert rows_for(k, n) == rows


def test_k_beyond_the_pool_is_refused() -> None:
    with pytest.raises(UsageError, match="k is 11, and the pool has 10 documents: choose at most 10"):
        rows_for("11", 10)


def test_k_is_a_number_or_per_cent() -> None:
    assert parse_k("12") == (12.0, False)
    assert parse_k(" 2.5% ") == (2.5, True)


def test_eps_falls_with_the_mass_unless_it_is_given() -> None:
    assert Settings(mass=0).relative_eps == 0.5
    assert Settings(mass=0.5).relative_eps == 0.5
    assert Settings(mass=0.75).relative_eps == pytest.approx(0.5 * 0.2**0.5)
    assert Settings(mass=1).relative_eps == pytest.approx(0.1)
    assert Settings(mass=1, eps=0.3).relative_eps == 0.3


def test_what_cannot_change_a_result_signs_nothing() -> None:
    assert not {"threads", "device", "ray", "gpu_share"} & Settings().of("run", *STEPS).keys()


def test_cost_kinds_are_those_of_the_type() -> None:
    assert typing.get_args(CostKind) == COST_KINDS


# ---- flags


def commands() -> dict[str, argparse.ArgumentParser]:
    actions = build_parser()._actions
    found = next(action for action in actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


# Flags of one door that are no settings of the run.
NO_SETTINGS = {
    **{door: {"reset"} for door in ("fit", "select", "report")},
    "embed": {"task_index", "task_count"},
    "score": {
        "task_index", "task_count",
        "model", "inputs", "form", "keep", "threshold", "rejects", "text_field", "id_field", "vector_field",
        "batch_rows", "encoder", "device",
    },
}  # fmt: skip


@pytest.mark.parametrize("door", ["run", "mix", "evaluate", *STEPS])
def test_a_door_takes_the_flags_of_its_settings_and_no_others(door: str) -> None:
    flags = {action.dest for action in commands()[door]._actions}
    wanted = {field.name for field in FIELDS if door in field.metadata["doors"]}
    of_all = {"help", "out", "json", "quiet"} | ({"config"} if door in ("run", "embed", "mix") else set[str]())
    assert flags == wanted | of_all | NO_SETTINGS.get(door, set())


def test_help_shows_settings_under_headings() -> None:
    groups = {
        group.title: {action.dest for action in group._group_actions} for group in commands()["run"]._action_groups
    }
    assert set(HEADINGS) <= set(NAMES)
    assert {"pool", "target", "text_field"} <= groups["what goes in"]
    assert {"k", "tokens", "temperature"} <= groups["what is chosen"]
    assert not groups["options"] & set(NAMES)


def test_run_takes_every_setting_but_those_of_mixtures_and_evaluations() -> None:
    others = {field.name: field.metadata["doors"] for field in FIELDS if "run" not in field.metadata["doors"]}
    assert {name for name, doors in others.items() if doors == ("mix",)} == {"clusters", "choose"}
    assert {doors for name, doors in others.items() if name not in {"clusters", "choose"}} == {("evaluate",)}


def door_of(name: str) -> str:
    """Return the command that takes a setting and tells its default."""
    doors: tuple[str, ...] = Settings.__dataclass_fields__[name].metadata["doors"]
    return "run" if "run" in doors else doors[0]


@pytest.mark.parametrize("name", NAMES)
def test_help_says_the_default(name: str) -> None:
    default = Settings.__dataclass_fields__[name].default
    action = next(action for action in commands()[door_of(name)]._actions if action.dest == name)
    text = (action.help or "").replace("%%", "%")
    assert len(text) > 8
    if isinstance(default, bool):
        assert f"(default: {'yes' if default else 'no'})" in text
    elif isinstance(default, tuple):
        assert not default or f"(default: {' '.join(default)})" in text
    elif default is not None:
        assert re.search(rf"default:? .*{re.escape(str(default))}|\(default: all-MiniLM", text), text


@pytest.mark.parametrize("name", NAMES)
def test_a_flag_gives_the_setting_its_type(name: str) -> None:
    good = VALUES[name][0][0]
    action = next(action for action in commands()[door_of(name)]._actions if action.dest == name)
    if typing.get_origin(HINTS[name]) is Literal:
        assert tuple(action.choices or ()) == typing.get_args(HINTS[name])
    if isinstance(good, bool):
        given = [action.option_strings[0]]
    else:
        given = [
            action.option_strings[-1],
            *map(str, good if isinstance(good, tuple) else [0.5 if good is None else good]),
        ]
    parsed = build_parser().parse_args([door_of(name), "-o", "out", *given])
    settings = Settings.from_json({name: getattr(parsed, name)})
    assert getattr(settings, name) == (0.5 if good is None else good)


# ---- which settings count


@pytest.mark.parametrize(
    ("changed", "beside"),
    [
        ({"avoid_strength": 2.0}, {"avoid_vectors": ("a.npy",)}),
        ({"balance": "tasks"}, {"target": ("a", "b"), "paths_per_task": (1, 1)}),
        ({"token_field": "n"}, {"tokens": "50M"}),
        ({"vector_field": "v"}, {"pool_vectors": ("a.jsonl",)}),
        ({"gradient_dims": 8}, {"features": "gradient", "pool": ("a",)}),
        ({"pooling": "cls"}, {"pool": ("a",)}),
        ({"max_tokens": 64}, {"loss_weights": "gpt2"}),
        ({"model": "other"}, {"pool": ("a",), "target": ("b",), "target_vectors": ("b.npy",)}),
    ],
)
def test_a_setting_counts_beside_the_one_that_it_belongs_to_and_nowhere_else(
    changed: dict[str, Any], beside: dict[str, Any]
) -> None:
    """Where it does not, no step is done anew for it, and a run is taken up again with another value."""
    for more, counts in (({}, False), (beside, True)):
        one, other = Settings(**more), Settings(**more, **changed)
        assert (one.of("embed", *STEPS) != other.of("embed", *STEPS)) == counts
        assert (signatures(one, {})["report"] != signatures(other, {})["report"]) == counts
