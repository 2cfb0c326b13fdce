"""What the choice kept to beside its size: a sentence for each rule, and the groups of each quota beside their cap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gapsel.report.axes import Axis, Tick, round_top
from gapsel.report.numbers import basename, excerpt, integer, known, names, number, setting, share
from gapsel.wording import are, counted

if TYPE_CHECKING:
    from gapsel.findings import Excluded, Findings, HeldOut, QuotaDid, RulesDid, TokensUsed

_PER_CENT = 100.0
_NAME = 60


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule in use: what it is called, and what it did."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One group of a quota: its shares, also as places across."""

    name: str
    pool: float
    chosen: float
    pool_at: float
    chosen_at: float
    full: bool


@dataclass(frozen=True, slots=True)
class QuotaChart:
    """The largest groups of a quota on one axis, with the place of the cap on it."""

    field: str
    text: str
    cap: str
    cap_at: float
    rows: tuple[GroupRow, ...]
    across: tuple[Tick, ...]
    groups: int


@dataclass(frozen=True, slots=True)
class RulesSection:
    """All that the page says of the rules of a choice."""

    verdict: str
    rules: tuple[Rule, ...]
    quotas: tuple[QuotaChart, ...]
    unit: str
    drawn: bool


def section(findings: Findings) -> RulesSection | None:
    """Return what the page says, None where the choice kept to nothing but its number of documents."""
    did = findings.rules
    if not did.any:
        return None
    quotas = tuple(map(_chart, did.at_most))
    budget = did.tokens.budget if did.tokens else findings.k
    unit = counted(budget, "token" if did.tokens else "document")
    return RulesSection(_verdict(findings), _listed(findings), quotas, unit, did.temperature is not None)


def _verdict(findings: Findings) -> str:
    """Return, in one sentence or two, what the rules cost the choice."""
    did = findings.rules
    passed = sum(one.passed_over for one in did.at_most) + (did.copies.documents if did.copies else 0)
    passed += did.tokens.too_large if did.tokens else 0
    out = [part for part in (_left_out(did), _passed(passed)) if part]
    said = f"The choice keeps to all of its rules. {' '.join(out)}".rstrip()
    short = did.threshold is not None and did.threshold.documents <= findings.k
    return f"{said} The threshold, not the budget, ended it." if short else said


def _left_out(did: RulesDid) -> str:
    """Say how many documents lists forbade; one that several name is counted by each."""
    found = [*(one.documents for one in did.exclude), *(one.documents for one in did.held_out)]
    if not found:
        return ""
    more = ", one that several bar counted by each" if len(found) > 1 else ""
    return f"Lists bar {counted(sum(found), 'document')} of the pool{more}."


def _passed(count: int) -> str:
    if not count:
        return ""
    were = "was" if count == 1 else "were"
    return f"{counted(count, 'document')} with a better score than the last chosen {were} passed over."


def _listed(findings: Findings) -> tuple[Rule, ...]:
    """Return what each rule in use did, quotas aside."""
    did = findings.rules
    found = [Rule("tokens", _tokens(did.tokens))] if did.tokens else []
    found += [Rule("excluded", _excluded(one)) for one in did.exclude]
    found += [Rule("held out", _held_out(one)) for one in did.held_out]
    if did.copies:
        found.append(Rule("near copies", f"{counted(did.copies.documents, 'document')} passed over for a better one."))
    if did.threshold:
        within = f"{counted(did.threshold.documents, 'document')} that might be chosen"
        found.append(
            Rule(
                "threshold",
                f"A score of at most {number(did.threshold.score, 4)}: {within} have one, "
                f"{integer(findings.k)} were chosen.",
            )
        )
    if did.temperature:
        drawn = f"{setting(did.temperature.in_eps)} eps, {number(did.temperature.in_cost)} in units of the cost"
        found.append(Rule("temperature", f"{drawn}: the chosen were drawn by their scores, not the lowest taken."))
    return tuple(found)


def _tokens(one: TokensUsed) -> str:
    part = share(one.used / one.budget) if one.budget else share(None)
    said = [f"{integer(one.used)} used of {integer(one.budget)}, {part}."]
    if one.too_large:
        said.append(f"{counted(one.too_large, 'better document')} passed over, larger than what was left.")
    if one.without:
        said.append(f"{counted(one.without, 'document')} without a number of tokens could not be chosen.")
    if one.cut:
        said.append(
            f"{integer(one.cut)} of the chosen may be longer: their encoder counts up to {integer(one.max_tokens)}."
        )
    return " ".join(said)


def _excluded(one: Excluded) -> str:
    there = f"{integer(one.matched)} of its {counted(one.entries, 'entry', 'entries')} {are(one.matched)} in the pool"
    return f"{_file(one.file)}: {there}, {counted(one.documents, 'document')} left out."


def _held_out(one: HeldOut) -> str:
    return (
        f"{_file(one.file)}: {counted(one.documents, 'document')} left out that "
        f"{'shares' if one.documents == 1 else 'share'} 13 words in a row with one of its {integer(one.held_out)}."
    )


def _file(path: str) -> str:
    return excerpt(basename(path), _NAME)


def _chart(quota: QuotaDid) -> QuotaChart:
    rows = [replace(one, chosen=_finite(one.chosen), pool=_finite(one.pool)) for one in quota.largest]
    cap = _finite(quota.share)
    most = max([cap, *(max(one.chosen, one.pool) for one in rows)])
    across = Axis(0.0, _PER_CENT * round_top(min(most, 1.0)), 0.0, 100.0)
    return QuotaChart(
        quota.field,
        _said(quota),
        share(cap),
        across.at(_PER_CENT * cap),
        tuple(
            GroupRow(
                one.name, one.pool, one.chosen, across.at(_PER_CENT * one.pool), across.at(_PER_CENT * one.chosen),
                one.full,
            )
            for one in rows
        ),
        across.ticks(4),
        quota.groups,
    )  # fmt: skip


def _finite(value: float) -> float:
    return value if known(value) else 0.0


def _said(quota: QuotaDid) -> str:
    """Say which groups a quota held back."""
    field = excerpt(quota.field, _NAME)
    if not quota.full:
        return f"No {field} reaches its {share(quota.share)} of the budget: the quota changed nothing."
    shown = names([excerpt(name, _NAME) for name in quota.names])
    more = "" if quota.full <= len(quota.names) else f" and {integer(quota.full - len(quota.names))} more"
    which = f"{integer(quota.full)} of {integer(quota.groups)} ({shown}{more})"
    none = f" {counted(quota.without, 'document')} of the pool without one count as one." if quota.without else ""
    over = f"{counted(quota.passed_over, 'better document')} {'was' if quota.passed_over == 1 else 'were'} passed over"
    return f"{which} {are(quota.full)} full, and {over} for that.{none}"
