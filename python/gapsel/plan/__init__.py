"""A plan before the work: what a run would read, write, hold and take, from a sample and short measurements.

    sample.py     rows, bad rows and bytes of the texts, from pieces.py; ready.py: of vectors that are there
    encoding.py   tokens and the encoder's pace; calibrate.py: the other paces of this machine
    records.py    the nouns; make.py: from settings to a plan
    cost.py       the cost model, over looks.py, the counts of sweeps; machines.py: paces that are stated, not measured
    changes.py    what to change where it does not fit
    words.py      the plan for people and for machines

Nothing is written.
"""

from __future__ import annotations

from gapsel.plan.make import make
from gapsel.plan.records import Plan
from gapsel.plan.words import in_json, in_words

__all__ = ["Plan", "in_json", "in_words", "make"]
