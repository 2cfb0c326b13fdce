"""The sections that only some reports have: what their words claim, and where their bars lie."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gapsel.findings import Copies, Excluded, HeldOut, Interval, LossMean, MixedTask, RulesDid, Threshold, own_name
from gapsel.report.sections import mixtures, rules, tasks, trials
from sample_run import EVALUATION, FINDINGS, MIXTURE, NAN, RULES, TASKS, text_of, with_rules, with_tasks


def typed(text: str | None) -> str:
    """Return a sentence as a keyboard has it: with hyphens for minus signs, and blanks of one width."""
    return (text or "").replace("\N{MINUS SIGN}", "-").replace("\N{NARROW NO-BREAK SPACE}", " ")


# Rules.


def test_each_rule_says_what_it_did() -> None:
    found = rules.section(with_rules(RULES))
    assert found is not None
    said = {rule.name: typed(rule.text) for rule in found.rules}
    assert list(said) == ["tokens", "excluded", "held out", "near copies", "threshold", "temperature"]
    assert said["tokens"].startswith("4,998,211 used of 5,000,000, > 99.9 %. 14 better documents passed over")
    assert said["excluded"] == "seen.txt: 1,187 of its 1,200 entries are in the pool, 1,187 documents left out."
    assert "1 document left out that shares 13 words in a row with one of its 164" in said["held out"]
    assert said["near copies"] == "77 documents passed over for a better one."
    assert "61,204 documents that might be chosen have one, 10,000 were chosen" in said["threshold"]
    assert found.unit == "5,000,000 tokens"
    # 1,187 + 1 by lists; 14 for their size, 2,310 for quotas, 77 as copies.
    assert typed(found.verdict) == (
        "The choice keeps to all of its rules. Lists bar 1,188 documents of the pool, one that several bar counted by "
        "each. 2,401 documents with a better score than the last chosen were passed over."
    )
    assert "The chosen were drawn by their scores" in text_of(with_rules(RULES))


def test_rules_that_are_not_in_use_are_not_named() -> None:
    assert rules.section(FINDINGS) is None
    assert "are the 10,000 lowest" in text_of(FINDINGS)
    found = rules.section(with_rules(RulesDid(copies=Copies(1))))
    assert found is not None
    assert [rule.name for rule in found.rules] == ["near copies"]
    assert found.verdict.endswith("1 document with a better score than the last chosen was passed over.")
    assert "The chosen are the lowest that keep to the rules below" in text_of(with_rules(RulesDid(copies=Copies(1))))


def test_one_list_and_one_entry_are_said_as_one() -> None:
    found = rules.section(with_rules(RulesDid(exclude=(Excluded("a/ids.txt", 1, 1, 0),))))
    assert found is not None
    assert found.rules[0].text == "ids.txt: 1 of its 1 entry is in the pool, 0 documents left out."
    assert found.verdict == "The choice keeps to all of its rules. Lists bar 0 documents of the pool."
    clean = rules.section(with_rules(RulesDid(held_out=(HeldOut("t.jsonl", 12, 0),))))
    assert clean is not None
    assert clean.rules[0].text == "t.jsonl: 0 documents left out that share 13 words in a row with one of its 12."


def test_a_threshold_that_ended_the_choice_is_named() -> None:
    for documents, ended in ((10_000, True), (10_001, False)):
        found = rules.section(with_rules(RulesDid(threshold=Threshold(-0.1, documents))))
        assert found is not None
        assert ("The threshold, not the budget, ended it." in found.verdict) is ended


def test_a_quota_is_drawn_with_what_it_allows() -> None:
    found = rules.section(with_rules(RULES))
    assert found is not None
    domain, file = found.quotas
    assert domain.text == (
        "1 of 4 (fiction) is full, and 2,310 better documents were passed over for that. 1,041 documents of the pool "
        "without one count as one."
    )
    assert typed(file.text) == "No file reaches its 90 % of the budget: the quota changed nothing."
    # The axis goes to 60 %, the first round mark past the largest share.
    assert domain.cap_at == pytest.approx(100 * 50 / 60)
    assert [row.chosen_at for row in domain.rows] == pytest.approx([100 * s / 0.6 for s in (0.49999, 0.378, 0.1217)])
    assert [row.full for row in domain.rows] == [True, False, False]
    assert all(row.chosen_at <= domain.cap_at for row in domain.rows)
    assert "the 3 largest of 4" in text_of(with_rules(RULES))


# Tasks.


def test_the_task_that_gets_least_is_named() -> None:
    found = tasks.section(with_tasks())
    assert found is not None
    assert typed(found.verdict) == (
        "Of what 10,000 documents could close of a task's distance, were they chosen for it alone, these close "
        "69 % for acts, the least, and 71 % for emma, the most."
    )
    assert [row.task.chosen for row in found.rows] == pytest.approx([0.57, 0.45])
    assert tasks.section(FINDINGS) is None


def test_tasks_that_were_not_levelled_are_told_apart_by_their_distances() -> None:
    even = tuple(replace(task, closed=None) for task in TASKS)
    found = tasks.section(with_tasks(even))
    assert found is not None
    # emma: 1.02 / 1.33 - 1 = -23.3 % to 1.03 / 1.31 - 1 = -21.4 %; acts: 0.95 / 1.26 and 0.97 / 1.24.
    assert typed(found.verdict) == (
        "acts gains the most, its distance changes by -25 to -21 %; emma the least, -24 to -21 %."
    )
    far = (even[0], replace(even[1], pool_distance=Interval(0.96, 0.98)))
    unsettled = tasks.section(with_tasks(far))
    assert unsettled is not None
    assert unsettled.verdict is not None
    assert unsettled.verdict.endswith("That the choice is nearer than before is not settled for acts.")


# Mixtures.


def test_a_mixture_says_what_it_gains_and_how_sure_that_is() -> None:
    found = mixtures.section(MIXTURE)
    assert found is not None
    # 1.024 / 1.302 - 1 = -21.4 %: at least 21.
    gain, moved, certified = map(typed, found.verdicts)
    assert gain == (
        "The weights bring the OT distance to the target down by at least 21 %: 1.31 for the pool as it is, "
        "1.02 for these weights."
    )
    assert moved == "fiction grows most, from 21 % of the pool to 71 %; 1 domain of 4 should take no part."
    assert certified == "No other weights can beat these by more than 0.41 % of what is attainable."
    assert found.warning is None
    assert found.note is not None
    assert "from 1.187 for the pool to 0.9611 for the mixture; the gap is 9.00" in found.note
    assert "no weights bring it below 0.9602" in found.note
    assert [row.weight_at for row in found.rows] == pytest.approx([89, 100 * 0.1981 / 0.8, 100 * 0.0899 / 0.8, 0])
    assert [row.name for row in found.intervals.rows] == [
        "pool as it is", "every domain alike", "these weights", "10,000 chosen documents",
    ]  # fmt: skip


def test_a_mixture_says_what_tasks_weigh_and_how_many_examples_are_ignored() -> None:
    tasks = (MixedTask("sea", 8, 0.45, 0.34), *(MixedTask(f"t{at}", 9, 0.1, None) for at in range(mixtures.TASKS)))
    found = mixtures.section(replace(MIXTURE, tasks=tasks, level=False, ignored=("a", "b")))
    assert found is not None
    of_tasks, of_ignored = found.verdicts[-2:]
    assert "sea weighs 45" in typed(of_tasks)
    assert "closes 34" in typed(of_tasks)
    assert "and 1 more task." in typed(of_tasks)
    assert "No weights were found" in of_tasks
    assert typed(of_ignored).startswith("2 examples far from every domain")


@pytest.mark.parametrize(
    ("mixture", "says"),
    [
        (Interval(1.30, 1.32), "is not settled"),
        (Interval(1.35, 1.36), "do not lower the OT distance"),
        (Interval(NAN, NAN), "was not measured"),
    ],
)
def test_a_mixture_that_gains_nothing_says_so(mixture: Interval, says: str) -> None:
    found = mixtures.section(replace(MIXTURE, mixture=mixture))
    assert found is not None
    assert says in found.verdicts[0]


def test_weights_that_were_not_found_are_a_warning() -> None:
    assert "Take them as provisional" in text_of(FINDINGS, replace(MIXTURE, converged=False))
    assert "Take them as provisional" not in text_of(FINDINGS, MIXTURE)


def test_many_domains_are_folded() -> None:
    many = tuple(replace(MIXTURE.domains[0], domain=f"d{i}", weight=0.025, natural=0.02) for i in range(40))
    found = mixtures.section(replace(MIXTURE, domains=many, k=None, chosen=None, field=None))
    assert found is not None
    assert len(found.rows) == mixtures.ROWS + 1
    assert found.rows[-1].domain.domain == "others (24)"
    assert sum(row.domain.weight for row in found.rows) == pytest.approx(1)
    assert (found.field, found.chosen) == ("cluster", False)


@pytest.mark.parametrize(("value", "text"), [(0.41271, "+0.4127"), (-0.0871, "-0.0871"), (-0.00004, "0"), (NAN, "")])
def test_a_slope_has_a_sign_or_is_nothing(value: float, text: str) -> None:
    assert typed(mixtures.slope(value)) == text


# Evaluations.


def test_an_evaluation_names_first_who_is_better() -> None:
    found = trials.section(EVALUATION)
    assert found is not None
    against, beside, without = map(typed, found.verdicts)
    assert against == (
        "A model trained on gapsel's choice is better than one trained on random documents: its loss is 0.034 lower "
        "(95 % interval -0.044 to -0.024, 5 seeds)."
    )
    assert beside == (
        "Beside gapsel's choice, seed by seed and in nats per token: round-robin neighbours (-0.011) is better; "
        "nearest neighbours (+0.005) is not told apart; random (+0.034) is worse."
    )
    assert without == (
        "Without any warm-up the model is worse than with gapsel's choice: its loss is 0.105 higher (95 % interval "
        "+0.097 to +0.113, 5 seeds)."
    )
    line = trials.line(EVALUATION)
    assert line is not None
    assert line.figure == "rank 2 of 4"
    assert "round-robin neighbours (-0.011) is better" in typed(line.text)


def test_differences_lie_around_random() -> None:
    found = trials.section(EVALUATION)
    assert found is not None
    assert [row.method.rank for row in found.rows] == [1, 2, 3, 4, None]
    assert [row.ours for row in found.rows] == [False, True, False, False, False]
    assert found.zero_at == 50
    assert [(tick.at, typed(tick.label)) for tick in found.across] == [(0, "-0.1"), (50, "0"), (100, "+0.1")]
    # The axis reaches 0.1 to each side: -0.034 with 0.010 to each side of it.
    assert found.rows[1].places == pytest.approx((50 - 22, 50 - 17, 50 - 12))
    assert found.rows[3].places is None
    assert found.rows[4].places is not None
    assert found.rows[4].places[0] > 50


@pytest.mark.parametrize(
    ("against", "verdict", "says"),
    [
        (
            LossMean(0.02, 0.01, 0.03),
            "worse",
            "is worse than one trained on random documents: its loss is 0.020 higher",
        ),
        (LossMean(-0.01, -0.03, 0.01), "not told apart", "is not told apart from one trained on random documents"),
        (LossMean(-0.01, NAN, NAN), "not told apart", "0.010 lower, of one seed, which tells no interval"),
    ],
)
def test_a_choice_that_does_not_help_says_so(against: LossMean, verdict: str, says: str) -> None:
    own = own_name(EVALUATION.mass)
    methods = tuple(
        replace(one, against=against, verdict=verdict) if one.name == own else one for one in EVALUATION.methods
    )
    lost = replace(EVALUATION, methods=methods)
    found = trials.section(lost)
    assert found is not None
    assert says in found.verdicts[0]
    assert says in text_of(FINDINGS, None, lost).partition("Scores")[0], "it is part of the answer"


def test_a_partial_judge_is_named() -> None:
    seen = replace(EVALUATION, held_out=replace(EVALUATION.held_out, in_target=2))
    assert "of the 60 held-out texts, 2 are in the target too, and up to 0 were in a selection" in text_of(
        FINDINGS, None, seen
    )
    assert "The judge is partial" not in text_of(FINDINGS, None, EVALUATION)


def test_nothing_is_claimed_where_the_own_choice_is_not_among_the_methods() -> None:
    others = replace(EVALUATION, mass=0.25)
    assert trials.section(others) is None
    assert trials.line(None) is None
