"""Weights by a model's loss: what a file of exp(-loss) would give, in a pass that is taken up where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gapsel
import tiny_models
from gapsel import embed, pipeline
from gapsel.cli import main
from gapsel.errors import DataError, UsageError
from gapsel.pipeline.vectors import sides as vectors
from gapsel.store import open as open_store

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    return {"causal": tiny_models.save_causal(home / "causal"), "masked": tiny_models.save_masked(home / "masked")}


@pytest.fixture
def settings(models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(vectors, "_SHARD_ROWS", 16)
    monkeypatch.setattr(vectors, "_BATCH_ROWS", 8)
    return {
        **tiny_models.write_texts(tmp_path), "model": str(models["masked"]), "loss_weights": str(models["causal"]),
        "max_tokens": 16, "dtype": "float32", "device": "cpu", "k": 5, "tolerance": 0.01, "methods": [],
    }  # fmt: skip


def losses(folder: Path, settings: dict[str, Any]) -> Any:  # noqa: ANN401 - an array
    encoder = embed.load(folder, features="loss", max_tokens=16, dtype="float32", device="cpu")
    lines = Path(settings["pool"]).read_text(encoding="utf-8").splitlines()
    return encoder.encode([json.loads(line)["text"] for line in lines]).vectors[:, 0].astype(np.float64)


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_a_model_weighs_the_pool_as_its_losses_in_a_file_do(
    settings: dict[str, Any], models: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    weighed = gapsel.run(tmp_path / "weighed", **settings | {"loss_weights": str(models[kind])})
    expected = np.exp(-losses(models[kind], settings))
    (file,) = (tmp_path / "weighed" / "vectors").glob("loss-*/weights.npy")
    np.testing.assert_allclose(np.load(file), expected, rtol=1e-4)
    assert expected.max() > 1.5 * expected.min(), "weights that are all alike prove nothing"

    np.save(tmp_path / "a.npy", np.load(file))
    by_file = {**settings, "loss_weights": None, "pool_weights": str(tmp_path / "a.npy")}
    same = gapsel.run(tmp_path / "same", **by_file)
    assert same.rows.tolist() == weighed.rows.tolist()
    np.testing.assert_array_equal(same.scores, weighed.scores)
    alike = gapsel.run(tmp_path / "alike", **{**settings, "loss_weights": None})
    assert not np.array_equal(np.sort(alike.scores), np.sort(weighed.scores))


def test_a_stopped_pass_goes_on_and_another_model_is_another_fit(
    settings: dict[str, Any], models: dict[str, Path], tmp_path: Path
) -> None:
    whole = gapsel.run(tmp_path / "whole", **settings)
    forward, calls = embed.Encoder.forward, 0

    def dies(encoder: embed.Encoder, *given: Any) -> Any:  # noqa: ANN401 - as forward has it
        nonlocal calls
        calls += not encoder.unit
        if calls > 5:
            raise KeyboardInterrupt
        return forward(encoder, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed.Encoder, "forward", dies)
        with pytest.raises(KeyboardInterrupt):
            gapsel.run(tmp_path / "out", **settings)
    (begun,) = (tmp_path / "out" / "vectors").glob("loss-*")
    assert 0 < len(json.loads((begun / "store.json").read_text())["shards"]) < 4
    calls = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed.Encoder, "forward", dies)
        resumed = gapsel.run(tmp_path / "out", **settings)
    assert 0 < calls < 8, "the shards that were done are not embedded again"
    assert resumed.rows.tolist() == whole.rows.tolist()
    np.testing.assert_array_equal(resumed.scores, whole.scores)
    made = open_store(tmp_path / "out" / "vectors" / begun.name)
    assert made.fingerprint_hex == open_store(tmp_path / "whole" / "vectors" / begun.name).fingerprint_hex

    record = json.loads((tmp_path / "out" / "run.json").read_text())["steps"]
    assert main(["fit", "-o", str(tmp_path / "out"), "--quiet", "--loss-weights", str(models["masked"])]) == 0
    changed = json.loads((tmp_path / "out" / "run.json").read_text())["steps"]
    assert changed["embed"] == record["embed"]
    assert changed["fit"]["made_weights"] != record["fit"]["made_weights"]
    assert main(["select", "-o", str(tmp_path / "out"), "--quiet"]) == 0


def test_weights_by_loss_need_texts_and_no_other_weights(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"loss_weights is .*: give it or pool_weights: both are weights of the pool"):
        gapsel.run(tmp_path / "out", **settings, pool_weights="a.npy")
    np.save(tmp_path / "pool.npy", np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32))
    ready = {**settings, "pool": (), "pool_vectors": str(tmp_path / "pool.npy")}
    with pytest.raises(UsageError, match=r"and the pool has no texts: give them \(--pool\)"):
        gapsel.run(tmp_path / "out", **ready)
    assert not (tmp_path / "out").exists(), "nothing was begun"
    with pytest.raises(UsageError, match="loss_weights is a setting of runs over files"):
        gapsel.Selector(k=5, loss_weights="model")


def test_a_model_that_has_no_loss_changes_nothing(settings: dict[str, Any], tmp_path: Path) -> None:
    body = transformers.AutoModel.from_pretrained(settings["model"])
    headless = tiny_models.save_masked(tmp_path / "headless")
    body.save_pretrained(headless)
    plain = {name: value for name, value in settings.items() if name != "loss_weights"}
    chosen = gapsel.run(tmp_path / "out", **plain)
    before = (tmp_path / "out" / "run.json").read_bytes()
    with (
        pytest.raises(DataError, match="saved without its language head"),
        pipeline.reopen(tmp_path / "out", {"loss_weights": str(headless)}, quiet=True) as run,
    ):
        pipeline.advance(run, "fit")
    assert (tmp_path / "out" / "run.json").read_bytes() == before
    assert gapsel.run(tmp_path / "out", **plain).rows.tolist() == chosen.rows.tolist()


def test_a_mixture_is_weighted_too(settings: dict[str, Any], tmp_path: Path) -> None:
    given = {name: value for name, value in settings.items() if name not in {"k", "methods"}} | {"clusters": 3}
    mixed = gapsel.mix(tmp_path / "by_loss", **given)
    (file,) = (tmp_path / "by_loss" / "vectors").glob("loss-*/weights.npy")
    np.save(tmp_path / "a.npy", np.load(file))
    same = gapsel.mix(tmp_path / "by_file", **given | {"loss_weights": None, "pool_weights": str(tmp_path / "a.npy")})
    assert [one.weight for one in same.domains] == [one.weight for one in mixed.domains]
    alike = gapsel.mix(tmp_path / "alike", **given | {"loss_weights": None})
    assert [one.natural for one in alike.domains] != [one.natural for one in mixed.domains]
