"""Trainings and what is made of them: blocks, a small GPT, trials on planted topics, intervals, ranks."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gapsel import evaluation
from gapsel.errors import DataError, UsageError
from gapsel.evaluation import Lm, Mean, Recipe, Size, Trial, judge, mean_of, quantile, verdict_of
from gapsel.evaluation.blocks import IGNORED, batches, padded, stream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

TOPICS = (("sea", "ship", "sail", "mast", "tide"), ("loaf", "oven", "flour", "yeast", "crust"))
TINY = Size(16, layers=1, width=32, heads=2, vocabulary=300)
RECIPE = Recipe(16, warm_tokens=2048, tune_tokens=128, rate=3e-3)


def topic_texts(topic: int, count: int, seed: int) -> list[str]:
    rng = np.random.default_rng([seed, topic])
    return [" ".join(rng.choice(TOPICS[topic], size=12)) for _ in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT that has read both topics, three quarters of it bread."""
    folder = tmp_path_factory.mktemp("lm") / "tiny"
    evaluation.make(folder, [*topic_texts(0, 20, 0), *topic_texts(1, 60, 0)], TINY, 4096, seed=0, threads=1)
    return folder


@pytest.fixture(scope="module")
def lm(folder: Path) -> Lm:
    return evaluation.load(folder, context=16, device="cpu", threads=1)


# ---- trials


def documents(*lengths: int) -> list[NDArray[np.int32]]:
    return [np.full(length, at + 1, np.int32) for at, length in enumerate(lengths)]


def test_documents_stand_between_separators() -> None:
    assert stream(documents(2, 1, 0), 0).tolist() == [0, 1, 1, 0, 2, 0, 0]


def test_held_out_blocks_predict_every_token_once() -> None:
    blocks = padded(documents(3, 2), 0, 4)
    assert blocks.tolist() == [[0, 1, 1, 1, 0], [0, 2, 2, 0, IGNORED]]
    predicted = blocks[:, 1:]
    assert sorted(predicted[predicted != IGNORED].tolist()) == sorted([1, 1, 1, 0, 2, 2, 0])


def test_batches_read_all_documents_before_any_twice() -> None:
    own = documents(*[7] * 8)
    given = list(batches(own, 0, (2, 8), 8, np.random.default_rng(0)))
    assert [one.shape for one in given] == [(2, 9)] * 8
    rounds = [np.concatenate(given[at : at + 4]) for at in (0, 4)]
    orders = [one[:, 1].tolist() for one in rounds]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(1, 9))
    assert orders[0] != orders[1]
    again = list(batches(own, 0, (2, 8), 8, np.random.default_rng(0)))
    np.testing.assert_array_equal(np.concatenate(given), np.concatenate(again))


def test_too_little_text_for_one_context_is_refused() -> None:
    with pytest.raises(DataError, match="there are 7 tokens in 2 documents, and one context is 8: give more text"):
        next(batches(documents(2, 2), 0, (2, 8), 1, np.random.default_rng(0)))


def test_every_method_gets_the_same_steps() -> None:
    recipe = Recipe(128, 49_152, 16_384)
    assert (recipe.steps(recipe.warm_tokens), recipe.steps(recipe.tune_tokens), recipe.steps(1)) == (48, 16, 1)


def test_larger_models_learn_at_a_lower_rate_unless_one_is_given() -> None:
    assert Recipe(1, 1, 1).rate_for(100_000_000) == pytest.approx(1e-4)
    assert Recipe(1, 1, 1, rate=0.5).rate_for(100_000_000) == 0.5


def test_the_topic_of_the_target_helps_and_the_other_does_not(lm: Lm) -> None:
    held = lm.held_out(topic_texts(0, 10, 1), 16)
    target = lm.tokens(topic_texts(0, 4, 2))
    before = lm.loss(held)
    found = [
        evaluation.trial(lm, None if texts is None else lm.tokens(texts), target, held, recipe=RECIPE, seed=3)
        for texts in (topic_texts(0, 30, 3), None, topic_texts(1, 30, 3))
    ]
    matched, without, other = found
    # The words of a topic come in any order: nothing can do better than a fifth for each, once it knows the topic.
    assert matched.warmed < 0.8 * before
    assert other.warmed > before
    assert without.warmed == before
    assert matched.tuned < without.tuned < other.tuned
    assert lm.loss(held) == before, "the model itself is left as it was"


def test_a_trial_is_repeated_by_its_seed(lm: Lm) -> None:
    held, target = lm.held_out(topic_texts(0, 4, 1), 16), lm.tokens(topic_texts(0, 4, 2))
    selection = lm.tokens(topic_texts(0, 30, 3))
    one, same, other = (evaluation.trial(lm, selection, target, held, recipe=RECIPE, seed=seed) for seed in (5, 5, 6))
    assert one == same != other


def test_the_loss_is_the_mean_over_all_predicted_tokens(lm: Lm) -> None:
    import torch

    held = lm.held_out(["sea ship sail", "tide"], 16)
    expected = []
    for block in held.blocks:
        tokens = torch.from_numpy(block[block != IGNORED])
        logits = torch.log_softmax(lm.model(input_ids=tokens[None, :-1]).logits[0], -1)
        expected += (-logits[range(len(tokens) - 1), tokens[1:]]).tolist()
    assert held.tokens == len(expected)
    assert held.bytes == len("sea ship sail" + "tide")
    assert lm.loss(held) == pytest.approx(np.mean(expected), rel=1e-5)


# ---- the model's files


def test_any_text_survives_the_tokenizer(lm: Lm) -> None:
    for text in ("sea and ship", " two  spaces", "naïve 猫 \n\t x<|", "0"):
        assert lm.tokenizer.decode(lm.tokens([text])[0].tolist()) == text
    assert lm.tokens([]) == []


def test_a_context_longer_than_the_model_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"context is 17, and .* has 16 positions: give 16 or less"):
        evaluation.load(folder, context=17, device="cpu")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (["config.json"], "has no config.json: give the folder of a model"),
        (["tokenizer.json", "tokenizer_config.json"], "has no tokenizer: save it there too"),
        (["model.safetensors"], "cannot be loaded as a model with tokenizer"),
    ],
)
def test_half_a_model_is_refused(folder: Path, tmp_path: Path, spoil: list[str], words: str) -> None:
    for file in folder.iterdir():
        if file.name not in spoil:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(DataError, match=words):
        evaluation.load(tmp_path, context=16, device="cpu")


def test_the_tokenizer_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    evaluation.make(tmp_path, topic_texts(0, 9, 0), Size(16, 1, 8, 2, vocabulary=280), 64, seed=0)
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    with pytest.raises(DataError, match="so they are of different models"):
        evaluation.load(tmp_path, context=16, device="cpu")


def test_weights_of_less_than_the_model_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("transformer.h.0.mlp.c_fc.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"lack 1 tensors, transformer.h.0.mlp.c_fc.weight first"):
        evaluation.load(tmp_path, context=16, device="cpu")


def test_a_tokenizer_without_an_end_is_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config.pop("eos_token")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="has no token for the end of a text: set its eos_token"):
        evaluation.load(tmp_path, context=16, device="cpu")


def test_a_pool_without_text_makes_no_model(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no text to train a language model on"):
        evaluation.make(tmp_path, [" ", "\n"], TINY, 100, seed=0)


# ---- what the seeds say


@pytest.mark.parametrize(
    ("level", "freedom", "expected"),
    [(0.95, 1, 12.7062), (0.95, 2, 4.3027), (0.95, 3, 3.1824), (0.95, 4, 2.7764), (0.95, 5, 2.5706), (0.99, 10, 3.1693),
     (0.9, 7, 1.8946), (0.95, 30, 2.0423), (0.95, 1000, 1.9623)],
)  # fmt: skip
def test_quantiles_of_t_are_those_of_the_tables(level: float, freedom: int, expected: float) -> None:
    assert quantile(level, freedom) == pytest.approx(expected, abs=6e-5)


def test_a_mean_has_the_interval_of_the_text_books() -> None:
    found = mean_of([1.0, 2, 3, 4, 5])
    half = 2.776445 * math.sqrt(2.5) / math.sqrt(5)
    assert (found.mean, found.lower, found.upper) == pytest.approx((3, 3 - half, 3 + half), abs=1e-5)
    alone = mean_of([2.0])
    assert alone.mean == 2
    assert math.isnan(alone.lower)
    assert math.isnan(alone.upper)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    holds = [found.lower <= 0 <= found.upper for found in (mean_of(rng.normal(size=5).tolist()) for _ in range(2000))]
    # 1900 of them, give or take 10.
    assert 1860 <= sum(holds) <= 1940


@pytest.mark.parametrize(
    ("lower", "upper", "verdict"),
    [
        (-0.2, -0.1, "better"),
        (0.1, 0.2, "worse"),
        (-0.1, 0.1, "not told apart"),
        (math.nan, math.nan, "not told apart"),
    ],
)
def test_a_verdict_needs_an_interval_on_one_side_of_none(lower: float, upper: float, verdict: str) -> None:
    assert verdict_of(Mean((lower + upper) / 2, lower, upper)) == verdict


def trials(tuned: Sequence[float]) -> list[Trial]:
    return [Trial(one + 1, one) for one in tuned]


def test_methods_are_ranked_by_their_mean_and_told_apart_seed_by_seed() -> None:
    # The seeds differ by far more than the methods: only pairs show it.
    found = judge(
        {
            "none": trials([0.5, 2.5, 4.5]),
            "random": trials([1.0, 3.0, 5.0]),
            "good": trials([0.9, 2.91, 4.9]),
            "bad": trials([1.1, 3.1, 5.11]),
            "same": trials([1.1, 2.9, 5.03]),
        },
        reference="random",
        unranked="none",
        own="good",
    )
    by_name = {one.name: one for one in found}
    assert {name: one.rank for name, one in by_name.items()} == {
        "none": None, "random": 2, "good": 1, "bad": 4, "same": 3,
    }  # fmt: skip
    verdicts = {name: one.verdict for name, one in by_name.items()}
    assert verdicts == {
        "none": "better", "random": None, "good": "better", "bad": "worse", "same": "not told apart",
    }  # fmt: skip
    assert {name: one.beside_verdict for name, one in by_name.items()} == {
        "none": "better", "random": "worse", "good": None, "bad": "worse", "same": "not told apart",
    }  # fmt: skip
    assert by_name["good"].against is not None
    assert by_name["good"].against.mean == pytest.approx(-0.0967, abs=1e-4)
    assert by_name["good"].warmed.mean == pytest.approx(by_name["good"].tuned.mean + 1)
