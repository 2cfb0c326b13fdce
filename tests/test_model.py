"""A saved model is the same model; what is no model is refused by name."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as tensor_bytes

from gapsel.backends.cpu import CpuBackend
from gapsel.calibration import Calibration, mean_of
from gapsel.cost import measure_scale
from gapsel.errors import DataError
from gapsel.model import Model, load, sealed
from gapsel.potentials import Aversion, Rows, Solution, Task, solve
from gapsel.records import COST_KINDS, Cost, CostKind, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CPU = CpuBackend(2)
ROOT = Path(__file__).resolve().parent.parent
RUSTC = shutil.which("rustc") or shutil.which("rustc", path=Path.home() / ".cargo" / "bin")
X = np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32)
Y = (np.random.default_rng(1).standard_normal((9, 6)) + 0.5).astype(np.float32)


def fitted(kind: CostKind = "sqeuclidean", mass: float = 0.5, **about: object) -> tuple[Model, Solution]:
    b = np.arange(9, dtype=np.float64)
    cost, target, rows = Cost(kind), Target(Y, b / b.sum()), Rows.whole([X], 20)
    scale = measure_scale(X, target, cost)
    solution = solve(Task(rows, target, cost, scale, scale.eps(0.3), mass), CPU)
    return Model(solution.potentials, Calibration.of(solution.f, rows.a), dict(about)), solution


def avoiding(model: Model) -> Model:
    """The same model, and some examples to be avoided."""
    y = np.random.default_rng(5).standard_normal((7, 6)).astype(np.float32)
    cost, target, rows = model.potentials.cost, Target(y, np.full(7, 1 / 7)), Rows.whole([X], 20)
    scale = measure_scale(X, target, cost)
    aversion = Aversion(Task(rows, target, cost, scale, scale.eps(0.4), 0.0), 0.7)
    return replace(model, avoided=aversion.priced(rows, CPU)[1])


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
        for name in ("rows", "pool_rows", "mean", "weight"):
            assert getattr(again.calibration, name) == getattr(model.calibration, name)
        for name in ("ranks", "quantiles"):
            assert getattr(again.calibration, name).tobytes() == getattr(model.calibration, name).tobytes()
        assert again.embedder == model.embedder
        assert again.f([X], CPU).tobytes() == solution.f.tobytes()


def test_what_is_avoided_is_saved_too_and_is_a_price_of_f(tmp_path: Path) -> None:
    plain, solution = fitted(mass=0.5)
    avoiding(plain).save(tmp_path / "model.safetensors")
    again, avoided = load(tmp_path), avoiding(plain).avoided
    assert avoided is not None
    assert again.avoided is not None
    assert again.avoided.potentials.g.tobytes() == avoided.potentials.g.tobytes()
    assert again.avoided.potentials.evidence.converged
    assert again.avoided.potentials.eps == avoided.potentials.eps
    assert (again.avoided.strength, again.avoided.mean) == (0.7, avoided.mean)
    h = replace(plain, potentials=avoided.potentials).f([X], CPU).astype(np.float64)
    assert avoided.mean == pytest.approx(h.mean())
    np.testing.assert_allclose(again.f([X], CPU), solution.f - 0.7 * (h - h.mean()), atol=1e-6)
    assert not plain.prices([X], CPU).any()


def test_f_of_unseen_vectors_is_that_of_a_sweep() -> None:
    model, solution = fitted()
    unseen = np.random.default_rng(2).standard_normal((31, 6)).astype(np.float32)
    together = model.f([unseen[:3], X, unseen[3:]], CPU)
    assert together[3:203].tobytes() == solution.f.tobytes()
    assert np.r_[together[:3], together[203:]].tobytes() == model.f([unseen], CPU).tobytes()
    assert model.f([X[5:6]], CPU)[0] == solution.f[5]


@pytest.mark.parametrize("a", [1 / 200, np.random.default_rng(3).random(200)], ids=["equal", "weighted"])
def test_scores_are_those_of_documents_of_the_pool(a: float | NDArray[np.float64]) -> None:
    model, solution = fitted()
    calibration = Calibration.of(solution.f, a, pool_rows=1000)
    assert (calibration.rows, calibration.pool_rows) == (200, 1000)
    assert calibration.mean == mean_of(solution.f, a)
    paper = (solution.f.astype(np.float64) - calibration.mean) * (1000 / 999)
    np.testing.assert_allclose(Model(model.potentials, calibration).score(solution.f), paper, rtol=1e-9, atol=1e-12)


def test_what_is_not_known_is_null_and_the_header_strict_json(tmp_path: Path) -> None:
    model, _ = fitted()
    evidence = replace(model.potentials.evidence, unsettled=math.nan)
    replace(model, potentials=replace(model.potentials, evidence=evidence)).save(tmp_path / "model.safetensors")
    text = header_of((tmp_path / "model.safetensors").read_bytes())["__metadata__"]["about"]
    assert json.loads(text, parse_constant=pytest.fail)["evidence"]["unsettled"] is None
    assert math.isnan(load(tmp_path).potentials.evidence.unsettled)


# ---- the readers of the documentation


def code(language: str) -> str:
    """The one block of code of this language in docs/model-format.md."""
    text = (ROOT / "docs" / "model-format.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    return str(blocks[0])


@pytest.fixture(params=[False, True], ids=["plain", "avoiding"])
def saved(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Model, NDArray[np.float32]]:
    """A model in the working folder, and vectors that it has not seen."""
    monkeypatch.chdir(tmp_path)
    model, _ = fitted(model='an "eps" encoder')
    model = avoiding(model) if request.param else model
    model.save("model.safetensors")
    return model, np.random.default_rng(4).standard_normal((50, 6)).astype(np.float32)


def test_the_numpy_reader_of_the_documentation_scores_alike(saved: tuple[Model, NDArray[np.float32]]) -> None:
    model, unseen = saved
    reader = code("python")
    assert sum(bool(line.strip()) for line in reader.splitlines()) <= 20
    names: dict[str, Any] = {}
    exec(compile(reader, "docs/model-format.md", "exec"), names)  # noqa: S102 - it is our own documentation
    f = model.f([unseen], CPU)
    with np.errstate(divide="ignore"):  # of the logarithm of a weight of 0
        np.testing.assert_allclose(names["f"](unseen), f, atol=2e-6)
        np.testing.assert_allclose(names["score"](unseen), model.score(f), atol=2e-6)


@pytest.mark.skipif(RUSTC is None, reason="needs rustc, as building gapsel does")
def test_the_rust_reader_of_the_documentation_scores_alike(saved: tuple[Model, NDArray[np.float32]]) -> None:
    model, unseen = saved
    Path("reader.rs").write_text(code("rust"), encoding="utf-8")
    subprocess.run([str(RUSTC), "--edition=2024", "-Dwarnings", "reader.rs"], check=True, timeout=100)
    done = subprocess.run(["./reader", "model.safetensors"], input=unseen.tobytes(), capture_output=True, check=True)
    scores = np.array(done.stdout.split(), np.float64)
    np.testing.assert_allclose(scores, model.score(model.f([unseen], CPU)), atol=2e-6)


# What is no model


def header_of(raw: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return found


def rewritten(raw: bytes, change: Callable[[dict[str, Any], dict[str, str]], object]) -> bytes:
    """The file with its tensors and metadata changed, and the digest that belongs to that."""
    tensors, metadata = dict(read_tensors(raw)), header_of(raw)["__metadata__"]
    change(tensors, metadata)
    return sealed(tensor_bytes(tensors, metadata))


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
    ("too new", metadata(format="gapsel-model-99"), "gapsel-model-99, of a newer gapsel.*: update gapsel, or fit"),
    ("too old", metadata(format="gapsel-model-1"), "gapsel-model-1, of an older gapsel.*: fit it again"),
    ("no version", metadata(format="gapsel-model-two"), "is no model of gapsel"),
    ("other tensors", lambda _: tensor_bytes({"w": np.ones(3)}), "is no model of gapsel .its format is ''.: name a"),
    ("more metadata", metadata(mood="good"), "it has metadata that are unknown here: mood"),
    ("more keys", about(mood="good"), "it has keys that are unknown here: mood"),
    ("more tensors", tensors(h=np.ones(9)), "it has tensors that are unknown here: h"),
    ("no JSON", metadata(about="{eps"), "no complete gapsel model"),
    ("a list", metadata(about="[1]"), "no complete gapsel model"),
    ("no g", without("g"), "no complete gapsel model"),
    ("no ranks", without("ranks"), "lacks the tensors ranks"),
    ("ranks short", tensors(ranks=np.ones(2, np.int64)), "ranks and quantiles do not agree in length"),
    ("g in float32", tensors(g=np.ones(9, np.float32)), "g is no float64"),
    ("y flat", tensors(y=np.ones(9, np.float32)), "y is no float32 of its shape"),
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
    with pytest.raises(DataError, match="it lacks the metadata about"):
        load(file)


def test_no_flipped_bit_goes_unseen(tmp_path: Path) -> None:
    """In the length of the header, the header, its digest, and the numbers."""
    file = tmp_path / "model.safetensors"
    fitted()[0].save(file)
    raw = file.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    rng = np.random.default_rng(5)
    places = [*rng.choice(start, 200, replace=False), *rng.choice(np.arange(start, len(raw)), 200, replace=False)]
    for place in [*range(8), *map(int, places)]:
        flipped = bytearray(raw)
        flipped[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        with pytest.raises(DataError, match=re.escape(str(file))):
            load(file)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.999])
def test_a_file_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    file = tmp_path / "model.safetensors"
    fitted()[0].save(file)
    raw = file.read_bytes()
    file.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(DataError, match="cannot be read as a model"):
        load(file)


@pytest.mark.parametrize("name", ["nowhere.safetensors", "."])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"\.safetensors: there is no model") as caught:
        load(tmp_path / name)
    assert str(tmp_path) in str(caught.value)
