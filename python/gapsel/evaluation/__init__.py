"""Does a selection help? A small language model is trained on it, and its loss on held-out target texts tells.

    lm.py         a causal language model of a Hugging Face folder, and its tokens
    scratch.py    a small GPT trained from scratch, where there is no other
    blocks.py     documents as full contexts, in an order that a seed gives
    training.py   steps, and the loss on held-out texts
    trial.py      one method, one seed: warm-up on its selection, then fine-tuning on the target
    judgement.py  the trials of several methods: ranks, and differences from random
    intervals.py  what several seeds say: means, paired differences, Student's t

Every method gets the same number of tokens in the same number of steps. torch, transformers and tokenizers are imported
when they are used.
"""

from __future__ import annotations

from gapsel.evaluation.intervals import Mean, Verdict, mean_of, quantile, verdict_of
from gapsel.evaluation.judgement import Judged, judge
from gapsel.evaluation.lm import HeldOut, Lm, load
from gapsel.evaluation.scratch import Size, make
from gapsel.evaluation.trial import Recipe, Trial, trial

__all__ = [
    "HeldOut",
    "Judged",
    "Lm",
    "Mean",
    "Recipe",
    "Size",
    "Trial",
    "Verdict",
    "judge",
    "load",
    "make",
    "mean_of",
    "quantile",
    "trial",
    "verdict_of",
]
