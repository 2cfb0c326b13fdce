"""Centroid, KDE neighbours, DSIR and curated: against brute force, their authors' package, and what each is for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from data_selection import HashedNgramDSIR
from hypothesis import given, settings
from hypothesis import strategies as st

from gapsel.backends.cpu import CpuBackend
from gapsel.baselines import Centroid, Curated, Dsir, Kde, Problem, dsir, kde
from gapsel.cost import cost_matrix
from gapsel.errors import DataError, UsageError
from gapsel.records import COST_KINDS, Cost, Target

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CPU = CpuBackend(1)
WORDS = (
    "alpha", "beta", "gamma", "delta,", "epsilon;", "zeta", "ETA", "théta", "42", "...", "I/O", "o'clock",
    "ünder_score", "道",
)  # fmt: skip


def target_of(y: NDArray[np.floating]) -> Target:
    return Target(np.ascontiguousarray(y, np.float32), np.full(len(y), 1 / len(y)))


def texts_of(rng: np.random.Generator, count: int, longest: int = 300) -> list[str]:
    """Texts of skewed words: each side with a taste of its own."""
    shares = rng.dirichlet(np.full(len(WORDS), 0.7))
    return [" ".join(rng.choice(WORDS, size=rng.integers(1, longest), p=shares)) for _ in range(count)]


def problem_of(pool: list[str], target: list[str], k: int, seed: int = 0) -> Problem:
    x, y = np.ones((len(pool), 2), np.float32), target_of(np.ones((2, 2)))
    return Problem([x], y, Cost(), k, seed, texts=(lambda: pool, lambda: target))


# ---- centroid


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 999), kind=st.sampled_from(COST_KINDS), normalize=st.booleans(), k=st.integers(1, 30))
def test_centroid_takes_what_is_nearest_to_the_mean(seed: int, kind: str, normalize: bool, k: int) -> None:  # noqa: FBT001
    rng = np.random.default_rng(seed)
    cost = Cost(kind, normalize)  # type: ignore[arg-type]
    x, y = rng.normal(size=(30, 4)).astype(np.float32), (1 + rng.normal(size=(5, 4))).astype(np.float32)
    unit = y / np.linalg.norm(y, axis=1, keepdims=True) if normalize or kind == "cosine" else y
    c = cost_matrix(x, unit.mean(axis=0)[None], cost)[:, 0]
    chosen = Centroid().choose(Problem([x], target_of(y), cost, k), CPU)
    assert np.allclose(c[chosen], np.sort(c)[:k], atol=1e-5)


def test_a_centroid_without_direction_is_an_error() -> None:
    y = target_of(np.array([[1.0, 0], [-1, 0]]))
    with pytest.raises(DataError, match="cancel each other"):
        Centroid().choose(Problem([np.ones((3, 2), np.float32)], y, Cost(), 1), CPU)


# ---- KDE neighbours


def test_near_copies_share_one_rows_part() -> None:
    rng = np.random.default_rng(0)
    topics = np.eye(2, 16, dtype=np.float32)
    copies = topics[0] + 0.001 * rng.standard_normal((20, 16))
    others = topics[0] + 0.35 * rng.standard_normal((180, 16))
    far = rng.standard_normal((400, 16)) - 3 * topics[0]
    x = np.concatenate([copies, others, far]).astype(np.float32)
    chosen = Kde().choose(Problem([x], target_of(topics[:1]), Cost(), 20), CPU)
    assert np.sum(chosen < 20) < 5, "nearest neighbours would take nothing but copies"
    assert np.sum((chosen >= 20) & (chosen < 200)) > 15


def test_what_targets_give_is_their_weight_and_goes_to_the_nearest_first() -> None:
    distances = np.array([[0.1, 0.2, 0.9, 3.0], [0.5, 0.6, 0.7, 9.0]])
    parts, b = np.ones((2, 4)), np.array([0.25, 0.75])
    given_rows = kde._given(distances, parts, b, 0.1)
    assert np.allclose(given_rows.sum(axis=1), b)
    assert (np.diff(given_rows, axis=1) <= 1e-12).all()
    # By hand: filling 1, 2, 3 rows is a detour of .25 * .1 + .75 * .1, .25 * 1.5 + .75 * .3, ... against a bound of .5.
    assert np.allclose(given_rows[0], 0.25 * np.array([0.5, 0.5, 0, 0]))


def test_a_density_counts_the_row_itself() -> None:
    x = np.eye(3, 8, dtype=np.float32)[[0, 0, 1]]
    assert np.allclose(kde._density(x, Cost(), 0.2, CPU), [2, 2, 1], atol=1e-3)


# ---- DSIR


@pytest.fixture(scope="module")
def sides() -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(3)
    return texts_of(rng, 60), texts_of(rng, 20)


@pytest.fixture(scope="module")
def package(sides: tuple[list[str], list[str]], tmp_path_factory: pytest.TempPathFactory) -> HashedNgramDSIR:
    """The authors' package on the same texts."""
    home: Path = tmp_path_factory.mktemp("dsir")
    paths = []
    for name, texts in zip(("pool", "target"), sides, strict=True):
        paths.append(str(home / f"{name}.jsonl"))
        (home / f"{name}.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in texts))
    model = HashedNgramDSIR([paths[0]], [paths[1]], cache_dir=str(home / "cache"), num_proc=1)
    model.fit_importance_estimator(num_tokens_to_fit="all")
    # The pseudo-count for small targets, which came to the authors' repository after their last release.
    counts = model._fit_bow([paths[1]]) + 0.1
    model.log_diff = np.log(counts / counts.sum() + 1e-8) - np.log(model.raw_probs + 1e-8)
    model.compute_importance_weights()
    return model


def test_log_weights_are_those_of_the_authors_package(
    sides: tuple[list[str], list[str]], package: HashedNgramDSIR
) -> None:
    theirs = np.load(package.log_importance_weights_dir / "0.npy")
    assert np.allclose(dsir.log_weights(lambda: sides[0], lambda: sides[1]), theirs, rtol=1e-9, atol=1e-9)


def test_texts_of_the_targets_kind_come_before_longer_and_shorter_ones() -> None:
    rng = np.random.default_rng(0)

    def text(low: int, words: int) -> str:
        return " ".join(f"w{low + min(99, word)}" for word in rng.geometric(0.17, words))

    others = [text(10, 150) for _ in range(30)] + [text(10, 2) for _ in range(30)]
    akin, target = ([text(0, 30) for _ in range(count)] for count in (30, 20))
    chosen = Dsir().choose(problem_of([*others, *akin], target, 30), CPU)
    assert sorted(chosen) == [*range(60, 90)], "those of 2 words were first, were what a target lacks forbidden"


def test_a_draw_follows_the_weights() -> None:
    # Two kinds of text; by the weights the first kind is taken before the second with near certainty.
    pool = ["red green " * 60] * 30 + ["blue black " * 60] * 30
    chosen = Dsir().choose(problem_of(pool, ["red green red"] * 5, 30), CPU)
    assert (chosen < 30).all()
    assert not np.array_equal(chosen, Dsir().choose(problem_of(pool, ["red green red"] * 5, 30, seed=1), CPU))


def test_dsir_wants_texts_one_for_each_vector() -> None:
    with pytest.raises(UsageError, match="only vectors"):
        Dsir().choose(Problem([np.ones((3, 2), np.float32)], target_of(np.ones((1, 2))), Cost(), 1), CPU)
    lacking = Problem(
        [np.ones((3, 2), np.float32)], target_of(np.ones((1, 2))), Cost(), 1, texts=(lambda: ["a"], lambda: ["a"])
    )
    with pytest.raises(DataError, match="1 text and 3 vectors"):
        Dsir().choose(lacking, CPU)


def test_a_byte_that_is_no_text_is_a_character() -> None:
    assert len(dsir.buckets("a \udc80")) == 3


# ---- curated


@given(own=st.lists(st.booleans(), min_size=1, max_size=40).filter(any), data=st.data())
def test_curated_takes_the_targets_own_first(own: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(own)))
    akin = np.array(own)
    x = np.ones((len(own), 2), np.float32)
    chosen = Curated().choose(Problem([x], target_of(np.ones((1, 2))), Cost(), k, akin=akin), CPU)
    assert len(set(chosen.tolist())) == k
    assert akin[chosen].sum() == min(k, akin.sum())
    assert (np.diff(akin[chosen].astype(int)) <= 0).all()


@pytest.mark.parametrize(("akin", "words"), [(None, "there are no labels"), (np.zeros(3, bool), "no row of the pool")])
def test_curated_wants_labels(akin: NDArray[np.bool_] | None, words: str) -> None:
    x = np.ones((3, 2), np.float32)
    with pytest.raises(UsageError, match=words):
        Curated().choose(Problem([x], target_of(np.ones((1, 2))), Cost(), 1, akin=akin), CPU)
