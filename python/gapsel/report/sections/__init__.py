"""The sections that a page has only where there is something to tell: their words and their geometry, a file each.

rules.py       what the choice kept to
mixtures.py    how much of each domain
trials.py      whether models trained on the choice are better for it
tasks.py       what each task of several got
"""
