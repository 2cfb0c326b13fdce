"""Near copies, held-out passages and chance: against exact sets, all pairs and the distribution that is promised."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapsel.rules import Budget, ByVectors, ByWords, Quota, Rules, choose, ordered, overlapping, values_at
from gapsel.rules.copies import bands
from gapsel.rules.words import gram_hashes, shingles, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from gapsel.rules import Copies

TEXT = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=30).map(" ".join)


def walk(likeness: NDArray[np.bool_], k: int) -> list[int]:
    """Each row in turn, unless it is like one that is there."""
    kept = list[int]()
    for row in range(len(likeness)):
        if len(kept) < k and not likeness[row, kept].any():
            kept.append(row)
    return kept


def in_turn(n: int, k: int, copies: Copies, quotas: tuple[Quota, ...] = ()) -> list[int]:
    """Return the choice of k rows that come in the order of their numbers."""
    found = choose(lambda: [np.arange(n, dtype=np.float32)], Rules(Budget(n, k), quotas), copies)
    return list(map(int, found.rows))


@pytest.mark.parametrize("k", [1, 40, 300])
def test_copies_by_vectors_are_those_of_all_pairs(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gapsel.rules.copies._LOOKED_AT", 64)
    monkeypatch.setattr("gapsel.rules.copies._KEPT_ROWS", 50)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 6))[rng.integers(0, 100, 600)] + 0.1 * rng.standard_normal((600, 6))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    shards = tuple(np.array_split(x.astype(np.float32), 3))
    assert in_turn(600, k, ByVectors(shards, 0.98)) == walk(unit @ unit.T >= 0.98, k)


def test_a_row_that_a_quota_passes_over_hides_no_copy() -> None:
    """Row 1 is over the quota; row 2, its copy, is of another group, and is chosen."""
    x = np.eye(4, dtype=np.float32)[[0, 1, 1, 2]]
    quota = Quota("source", 0.5, np.array([0, 0, 1, 1], np.int32), {})
    assert in_turn(4, 2, ByVectors((x,), 0.9), (quota,)) == [0, 2]


def test_copies_by_words_are_those_of_exact_sets() -> None:
    """Texts are copies of ten, with as few words changed that none lies near the threshold."""
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(1000)])
    texts = [words[rng.integers(0, 1000, 120)] for _ in range(10)]
    made = list[str]()
    for _ in range(200):
        text = texts[rng.integers(10)].copy()
        text[rng.integers(0, 120, rng.choice([0, 1, 40]))] = "changed"
        made.append(" ".join(text).title() + "!")
    sets = [set(shingles(text, 5)) for text in made]
    likeness = np.array([[len(a & b) / len(a | b) for a in sets] for b in sets])
    assert not ((likeness > 0.5) & (likeness < 0.8)).any()

    def read(rows: NDArray[np.int64]) -> Iterator[list[str]]:
        assert (np.diff(rows) > 0).all()
        return ([made[row] for row in part] for part in np.array_split(rows, 3))

    assert in_turn(200, 60, ByWords(read, 0.68)) == walk(likeness >= 0.68, 60)


@pytest.mark.parametrize("threshold", [0.01, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_no_more_than_a_thousandth_of_the_pairs_at_the_threshold_are_missed(threshold: float) -> None:
    count = bands(threshold)
    assert 128 % count == 0
    assert count == 128 or (1 - threshold ** (128 / count)) ** count <= 1e-3


# Words


@given(st.lists(TEXT, max_size=6), st.integers(1, 6))
@settings(deadline=None)
def test_equal_runs_have_equal_hashes_and_others_have_not(texts: list[str], size: int) -> None:
    hashes, owners = gram_hashes(texts, size)
    runs = [(at, run) for at, text in enumerate(texts) if words_of(text) for run in shingles(text, size)]
    assert owners.tolist() == [at for at, _ in runs]
    for (one, (_, a)), (other, (_, b)) in itertools.combinations(zip(hashes.tolist(), runs, strict=True), 2):
        assert (one == other) == (a == b)


def test_a_shared_passage_of_13_words_is_found_whatever_stands_between_them(tmp_path: Path) -> None:
    passage = [f"word{i}" for i in range(13)]
    (tmp_path / "test.txt").write_text(f"Before it. {', '.join(passage)}? After it.\nShort one here.\n")
    (tmp_path / "other.txt").write_text("Something else that nobody has ever said in as many words, not even here.\n")
    texts = [
        ["and " + " ".join(passage).upper(), " ".join(passage[:12])],
        ["short ONE here", "a short one here", "...", " ".join(passage[1:]) + " after nothing"],
    ]
    flags, said = overlapping([str(tmp_path / "test.txt"), str(tmp_path / "other.txt")], texts, 6)
    assert flags.tolist() == [True, False, True, False, False, True]
    assert [(one.held_out, one.documents) for one in said] == [(2, 3), (1, 0)]


# Chance


def test_chance_is_that_of_drawing_by_the_weights_without_replacement() -> None:
    """First and second of three rows, over 20,000 seeds."""
    f, t = np.array([0.0, 0.5, 1.0], np.float32), 0.7
    weights = np.exp(-f / t)
    counts = np.zeros((3, 3))
    for seed in range(20_000):
        (drawn,) = ordered([f], temperature=t, seed=seed)
        first, second, _ = np.argsort(drawn)
        counts[first, second] += 1
    expected = np.array([[weights[i] * weights[j] / (weights.sum() - weights[i]) for j in range(3)] for i in range(3)])
    expected[np.diag_indices(3)] = 0
    np.testing.assert_allclose(counts / 20_000, expected / weights.sum(), atol=0.012)


def test_chance_does_not_depend_on_batches_and_zero_is_none() -> None:
    f = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    whole = np.concatenate(list(ordered([f], temperature=0.1, seed=3)))
    parts = np.concatenate(list(ordered(np.array_split(f, 7), temperature=0.1, seed=3)))
    assert whole.tobytes() == parts.tobytes()
    assert whole.tobytes() != next(iter(ordered([f], temperature=0.1, seed=4))).tobytes()
    assert next(iter(ordered([f]))).tobytes() == f.tobytes()


def test_limits_and_bars_hold_whatever_chance_says() -> None:
    f = np.arange(6, dtype=np.float32)
    barred = np.array([1, 0, 0, 0, 0, 0], bool)
    (one,) = ordered([f], barred=barred, limit=3.0, temperature=5.0, seed=1)
    assert np.isinf(one).tolist() == [True, False, False, False, True, True]
    (two,) = ordered([f], limit=np.array([9.0, 0, 2, 2, 9, 9]))
    assert np.isinf(two).tolist() == [False, True, False, True, False, False]


def test_values_are_looked_up_across_batches() -> None:
    f = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    rows = np.array([99, 0, 50, 33, 34])
    assert values_at(np.array_split(f, 6), rows).tolist() == f[rows].tolist()
