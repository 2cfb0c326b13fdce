"""What features of a language model are scaled by: moments of a sample of the pool, made once, kept in the run folder.

Whoever comes later, the same command again, another task or a score, reads the file. Where two tasks make it at the
same time, the first one's stays, and both go on with that.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from gapsel import embed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from gapsel import corpus

SAMPLED = 256


def moments_of(folder: Path, encoder: embed.Encoder, texts: Callable[[], list[str]]) -> embed.Moments:
    """Return the moments that the run folder has, or those of ``texts``, which it has then."""
    file = folder / embed.MOMENTS
    if not file.exists():
        own = folder / f".{file.name}.{secrets.token_hex(4)}.{os.getpid()}.tmp"
        embed.sample_moments(encoder, texts()).save(own)
        try:
            with suppress(FileExistsError):
                file.hardlink_to(own)
        except OSError:  # A file system without hard links.
            own.replace(file)
        own.unlink(missing_ok=True)
    return embed.Moments.load(file)


def sample(batches: Iterable[corpus.Batch], rows: int) -> list[str]:
    """Return some texts out of batches of so many ``rows`` in all, drawn with a fixed seed, in the pool's order."""
    chosen = np.sort(np.random.default_rng(0).choice(rows, min(SAMPLED, rows), replace=False))
    texts: list[str] = []
    first = 0
    for batch in batches:
        own = chosen[(first <= chosen) & (chosen < first + len(batch.texts))] - first
        texts += [batch.texts[row] for row in own]
        first += len(batch.texts)
    return texts
