"""What the rules of a choice did: selection.json keeps it, of those rules alone that were in use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokensUsed:
    """A budget of tokens and what the chosen ``used`` of it.

    Better documents that were ``too_large`` for what was left were passed over; those ``without`` a number of tokens
    cannot be chosen. Of the chosen, ``cut`` were counted only up to ``max_tokens``, where their encoder cuts them.
    """

    budget: int
    used: int
    too_large: int
    without: int
    cut: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Excluded:
    """What one list did: its different ``entries``, those that the pool ``matched``, and the ``documents`` they are."""

    file: str
    entries: int
    matched: int
    documents: int


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What one held-out file did: its documents, and how many ``documents`` of the pool share a passage with it."""

    file: str
    held_out: int
    documents: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """The highest ``score`` that was allowed, and how many ``documents`` that might be chosen have one within it."""

    score: float
    documents: int


@dataclass(frozen=True, slots=True)
class GroupShare:
    """One group of a quota: its share of the budget, of the documents of the pool, and whether no more of it fits."""

    name: str
    chosen: float
    pool: float
    full: bool


@dataclass(frozen=True, slots=True)
class QuotaDid:
    """The most that one group of a ``field`` might be, a ``share`` of the budget, and what that did.

    Of its ``groups`` so many are ``full``, some of them by ``names``; ``passed_over`` better documents found theirs
    full. Documents ``without`` a value are one group. ``largest`` are the groups with the largest shares of the budget.
    """

    field: str
    share: float
    groups: int
    without: int
    passed_over: int
    full: int
    names: tuple[str, ...]
    largest: tuple[GroupShare, ...]


@dataclass(frozen=True, slots=True)
class Copies:
    """How many ``documents`` were passed over for a better one that they are near copies of."""

    documents: int


@dataclass(frozen=True, slots=True)
class Temperature:
    """The chance in a choice, in units of eps and of the cost."""

    in_eps: float
    in_cost: float


@dataclass(frozen=True, slots=True)
class RulesDid:
    """What each rule of a choice did; None, or nothing, for those that were not in use."""

    tokens: TokensUsed | None = None
    exclude: tuple[Excluded, ...] = ()
    held_out: tuple[HeldOut, ...] = ()
    threshold: Threshold | None = None
    at_most: tuple[QuotaDid, ...] = ()
    copies: Copies | None = None
    temperature: Temperature | None = None

    @property
    def any(self) -> bool:
        """Whether any rule was in use."""
        return self != RulesDid()
