"""The order in which rows come to the choice: that of f, without those that may not be chosen, and with chance in it.

With a temperature t > 0, f_i + t noise_i takes the place of f_i, noise_i from the negated Gumbel distribution: the
choice is then a sample without replacement, in which a row comes next with a probability in proportion to
exp(-f_i / t) among those that are left (Vieira 2014; Kool, van Hoof and Welling, ICML 2019).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapsel.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

# Half the spacing of the uniform numbers: none of them is 0 or 1 then.
_HALF = 2.0**-54


def ordered(
    batches: Iterable[NDArray[np.float32]],
    *,
    barred: NDArray[np.bool_] | None = None,
    limit: float | NDArray[np.float64] | None = None,
    temperature: float = 0.0,
    seed: int = 0,
) -> Iterator[NDArray[np.float32]]:
    """Yield batches (r,) of f by which the rows come, infinite for those that may not be chosen.

    ``barred`` (n,) rows may not be, nor those of an f above their ``limit``, one number or (n,). ``temperature`` is in
    units of f; what chance does to a row depends on the seed and its number alone.
    """
    rng, start = np.random.default_rng([seed, 1]), 0
    for f in batches:
        own = slice(start, start + len(f))
        out = f if temperature == 0 else (f + temperature * _noise(rng, len(f))).astype(np.float32)
        if limit is not None:
            out = np.where(f <= (limit[own] if isinstance(limit, np.ndarray) else limit), out, np.float32(np.inf))
        if barred is not None:
            out = np.where(barred[own], np.float32(np.inf), out)
        yield out
        start = own.stop


def values_at(batches: Iterable[NDArray[np.float32]], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return f of some rows (r,), in their order. Raises DataError where the batches end before the last of them."""
    order = np.argsort(rows)
    ascending, found, start, done = rows[order], np.empty(len(rows), np.float32), 0, 0
    for f in batches:
        stop = int(np.searchsorted(ascending, start + len(f)))
        found[order[done:stop]] = f[ascending[done:stop] - start]
        start, done = start + len(f), stop
    if done < len(rows):
        msg = f"row {ascending[done]} has no score: there are {start}; make the scores again"
        raise DataError(msg)
    return found


def _noise(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return np.asarray(np.log(-np.log(rng.random(count) + _HALF)))
