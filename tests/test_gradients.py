"""Gradient features: each document's gradients against autograd on it alone, the projection against inner products."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gapsel
import tiny_models
from gapsel import embed, pipeline
from gapsel.embed.encoder import Padded
from gapsel.embed.gradients import Gradients
from gapsel.embed.lora import RANK, lora_gradients
from gapsel.embed.moments import Moments
from gapsel.embed.projection import Fold
from gapsel.errors import DataError, UsageError
from gapsel.pipeline.vectors import encoding, moments
from gapsel.pipeline.vectors import sides as vectors
from gapsel.store import open as open_store
from tiny_models import KINDS, TEXTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return tiny_models.save_each(tmp_path_factory.mktemp("models"))


def load(folder: Path, **more: Any) -> embed.Encoder:  # noqa: ANN401 - settings
    given: dict[str, Any] = {
        "features": "gradient",
        "gradient_dims": 64,
        "dtype": "float32",
        "max_tokens": 32,
        "device": "cpu",
    } | more
    return embed.load(folder, **given)


def in_float64(encoder: embed.Encoder) -> tuple[Gradients, Padded]:
    """The features of a model in float64, and all texts as one batch."""
    assert isinstance(encoder.features, Gradients)
    encoder.model.double()
    features = Gradients(encoder.features.language, 64)
    ((rows, batch),) = replace(encoder, batch_tokens=1024).batches(encoder.tokenize(TEXTS))
    order = np.argsort(rows)
    return features, Padded(batch.ids[order], batch.lengths[order])


def loss_alone(features: Gradients, batch: Padded, row: int) -> Any:  # noqa: ANN401 - a tensor
    """The loss of one document, alone and with no padding, written out."""
    spoken, length = features.language, int(batch.lengths[row])
    ids = torch.tensor(batch.ids[row, :length])
    if spoken.mask is None:
        first = [] if spoken.start is None else [spoken.start]
        whole = torch.cat([torch.tensor(first, dtype=torch.int64), ids])
        said = spoken.network(input_ids=whole[None]).logits[0].log_softmax(-1)
        return -torch.stack([said[at, whole[at + 1]] for at in range(len(whole) - 1)]).mean()
    hidden = np.flatnonzero(spoken.hidden(batch)[row])
    shown = ids.clone()
    shown[hidden] = spoken.mask
    said = spoken.network(input_ids=shown[None]).logits[0].log_softmax(-1)
    return -torch.stack([said[at, ids[at]] for at in hidden]).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_autograd_on_each_document_alone(models: dict[str, Path], kind: str) -> None:
    features, batch = in_float64(load(models[kind]))
    found: dict[int, Any] = {}
    lora_gradients(features.language, features.layers, batch, lambda at, g: found.update({at: found.get(at, 0) + g}))
    assert len(found) == len(features.layers) >= 8
    weights = [layer.module.weight.requires_grad_() for layer in features.layers]
    for row in range(len(TEXTS)):
        whole = torch.autograd.grad(loss_alone(features, batch, row), weights)
        for at, layer in enumerate(features.layers):
            g = whole[at] if type(layer.module) is torch.nn.Linear else whole[at].T
            expected = g @ layer.down
            assert row > 0 or expected.abs().max() > 1e-6, "a gradient of nothing proves nothing"
            torch.testing.assert_close(found[at][row], expected, rtol=1e-9, atol=1e-12)


def test_the_layers_are_all_linear_ones_but_the_head(models: dict[str, Path]) -> None:
    features = load(models["llama"]).features
    assert isinstance(features, Gradients)
    names = [layer.name for layer in features.layers]
    assert len(names) == 2 * 7
    assert "lm_head" not in names
    assert all(set(np.unique(np.abs(layer.down.numpy()))) == {np.float32(RANK**-0.5)} for layer in features.layers)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_tokens", [32, 512])
def test_batches_and_padding_do_not_matter(models: dict[str, Path], kind: str, batch_tokens: int) -> None:
    alone = np.concatenate([load(models[kind]).encode([text]).vectors for text in TEXTS])
    found = load(models[kind], batch_tokens=batch_tokens).encode(TEXTS).vectors
    np.testing.assert_allclose(found, alone, atol=2e-5)
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6
    others = found @ found.T - np.eye(len(TEXTS))
    assert others.max() < 0.999, "different documents have different vectors"


def test_a_document_of_one_token_and_of_special_ones_alone_has_a_loss(models: dict[str, Path]) -> None:
    for kind in KINDS:
        losses = load(models[kind], features="loss").encode(["rain", "[SEP]"]).vectors
        assert losses.shape == (2, 1)
        assert (losses > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_each_document_alone(models: dict[str, Path], kind: str) -> None:
    features, batch = in_float64(load(models[kind]))
    with torch.no_grad():
        expected = [float(loss_alone(features, batch, row)) for row in range(len(TEXTS))]
    found = load(models[kind], features="loss", batch_tokens=64).encode(TEXTS)
    np.testing.assert_allclose(found.vectors[:, 0], expected, rtol=1e-5)
    assert len(set(np.round(expected, 6))) == len(TEXTS)


def test_a_masked_model_says_15_per_cent_of_the_words_drawn_by_the_document(models: dict[str, Path]) -> None:
    spoken = load(models["bert"], features="loss").features.language  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    ids = rng.integers(len(tiny_models.SPECIAL), len(tiny_models.WORDS), (50, 22))
    ids[:, 0], ids[:, 21] = 2, 3
    hidden = spoken.hidden(Padded(ids, np.full(50, 22)))
    assert hidden.sum(axis=1).tolist() == [3] * 50
    assert hidden[:, [0, 21]].sum() == 0
    assert len({tuple(row) for row in hidden.tolist()}) > 40, "drawn anew for every document"
    wider = np.concatenate([ids[:1], np.zeros((1, 9), np.int64)], axis=1)
    assert spoken.hidden(Padded(wider, np.array([22])))[0, :22].tolist() == hidden[0].tolist()


# ---- the projection


def projected(x: NDArray[np.float64], d: int, blocks: int, seed: int = 0) -> NDArray[np.float64]:
    parts = np.split(x, np.cumsum([x.shape[1] // blocks] * (blocks - 1)), axis=1)
    folds = [
        Fold(part.shape[1], d, at + 1000 * seed, np.ones(part.shape[1], np.float32), torch.device("cpu"))
        for at, part in enumerate(parts)
    ]
    return np.asarray(sum(fold(torch.from_numpy(part)).numpy() for fold, part in zip(folds, parts, strict=True)))


@pytest.mark.parametrize(("count", "blocks"), [(5000, 1), (5003, 7), (100, 3)])
def test_the_projection_keeps_inner_products(count: int, blocks: int) -> None:
    """Of 200 pairs each error is below five standard deviations, sqrt(2/d), and their mean is none."""
    rng, d = np.random.default_rng(1), 128
    x, y = rng.normal(size=(2, 20, count))
    y += 0.5 * x
    x, y = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (x, y))
    errors = []
    for seed in range(10):
        px, py = projected(x, d, blocks, seed), projected(y, d, blocks, seed)
        errors.append((px * py).sum(axis=1) - (x * y).sum(axis=1))
    deviation = np.sqrt(2 / d)
    assert np.abs(errors).max() < 5 * deviation
    assert abs(np.mean(errors)) < deviation / np.sqrt(200) * 4
    if count > 2 * d:
        assert np.std(errors) > 0.3 * deviation, "a projection that loses nothing is none"


def test_every_number_falls_onto_one_place_with_a_sign() -> None:
    units = projected(np.eye(300), 64, 1)
    assert sorted(np.abs(units).sum(axis=1).tolist()) == [1.0] * 300
    assert np.abs(units).sum(axis=0).max() == 5, "300 numbers on 64 places: five at most"
    assert 0.3 < (units.sum(axis=1) > 0).mean() < 0.7


def test_the_features_are_the_projected_gradients_divided_as_adam_would(models: dict[str, Path]) -> None:
    encoder = load(models["gpt2"])
    found = embed.sample_moments(encoder, TEXTS)
    features = encoder.features
    assert isinstance(features, Gradients)
    ((rows, batch),) = replace(encoder, batch_tokens=1024).batches(encoder.tokenize(TEXTS))
    gradients: dict[int, Any] = {}
    lora_gradients(features.language, features.layers, batch, lambda at, g: gradients.update({at: g.double().numpy()}))
    by_hand = np.zeros((len(TEXTS), 64))
    for at, layer in enumerate(features.layers):
        v = (gradients[at] ** 2).mean(axis=0)
        np.testing.assert_allclose(found.v[layer.name], v, rtol=1e-5)
        scaled = gradients[at] / (v + 1e-4 * v.mean()) ** 0.25
        ones = np.ones(layer.outputs * RANK, np.float32)
        fold = Fold(len(ones), 64, at, ones, torch.device("cpu"))
        by_hand += fold(torch.from_numpy(scaled.reshape(len(TEXTS), -1))).numpy()
    by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
    adam = embed.scaled(encoder, found)
    np.testing.assert_allclose(adam.encode(TEXTS).vectors[rows], by_hand, atol=1e-5)
    assert np.abs(encoder.encode(TEXTS).vectors[rows] - by_hand).max() > 0.01


def test_moments_are_kept_whole_and_part_of_the_fingerprint(models: dict[str, Path], tmp_path: Path) -> None:
    encoder = load(models["llama"])
    found = embed.sample_moments(encoder, TEXTS)
    file = tmp_path / "moments.safetensors"
    found.save(file)
    again = Moments.load(file)
    assert (again.hash, again.documents) == (found.hash, len(TEXTS))
    made = [encoder, embed.scaled(encoder, again), load(models["llama"], gradient_dims=32)]
    made += [embed.scaled(encoder, embed.sample_moments(encoder, TEXTS[:2])), load(models["gpt2"])]
    assert len({one.fingerprint["hash"] for one in made}) == len(made)
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(DataError, match="are damaged or of another version"):
        Moments.load(file)
    file.write_bytes(damaged[:100])
    with pytest.raises(DataError, match="cannot be read as moments"):
        Moments.load(file)
    with pytest.raises(DataError, match="made with another model or other settings than 'gpt2' now"):
        embed.scaled(load(models["gpt2"]), found)


# ---- models that cannot


def test_a_model_without_its_head_is_refused(tmp_path: Path) -> None:
    for name, saved in (("bert", tiny_models.save_masked), ("llama", tiny_models.save_causal)):
        folder = saved(tmp_path / name)
        body = transformers.AutoModel.from_pretrained(folder)
        body.save_pretrained(folder)
        with pytest.raises(DataError, match="saved without its language head, or the files do not fit"):
            load(folder)


def test_a_model_that_is_no_language_model_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 64}
    transformers.T5Model(transformers.T5Config(**sizes)).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(models["llama"]).save_pretrained(tmp_path)
    with pytest.raises(DataError, match="neither a causal nor a masked language model"):
        load(tmp_path)


def test_a_model_without_gradients_is_refused(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load(models["llama"])
    norm = type(encoder.model.model.norm)
    forward = norm.forward
    monkeypatch.setattr(norm, "forward", lambda self, x: forward(self, x).detach())
    with pytest.raises(DataError, match="passes no gradients back to its layers: use --features hidden"):
        encoder.encode(TEXTS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_dims": 0}, "gradient_dims is 0"),
        ({"max_tokens": 64}, "use at most 63"),
        ({"model": "default"}, "your own language model's"),
    ],
)
def test_wrong_settings_are_usage_errors(models: dict[str, Path], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(**{"folder": models["llama"], **settings} if "model" not in settings else {"folder": "default"})


# ---- through a run


@pytest.fixture
def settings(models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A pool of four shards, the batches of which are smaller than they are, and what to do with it."""
    monkeypatch.setattr(vectors, "_SHARD_ROWS", 16)
    monkeypatch.setattr(vectors, "_BATCH_ROWS", 8)
    return {
        **tiny_models.write_texts(tmp_path), "model": str(models["llama"]), "features": "gradient", "k": 5,
        "gradient_dims": 32, "max_tokens": 16, "dtype": "float32", "device": "cpu", "tolerance": 0.01, "methods": [],
    }  # fmt: skip


def content(folder: Path) -> str:
    return open_store(folder / "vectors" / "pool").fingerprint_hex


def stopped(out: Path, settings: dict[str, Any], calls: int) -> None:
    """Run until so many chunks of documents are embedded, and die."""
    forward, made = embed.Encoder.forward, 0

    def dies(*given: Any) -> Any:  # noqa: ANN401 - as forward has it
        nonlocal made
        made += 1
        if made > calls:
            raise KeyboardInterrupt
        return forward(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed.Encoder, "forward", dies)
        with pytest.raises(KeyboardInterrupt):
            gapsel.run(out, **settings)


def test_a_run_selects_resumes_and_scores_with_gradients(settings: dict[str, Any], tmp_path: Path) -> None:
    whole = gapsel.run(tmp_path / "whole", **settings)
    stopped(tmp_path / "stopped", settings, 5)
    scales = (tmp_path / "stopped" / embed.MOMENTS).read_bytes()
    resumed = gapsel.run(tmp_path / "stopped", **settings)
    assert resumed.rows.tolist() == whole.rows.tolist()
    assert (tmp_path / "stopped" / embed.MOMENTS).read_bytes() == scales
    assert content(tmp_path / "whole") == content(tmp_path / "stopped")

    loaded = gapsel.load(tmp_path / "whole")
    lines = Path(settings["pool"]).read_text(encoding="utf-8").splitlines()
    scores = loaded.score_texts([json.loads(line)["text"] for line in lines])
    assert np.argsort(scores)[:5].tolist() == whole.rows.tolist()


def test_scores_need_the_moments_beside_the_model(
    settings: dict[str, Any], models: dict[str, Path], tmp_path: Path
) -> None:
    gapsel.run(tmp_path / "out", **settings)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(tmp_path / "out" / "model.safetensors", alone)
    with pytest.raises(DataError, match=r"moments\.safetensors: is missing, .* copy moments\.safetensors"):
        gapsel.load(alone / "model.safetensors", encoder=models["llama"]).score_texts(["rain"])
    shutil.copy(tmp_path / "out" / embed.MOMENTS, alone)
    assert len(gapsel.load(alone / "model.safetensors", encoder=models["llama"]).score_texts(["rain"])) == 1
    with pytest.raises(DataError, match=r"they differ in .*moments, config\.json"):
        gapsel.load(alone / "model.safetensors", encoder=models["gpt2"]).score_texts(["rain"])


def test_tasks_share_the_moments_that_the_first_one_made(settings: dict[str, Any], tmp_path: Path) -> None:
    gapsel.run(tmp_path / "whole", **settings)
    facts: dict[str, Any] = {}
    for index in (1, 0):
        task = pipeline.Task(index, 2)
        with pipeline.share(tmp_path / "shared", settings, "embed", task, quiet=True) as run:
            facts = pipeline.do_task(run, "embed", task)
    assert facts["missing_parts"] == []
    gapsel.run(tmp_path / "shared", **settings)
    assert content(tmp_path / "shared") == content(tmp_path / "whole")


def test_a_worker_of_a_cluster_says_the_same_bits(models: dict[str, Path]) -> None:
    encoder = load(models["llama"])
    found = embed.sample_moments(encoder, TEXTS)
    here = embed.scaled(encoder, found)
    options: dict[str, Any] = {"model": models["llama"], "features": "gradient", "gradient_dims": 64}
    options |= {"max_tokens": 32, "dtype": "float32", "device": "cpu"}
    work = encoding.worker(options, found, str(here.fingerprint["hash"]), 0)
    np.testing.assert_array_equal(work(TEXTS).vectors, here.encode(TEXTS).vectors)
    with pytest.raises(DataError, match="holds other files on a machine of the cluster"):
        encoding.worker(options, None, str(here.fingerprint["hash"]), 0)


def test_of_two_that_make_the_moments_the_first_is_kept(models: dict[str, Path], tmp_path: Path) -> None:
    encoder = load(models["llama"])

    def meanwhile() -> list[str]:
        embed.sample_moments(encoder, TEXTS[:2]).save(tmp_path / embed.MOMENTS)
        return TEXTS

    kept = moments.moments_of(tmp_path, encoder, meanwhile)
    assert kept.documents == 2
    assert [file.name for file in tmp_path.iterdir()] == [embed.MOMENTS]


def test_gradients_without_texts_of_the_pool_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    np.save(tmp_path / "pool.npy", np.ones((9, 32), np.float32))
    given = {**settings, "pool_vectors": str(tmp_path / "pool.npy"), "pool": ()}
    with pytest.raises(UsageError, match=r"give the pool as texts \(--pool\) alone"):
        gapsel.run(tmp_path / "out", **given)
    assert not (tmp_path / "out").exists(), "nothing was begun"
