"""A sweep in parts: spans of the pool swept one by one, wherever, and added up in their order.

A whole sweep on one machine adds up the same spans in the same order (rust/totals.rs), so that who swept what changes
no bit. gram_q is made at the end, G 1 = sum_i v_i w_i p_i and the rest: by G's own sums, so that rounding leaves
constants where they were.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gapsel.records import Sweep

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


class Part(NamedTuple):
    """What some rows of the pool add to a `records.Sweep`, in the units of the whole.

    ``gram`` has G (m, m) and sum_i v_i (r_i - w_i) p_i (m,), if asked for; ``top``, if asked for, up to k of the lowest
    f in order of (f, row): rows (int64), numbered in the whole, and f (float32).
    """

    q: NDArray[np.float64]
    value: float
    hard: float
    entropy: float
    gram: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    top: tuple[NDArray[np.int64], NDArray[np.float32]] | None


def added(parts: Iterable[Part], k: int = 0) -> Part:
    """Return the sum of parts that come in the order of their rows, one at least; ``k`` is what was asked of each."""
    return reduce(lambda before, part: _both(before, part, k), parts)


def swept(whole: Part) -> Sweep:
    """Return what the sum of all parts says."""
    gram, surplus = whole.gram or (None, None)
    gram_q = None if gram is None or surplus is None else gram.sum(axis=1) + surplus
    return Sweep(
        q=whole.q, value=whole.value, hard=whole.hard, entropy=whole.entropy, gram=gram, gram_q=gram_q, top=whole.top
    )


def _both(before: Part, later: Part, k: int) -> Part:
    gram = top = None
    if before.gram and later.gram:
        gram = before.gram[0] + later.gram[0], before.gram[1] + later.gram[1]
    if before.top and later.top:
        rows, f = np.concatenate([before.top[0], later.top[0]]), np.concatenate([before.top[1], later.top[1]])
        # Both are sorted, and the rows of one lie before those of the other: a stable sort leaves ties to the lower.
        best = np.argsort(f, kind="stable")[:k]
        top = rows[best], f[best]
    return Part(
        q=before.q + later.q,
        value=before.value + later.value,
        hard=before.hard + later.hard,
        entropy=before.entropy + later.entropy,
        gram=gram,
        top=top,
    )
