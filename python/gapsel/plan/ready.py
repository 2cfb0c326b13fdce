"""Ready-made vectors looked at without reading them: their sizes from heads, some rows from the files' beginnings."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from gapsel import store
from gapsel.pipeline.vectors import given
from gapsel.plan.pieces import bytes_of
from gapsel.remote import is_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Files that rows are looked at in, and rows of each.
_FILES, _ROWS = 16, 512
# What a clock of processor time cannot tell from nothing.
_LEAST = 1e-6


@dataclass(frozen=True, slots=True)
class Ready:
    """Vectors in files: n rows of d, bytes of a number as it is swept, ``stored`` if they go to the run folder first.

    ``some`` (s, d) float32 are some of the rows; ``bytes`` what is hashed of the files for their fingerprint; ``pace``
    the numbers that one thread reads of them in a second.
    """

    n: int
    d: int
    number_bytes: int
    stored: bool
    bytes: float
    some: NDArray[np.float32]
    pace: float


def look(paths: Sequence[str], column: str | None = None) -> Ready:
    """Look at files of vectors. Raises DataError for what is none, and where their d differ."""
    names = store.files(paths)
    files = given.look(names, column)
    step = -(-len(files) // _FILES)
    began = time.process_time()
    blocks = [_first(one) for one in files[::step]]
    took = max(time.process_time() - began, _LEAST)
    return Ready(
        n=sum(one.rows for one in files),
        d=files[0].d,
        number_bytes=given.dtype_of(files).itemsize,
        stored=not given.lie_ready(names),
        bytes=float(sum(bytes_of(one.source) for one in files if not is_url(one.source))),
        some=np.concatenate([block[:_ROWS].astype(np.float32) for block in blocks]),
        pace=sum(block.size for block in blocks) / took,
    )


def _first(file: store.Given) -> NDArray[np.floating]:
    return np.concatenate([block.vectors for block in islice(file.blocks(), 1)])
