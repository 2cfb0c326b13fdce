"""What a choice has to keep to: a budget, quotas, rows that may not be chosen, copies, thresholds, chance.

    budget.py    how much may be chosen: documents or tokens, and what each row is of that
    quotas.py    the most that one group of rows may be of it
    linear.py    the least mean of f that any choice can have under budget and quotas: what certificates compare with
    order.py     f as the rows come: without those that may not be chosen, with chance where that is wanted
    choose.py    the choice itself: rows in some order, that of f above all, each taken that keeps to all rules
    exclude.py   rows that lists of documents name; held_out.py: those that share a passage with what is held out
    copies.py    near copies within the choice; words.py: texts as words

Functions of arrays, but for those that read lists of documents.
"""

from gapsel.rules.budget import Budget
from gapsel.rules.choose import Choice, Copies, Rules, Walk, choose
from gapsel.rules.copies import Both, ByVectors, ByWords, check_by_words
from gapsel.rules.exclude import exclude
from gapsel.rules.held_out import overlapping
from gapsel.rules.linear import least_mean
from gapsel.rules.order import ordered, values_at
from gapsel.rules.quotas import Quota, check_met

__all__ = [
    "Both",
    "Budget",
    "ByVectors",
    "ByWords",
    "Choice",
    "Copies",
    "Quota",
    "Rules",
    "Walk",
    "check_by_words",
    "check_met",
    "choose",
    "exclude",
    "least_mean",
    "ordered",
    "overlapping",
    "values_at",
]
