"""What a sweep refuses before it reads the pool, in the words of the Rust core, which checks the same."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from gapsel.errors import DataError, UsageError
from gapsel.records import COST_KINDS, OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gapsel.records import Box, Query, Target

# Beyond this a mass times a row count may leave float32.
LARGEST_MASS = 1e20
# Beyond this a price times a mass may leave float32.
LARGEST_PRICE = 1e18


def refuse_row(side: str, row: int, values: NDArray[np.float32]) -> NoReturn:
    """Raise DataError, which says why a row (d,) cannot be used."""
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        msg = f"holds {shown(values[wrong[0]])} at dimension {wrong[0]}: remove the row or embed it again"
    elif not values.any():
        msg = "has norm 0: it cannot be scaled to unit length; remove the row"
    else:
        msg = "lies beyond float32, or its costs over eps do; scale the vectors down or raise eps"
    msg = f"{side} row {row} {msg}"
    raise DataError(msg)


def refuse_range(side: str, row: int, value: float) -> NoReturn:
    """Raise DataError: a cost over eps leaves the range of float32."""
    msg = f"{side} row {row}: its costs over eps reach {value:.3e}, beyond float32; scale the vectors down or raise eps"
    raise DataError(msg)


def check_query(query: Query, rows: int, n: int) -> None:
    """Raise an error unless all but the target fits ``rows`` rows of a pool of n; see the checks of its parts."""
    _check_settings(query, n)
    _check_box(query.box, rows)
    _check_outputs(query.outputs, rows)


def check_target(target: Target, g: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the columns of positive weight. Raises DataError if y, b and g do not fit or hold what they must not."""
    m, y = len(target.b), target.y
    if m == 0 or y.shape[1] == 0:
        msg = "the target is empty: give it at least one row"
        raise DataError(msg)
    for name, found in (("y", len(y)), ("g", len(g))):
        if found != m:
            msg = f"{name} has {found} entries, expected {m}"
            raise DataError(msg)
    _each("b", target.b, (target.b >= 0) & np.isfinite(target.b), "a weight is finite and not negative")
    keep = np.flatnonzero(target.b > 0)
    if not keep.size:
        msg = "all weights b are zero: at least one target row must weigh something"
        raise DataError(msg)
    _each("g", g, np.isfinite(g) | (target.b == 0), "a potential is finite")
    return keep


def _check_settings(query: Query, n: int) -> None:
    """Raise UsageError for settings that are not numbers above 0, an unknown cost, or more rows than there are."""
    if query.cost.kind not in COST_KINDS:
        msg = f'cost "{query.cost.kind}" is unknown or not available here: choose one of {", ".join(COST_KINDS)}'
        raise UsageError(msg)
    for name, value in (("eps", query.eps), ("eta", query.box.eta)):
        if not 0 < value < math.inf:
            msg = f"{name} is {shown(value)}: it must be positive and finite"
            raise UsageError(msg)
    if query.k > n:
        msg = f"k is {query.k} but there are only {n} rows: ask for at most {n}"
        raise UsageError(msg)


def _check_box(box: Box, n: int) -> None:
    """Raise DataError unless 0 <= lo <= hi and prices are not too large, for numbers or arrays (n,)."""
    for name, given in (("lo", box.lo), ("hi", box.hi), ("price", box.price)):
        values = np.atleast_1d(np.asarray(given))
        if np.ndim(given) and len(values) != n:
            msg = f"{name} has {len(values)} entries, expected {n}"
            raise DataError(msg)
        if name == "price":
            _each(name, values, np.abs(values) <= LARGEST_PRICE, "a price lies in -1e18..1e18")
        else:
            _each(name, values, (values >= 0) & (values <= LARGEST_MASS), "a mass lies in 0..1e20")
    lo, hi = np.atleast_1d(np.asarray(box.lo, np.float64)), np.asarray(box.hi, np.float64)
    if box.lo is not box.hi:
        lo = np.broadcast_to(lo, np.broadcast_shapes(lo.shape, np.atleast_1d(hi).shape))
        _each("lo", lo, lo <= hi, "lo must not exceed hi")


def _check_outputs(outputs: Mapping[str, NDArray[Any]], n: int) -> None:
    """Raise an error unless each output is an array (n,) of its type that may be written, alone."""
    taken: list[NDArray[Any]] = []
    for name, out in outputs.items():
        kind = OUTPUTS[name]
        if len(out) != n:
            msg = f"{name} has {len(out)} entries, expected {n}"
            raise DataError(msg)
        if type(out).__module__ != np.__name__ or out.dtype != kind or out.ndim != 1:
            msg = f"{name} must be a NumPy array (n,) of {np.dtype(kind)}"
            raise DataError(msg)
        if not out.flags.writeable or any(np.may_share_memory(out, other) for other in taken):
            msg = f"{name} cannot be written: pass an array of its own"
            raise UsageError(msg)
        taken.append(out)


def shown(value: float) -> str:
    """Return a number as messages show it."""
    return "NaN" if math.isnan(value) else f"{value:g}"


def _each(name: str, values: NDArray[np.floating], good: NDArray[np.bool_], expected: str) -> None:
    if not good.all():
        row = int(np.argmin(good))
        msg = f"{name}[{row}] is {shown(values[row])}: {expected}"
        raise DataError(msg)
