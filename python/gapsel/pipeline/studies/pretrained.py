"""The language model that every training begins with: the user's, or a small GPT made of random text of the pool."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

from gapsel import evaluation
from gapsel.files import write_json
from gapsel.pipeline.folder.run_folder import read_json, sign
from gapsel.pipeline.studies.compare import texts
from gapsel.progress import track

if TYPE_CHECKING:
    from pathlib import Path

    from gapsel.pipeline.work import Run

# Written last, so that a folder without it is the half of one.
_MADE = "made.json"
# As much text as the tokens of the small GPT are at most worth; where it is less, it is read again.
_CHARACTERS_A_TOKEN = 4


def read_lm(run: Run, folder: Path) -> evaluation.Lm:
    """Load the model of the settings, or the small GPT in a folder, which is made if it is not there."""
    s = run.settings
    if s.lm is None:
        _make(run, folder)
    return evaluation.load(s.lm or folder, context=s.context, device=s.device, threads=s.threads)


def _make(run: Run, folder: Path) -> None:
    s = run.settings
    signature = sign(run.folder.record["inputs"]["pool"], s.text_field, s.context, s.pretrain_tokens, s.seed)
    about = folder / _MADE
    if about.exists() and read_json(about).get("signature") == signature:
        return
    if folder.exists():
        shutil.rmtree(folder)
    size = evaluation.Size(s.context)
    with track("train a small GPT", s.pretrain_tokens, "tokens", enabled=not run.quiet) as advance:
        evaluation.make(
            folder, _random_texts(run), size, s.pretrain_tokens, seed=s.seed, threads=s.threads, watch=advance
        )  # fmt: skip
    write_json(about, {"signature": signature})


def _random_texts(run: Run) -> list[str]:
    """Return random documents of the pool, with about as much text as the model is to be trained on."""
    s = run.settings
    there = sum(map(len, texts(s, "pool")))
    share = min(1.0, _CHARACTERS_A_TOKEN * s.pretrain_tokens / there)
    taken = np.random.default_rng([s.seed, run.pool.n]).random(run.pool.n) < share
    # A small pool must not come out empty.
    taken[s.seed % run.pool.n] = True
    return [text for text, wanted in zip(texts(s, "pool"), taken, strict=True) if wanted]
