"""Any documents, from anywhere, scored by a model file while they pass: files, standard input, Arrow batches, arrays.

    embedder.py   the encoder that a model was fitted with, found, loaded, and known by its fingerprint
    scorer.py     texts or vectors -> scores
    inputs.py     files, streams and vectors as parts: documents with all that their rows came with
    batches.py    batches in Python, each returned whole; forms.py: what they may come as
    callables.py  a scorer and an embedder for pipelines of other people's
    outputs.py    parts with scores, as JSON lines or Arrow
    run.py        `gapsel score --model`: from one to the other, and what is told of it

Memory is that of one part, or of two where the next is read meanwhile, however long the stream.
"""

from __future__ import annotations

from gapsel.stream.batches import score_batches
from gapsel.stream.callables import BatchEmbedder, BatchScorer
from gapsel.stream.embedder import load_encoder
from gapsel.stream.inputs import Reading
from gapsel.stream.run import Request, Summary, run
from gapsel.stream.scorer import Scorer

__all__ = [
    "BatchEmbedder",
    "BatchScorer",
    "Reading",
    "Request",
    "Scorer",
    "Summary",
    "load_encoder",
    "run",
    "score_batches",
]
