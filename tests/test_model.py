"""A saved model is the same model; what is no model is refused by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as tensor_bytes

from gapsel.backends.cpu import CpuBackend
from gapsel.cost import measure_scale
from gapsel.errors import DataError
from gapsel.model import QUANTILES, Calibration, Model, load
from gapsel.potentials import Rows, Solution, Task, solve
from gapsel.records import COST_KINDS, Cost, CostKind, Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

CPU = CpuBackend(2)
X = np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32)
Y = (np.random.default_rng(1).standard_normal((9, 6)) + 0.5).astype(np.float32)


def fitted(kind: CostKind = "sqeuclidean", mass: float = 0.5, **about: object) -> tuple[Model, Solution]:
    b = np.arange(9, dtype=np.float64)
    cost, target, rows = Cost(kind), Target(Y, b / b.sum()), Rows.whole([X], 20)
    scale = measure_scale(X, target, cost)
    solution = solve(Task(rows, target, cost, scale, scale.eps(0.3), mass), CPU)
    return Model(solution.potentials, Calibration.of(solution.f, rows.a), dict(about)), solution


@pytest.mark.parametrize("kind", COST_KINDS)
@pytest.mark.parametrize("mass", [0.0, 0.5])
def test_saved_and_loaded_it_is_the_same_bit_for_bit(tmp_path: Path, kind: CostKind, mass: float) -> None:
    model, solution = fitted(kind, mass, hash="abc", model="an encoder", settings=[1, {"max_tokens": 256}])
    model.save(tmp_path / "model.safetensors")
    for path in (tmp_path / "model.safetensors", tmp_path, str(tmp_path)):
        again = load(path)
        for name in ("y", "b"):
            assert getattr(again.potentials.target, name).tobytes() == getattr(model.potentials.target, name).tobytes()
        assert again.potentials.g.tobytes() == model.potentials.g.tobytes()
        assert again.potentials.evidence == model.potentials.evidence
        assert again.potentials.eps == model.potentials.eps
        assert again.potentials.scale == model.potentials.scale
        assert again.potentials.cost == model.potentials.cost
        assert again.potentials.mass == mass
        assert again.calibration == model.calibration
        assert again.embedder == model.embedder
        assert again.f([X], CPU).tobytes() == solution.f.tobytes()


def test_f_of_unseen_vectors_is_that_of_a_sweep() -> None:
    model, solution = fitted()
    unseen = np.random.default_rng(2).standard_normal((31, 6)).astype(np.float32)
    together = model.f([unseen[:3], X, unseen[3:]], CPU)
    assert together[3:203].tobytes() == solution.f.tobytes()
    assert np.r_[together[:3], together[203:]].tobytes() == model.f([unseen], CPU).tobytes()
    assert model.f([X[5:6]], CPU)[0] == solution.f[5]


@pytest.mark.parametrize("a", [1 / 200, np.random.default_rng(3).random(200)], ids=["equal", "weighted"])
def test_scores_are_measured_from_the_pools_mean(a: float | NDArray[np.float64]) -> None:
    model, solution = fitted()
    f = solution.f.astype(np.float64)
    mean = f.mean() if isinstance(a, float) else (a @ f) / a.sum()
    calibration = Calibration.of(solution.f, a)
    assert calibration.rows == 200
    assert calibration.mean == pytest.approx(mean, rel=1e-12)
    assert calibration.quantiles == tuple(np.quantile(solution.f, QUANTILES).tolist())
    assert (calibration.quantiles[0], calibration.quantiles[-1]) == (f.min(), f.max())
    np.testing.assert_allclose(Model(model.potentials, calibration).score(solution.f), f - mean, rtol=1e-9, atol=1e-12)


# What is no model


def rewritten(raw: bytes, change: Callable[[dict[str, Any], dict[str, str]], object]) -> bytes:
    """The file with its tensors and metadata changed."""
    length = int.from_bytes(raw[:8], "little")
    tensors, metadata = dict(read_tensors(raw)), json.loads(raw[8 : 8 + length])["__metadata__"]
    change(tensors, metadata)
    return tensor_bytes(tensors, metadata)


def about(**changes: object) -> Callable[[bytes], bytes]:
    def change(_: dict[str, Any], metadata: dict[str, str]) -> None:
        metadata["about"] = json.dumps(json.loads(metadata["about"]) | changes)

    return lambda raw: rewritten(raw, change)


def metadata(**changes: str) -> Callable[[bytes], bytes]:
    return lambda raw: rewritten(raw, lambda _, old: old.update(changes))


def tensors(**changes: NDArray[Any]) -> Callable[[bytes], bytes]:
    return lambda raw: rewritten(raw, lambda old, _: old.update(changes))


def without(tensor: str) -> Callable[[bytes], bytes]:
    return lambda raw: rewritten(raw, lambda old, _: old.pop(tensor))


DAMAGE: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("empty", lambda _: b"", "cannot be read"),
    ("text", lambda _: b"this is no model, but a note that somebody left here", "cannot be read"),
    ("half", lambda raw: raw[: len(raw) // 2], "cannot be read"),
    ("header cut", lambda raw: raw[:40], "cannot be read"),
    ("a byte too many", lambda raw: raw + b"x", "cannot be read"),
    ("another format", metadata(format="gapsel-model-99"), "its format is 'gapsel-model-99'"),
    ("other tensors", lambda _: tensor_bytes({"w": np.ones(3)}), "its format is None"),
    ("no JSON", metadata(about="{eps"), "no complete gapsel model"),
    ("a list", metadata(about="[1]"), "no complete gapsel model"),
    ("no g", without("g"), "no complete gapsel model"),
    ("g too long", tensors(g=np.ones(10)), "do not agree in length"),
    ("y too short", tensors(y=Y[:4]), "do not agree in length"),
    ("evidence gone", about(evidence=None), "no complete gapsel model"),
    ("evidence new", about(evidence={"trace": [], "mood": "good"}), "no complete gapsel model"),
    ("scale gone", about(scale={}), "no complete gapsel model"),
    ("cost unknown field", about(cost={"kind": "sqeuclidean", "power": 3}), "no complete gapsel model"),
]


@pytest.mark.parametrize(("damage", "message"), [row[1:] for row in DAMAGE], ids=[row[0] for row in DAMAGE])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    file = tmp_path / "model.safetensors"
    fitted()[0].save(file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        load(file)
    assert str(file) in str(caught.value)


def test_metadata_may_be_missing_altogether(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    fitted()[0].save(file)
    file.write_bytes(rewritten(file.read_bytes(), lambda _, old: old.pop("about")))
    with pytest.raises(DataError, match="no complete gapsel model"):
        load(file)


@pytest.mark.parametrize("name", ["nowhere.safetensors", "."])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"\.safetensors: there is no model") as caught:
        load(tmp_path / name)
    assert str(tmp_path) in str(caught.value)
