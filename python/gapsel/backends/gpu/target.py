"""The target on one device: y as operands, and what each column adds to a logit (the twin of rust/target.rs).

y is float16 twice, hi and lo, under one power of two for all rows; that power goes into the product's alpha. The mean
of y is taken off both sides where the cost does not change under a shift and norms are not known to be 1, so that a
large common offset does not eat the digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.backends.checks import refuse_range, refuse_row
from gapsel.backends.gpu.operands import BadRow, Packing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends.gpu.device import Array, Device
    from gapsel.backends.gpu.job import Job
    from gapsel.backends.gpu.operands import Form
    from gapsel.records import CostKind, Target

# The bias of a column that only fills up: below every true logit, and finite.
ABSENT = -1e38
# Logits stay within this, so that differences of them are finite.
LARGEST_LOGIT = 1e37
# Columns are padded to this, so that threads read four at a time and products are aligned.
_PADDING = 8
_UNIT_SCALE = 2.0**14
_SCALE: dict[CostKind, float] = {"sqeuclidean": 2.0, "cosine": 1.0, "euclidean": -1.0}


@dataclass(frozen=True, slots=True)
class TargetOperand:
    """y on a device, whatever g: (ld, 3 depth) float16 as [hi, hi, lo], ``fixed`` times what it stands for.

    The first two parts face a pool's [hi, lo]. ``keep`` (columns,) are the targets of positive weight, ``squared``
    (columns,) their squared norms, 1 where they are known to be.
    """

    y: Array
    keep: NDArray[np.intp]
    keep_there: Array
    centre: Array | None
    squared: NDArray[np.float64]
    fixed: float
    centre_bytes: bytes

    @property
    def ld(self) -> int:
        """Columns, padded."""
        return int(self.y.shape[0])


def place(device: Device, target: Target, keep: NDArray[np.intp], form: Form) -> TargetOperand:
    """Prepare y. Raises DataError for a row that is not finite, or has no direction where one is needed."""
    y = np.ascontiguousarray(target.y[keep], np.float32)
    centre, fixed = (None, _UNIT_SCALE) if form.unit else _centre_and_scale(y)
    centre_there = None if centre is None else device.upload(centre)
    ld = -(-len(keep) // _PADDING) * _PADDING
    out = device.zeros((ld, 3 * form.depth), np.float16)
    squared, bad = device.zeros(len(keep), np.float32), BadRow(device)
    Packing(form.d, centre_there, form.unit, 2 * form.depth, fixed)(
        device, (device.upload(y), "float32", len(keep)), out, None, squared, bad=bad
    )
    device.copy(out[:, : form.depth], out[:, form.depth : 2 * form.depth])
    row = bad.found()
    if row is not None:
        refuse_row("target", int(keep[row]), y[row])
    norms = np.ones(len(keep)) if form.unit else device.download(squared).astype(np.float64)
    return TargetOperand(
        out, keep, device.upload(keep.astype(np.int32)), centre_there, norms, fixed,
        b"" if centre is None else centre.tobytes(),
    )  # fmt: skip


def _centre_and_scale(y: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Return the mean (d,), and the power of two that brings the largest number less its mean near 2^15."""
    with np.errstate(over="ignore", invalid="ignore"):
        centre = y.mean(axis=0, dtype=np.float64).astype(np.float32)
        top = float(np.abs(y - centre).max())
    exponent = np.frexp(top)[1] if 0 < top < np.inf else 15
    return centre, float(2.0 ** (15 - int(exponent)))


@dataclass(frozen=True, slots=True)
class Columns:
    """What columns add at one g: settings of the kernels, and (ld,) biases; ``hard`` is None where it is the same."""

    bias: Array
    hard: Array | None
    squared: Array | None
    settings: dict[str, float]


def columns(device: Device, y: TargetOperand, job: Job) -> Columns:
    """Return what columns add at the job's g. Raises DataError where costs over eps leave float32."""
    cost, eps = job.query.cost, job.query.eps
    unit = float(np.log2(np.e)) / eps
    of_square = 1.0 if cost.kind == "sqeuclidean" else 0.0
    b = job.query.target.b[y.keep]
    hard = (job.query.g[y.keep] - of_square * y.squared) * unit
    hard_bias, hard_shift = _shifted(hard, y)
    bias, shift = _shifted(hard + np.log2(b), y)
    unit_rows = y.centre is None
    largest = float(np.sqrt(y.squared.max()))
    settings = {
        "scale": _SCALE[cost.kind] * unit,
        "constant": 1.0 if cost.kind == "cosine" else of_square * unit_rows,
        "of_square": of_square,
        "shift": shift,
        "hard_shift": hard_shift,
        "unit": unit,
        "eps": eps,
        "limit": _largest_square(unit, largest),
    }
    if unit_rows and not settings["limit"] >= 1.0:
        refuse_range("pool", 0, 4.0 * unit)
    return Columns(
        device.upload(bias),
        None if (b == b[0]).all() else device.upload(hard_bias),
        device.upload(_padded(y.squared, y.ld, 0.0)) if cost.kind == "euclidean" else None,
        settings,
    )


def _largest_square(unit: float, largest: float) -> float:
    """Return the squared norm of a pool row up to which its logits stay within float32; negative if none do."""
    bound = LARGEST_LOGIT / (2.0 * unit)
    norm = min(bound / largest if largest > 0 else np.inf, bound - largest)
    return float(norm * abs(norm))


def _shifted(bias: NDArray[np.float64], y: TargetOperand) -> tuple[NDArray[np.float32], float]:
    """Return the biases less their maximum, in float32 and padded, and that maximum."""
    shift = float(bias.max())
    below = shift - bias
    beyond = np.flatnonzero(~((below >= 0) & (below <= LARGEST_LOGIT)))
    if beyond.size:
        refuse_range("target", int(y.keep[beyond[0]]), float(below[beyond[0]]))
    return _padded(-below, y.ld, ABSENT), shift


def _padded(values: NDArray[Any], ld: int, absent: float) -> NDArray[np.float32]:
    out = np.full(ld, absent, np.float32)
    out[: len(values)] = values
    return out
