"""Hidden states of language models: against transformers' own, one text at a time, and through a whole run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gapsel
import tiny_models
from gapsel import embed, pipeline
from gapsel.errors import DataError, UsageError
from gapsel.pipeline.vectors import sides as vectors
from gapsel.store import open as open_store
from tiny_models import KINDS, TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return tiny_models.save_each(tmp_path_factory.mktemp("models"))


def expected(folder: Path, text: str) -> NDArray[np.float64]:
    """The weighted mean of what transformers calls the last hidden states of the model with its head."""
    auto = transformers.AutoModelForMaskedLM if folder.name == "bert" else transformers.AutoModelForCausalLM
    network = auto.from_pretrained(folder, dtype=torch.float32).eval()
    ids = transformers.AutoTokenizer.from_pretrained(folder)([text])["input_ids"]
    with torch.no_grad():
        hidden = network(torch.tensor(ids), output_hidden_states=True).hidden_states[-1][0].double().numpy()
    weights = np.arange(1, len(hidden) + 1)
    mean = weights @ hidden / weights.sum()
    return np.asarray(mean / np.linalg.norm(mean))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_tokens", [32, 512])
def test_hidden_features_are_the_weighted_mean_of_the_last_states(
    models: dict[str, Path], kind: str, batch_tokens: int
) -> None:
    encoder = embed.load(
        models[kind], features="hidden", dtype="float32", max_tokens=32, batch_tokens=batch_tokens, device="cpu"
    )
    found = encoder.encode(TEXTS).vectors
    np.testing.assert_allclose(found, [expected(models[kind], text) for text in TEXTS], atol=2e-6)
    shuffled = encoder.encode(TEXTS[::-1]).vectors[::-1]
    np.testing.assert_allclose(shuffled, found, atol=2e-6)


def test_scaled_states_have_no_mean_and_one_spread_in_every_dimension(models: dict[str, Path]) -> None:
    encoder = embed.load(models["gpt2"], features="hidden", dtype="float32", max_tokens=32, device="cpu")
    x, moments = encoder.encode(TEXTS).vectors.astype(np.float64), embed.sample_moments(encoder, TEXTS)
    found = embed.scaled(encoder, moments).encode(TEXTS).vectors
    z = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-4 * x.var(axis=0).mean())
    np.testing.assert_allclose(found, z / np.linalg.norm(z, axis=1, keepdims=True), atol=1e-4)
    alone = embed.scaled(encoder, embed.sample_moments(encoder, TEXTS[:1]))
    np.testing.assert_allclose(alone.encode(TEXTS).vectors, x, atol=1e-6)
    assert len({one.fingerprint["hash"] for one in (encoder, alone, embed.scaled(encoder, moments))}) == 3
    with pytest.raises(DataError, match="made with another model or other settings than 'llama' now"):
        embed.scaled(embed.load(models["llama"], features="hidden", max_tokens=32), moments)


def test_features_are_part_of_the_fingerprint(models: dict[str, Path]) -> None:
    hidden = embed.load(models["llama"], features="hidden", dtype="float32", max_tokens=32).fingerprint
    text = embed.load(models["llama"], dtype="float32", max_tokens=32).fingerprint
    assert hidden["hash"] != text["hash"]
    assert hidden["features"] == "hidden"
    assert "features" not in text, "the hashes of older model files stay what they are"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": "hiden"}, "features is 'hiden': choose one of text, hidden"),
        ({"model": "default"}, r"your own language model's: name it \(--model\)"),
        ({"pooling": "cls"}, "pooled in one way alone"),
        ({"max_tokens": 65}, "use at most 64"),
    ],
)
def test_what_hidden_features_cannot_be_is_refused(
    models: dict[str, Path], settings: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {"model": models["gpt2"], "features": "hidden", "max_tokens": 32} | settings
    with pytest.raises(UsageError, match=message):
        embed.load(**given)


def test_a_tokenizer_of_another_model_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    def with_words(name: str, change: Callable[[dict[str, int]], None]) -> Path:
        folder = shutil.copytree(models["llama"], tmp_path / name)
        file = folder / "tokenizer.json"
        tokenizer = json.loads(file.read_text())
        change(tokenizer["model"]["vocab"])
        file.write_text(json.dumps(tokenizer))
        return folder

    count = len(tiny_models.WORDS)
    larger = with_words("larger", lambda words: words.update(more=count, still=count + 1))
    with pytest.raises(DataError, match=f"knows {count + 2} tokens and the model {count}, so they are of different"):
        embed.load(larger, features="hidden", max_tokens=32)
    shifted = with_words("shifted", lambda words: words.update(rain=count + 4))
    encoder = embed.load(shifted, features="hidden", max_tokens=32)
    with pytest.raises(
        DataError, match=f"text 1 has token {count + 4} of the tokenizer, and the model knows no more than {count}"
    ):
        encoder.encode(TEXTS[:2])


def test_a_run_selects_and_resumes_with_hidden_features(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_SHARD_ROWS", 16)
    monkeypatch.setattr(vectors, "_BATCH_ROWS", 8)
    settings: dict[str, Any] = {
        **tiny_models.write_texts(tmp_path), "model": str(models["llama"]), "features": "hidden", "max_tokens": 16,
        "k": 5, "dtype": "float32", "tolerance": 0.01, "methods": [],
    }  # fmt: skip
    whole = gapsel.run(tmp_path / "whole", **settings)
    forward, calls = embed.Encoder.forward, 0

    def dies(*given: object) -> object:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise KeyboardInterrupt
        return forward(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(embed.Encoder, "forward", dies)
        with pytest.raises(KeyboardInterrupt):
            gapsel.run(tmp_path / "stopped", **settings)
    index = json.loads((tmp_path / "stopped" / "vectors" / "pool" / "store.json").read_text())
    assert 0 < len(index["shards"]) < 4, "some shards are done, and not all"
    resumed = gapsel.run(tmp_path / "stopped", **settings)
    assert resumed.rows.tolist() == whole.rows.tolist()
    stores = [open_store(tmp_path / name / "vectors" / "pool") for name in ("whole", "stopped")]
    assert stores[0].fingerprint_hex == stores[1].fingerprint_hex

    loaded = gapsel.load(tmp_path / "whole")
    lines = Path(settings["pool"]).read_text(encoding="utf-8").splitlines()
    scores = loaded.score_texts([json.loads(line)["text"] for line in lines])
    assert np.argsort(scores)[:5].tolist() == whole.rows.tolist()
    other = embed.load(models["llama"], max_tokens=16, dtype="float32")
    with pytest.raises(DataError, match="they differ in features, pooling"):
        gapsel.load(tmp_path / "whole", encoder=other).score_texts(["rain"])


def test_other_features_are_another_run(models: dict[str, Path], tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        **tiny_models.write_texts(tmp_path),
        "model": str(models["gpt2"]),
        "max_tokens": 16,
        "k": 5,
    }
    with pipeline.begin(
        tmp_path / "out", pipeline.make_settings({**settings, "features": "hidden"}), quiet=True
    ) as run:
        pipeline.advance(run, "embed")
    with pytest.raises(UsageError, match="features 'hidden' where this one has 'text'"):
        gapsel.run(tmp_path / "out", **settings)
