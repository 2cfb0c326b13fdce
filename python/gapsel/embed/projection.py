"""Random projection of a long vector that comes in blocks, with no matrix: every block is folded onto d places.

A block's numbers are shuffled, each gets a random sign, and those that fall onto the same place are added up. That is a
sparse Johnson-Lindenstrauss projection with one entry +-1 in each column (Achlioptas 2003; Weinberger et al. 2009,
"feature hashing"), here with places filled evenly:

    E <Px, Py> = <x, y>        Var <Px, Py> <= (|x|^2 |y|^2 + <x, y>^2) / d

for vectors without a few numbers that outweigh all others; d adds cost one addition each where a dense matrix has d.
Signs and shuffles are the raw bits of NumPy's Philox generator, which are the same in every version and on every
machine.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_TOP = np.uint64(63)


class Fold:
    """One block of a projection to ``d`` places: ``count`` numbers, each times its ``scale`` (count,) float32.

    ``at`` is the block's number; the same number has the same shuffle and signs, whatever the others are.
    """

    def __init__(self, count: int, d: int, at: int, scale: NDArray[np.float32], device: torch.device) -> None:
        import torch

        self._d, self._spare = d, -count % d
        filled = np.concatenate([scale, np.zeros(self._spare, np.float32)])
        order = np.argsort(_bits(count + self._spare, "order", at), kind="stable")
        factors = filled[order] * signs(len(order), "signs", at)
        self._order = torch.from_numpy(order.astype(np.int32)).to(device)
        self._factors = torch.from_numpy(factors).to(device)

    def __call__(self, block: torch.Tensor) -> torch.Tensor:
        """Return (rows, d), this block's part of the projection of (rows, count)."""
        import torch

        filled = torch.nn.functional.pad(block, (0, self._spare))
        shuffled = filled.index_select(1, self._order) * self._factors
        return shuffled.view(len(block), -1, self._d).sum(dim=1)


def signs(count: int, purpose: str, at: int) -> NDArray[np.float32]:
    """Return random signs (count,), +1 and -1, for a purpose and a number."""
    return 1 - 2 * (_bits(count, purpose, at) >> _TOP).astype(np.float32)


def _bits(count: int, purpose: str, at: int) -> NDArray[np.uint64]:
    key = hashlib.blake2b(f"{purpose} {at}".encode(), digest_size=16).digest()
    return np.random.Philox(key=int.from_bytes(key, "little")).random_raw(count)
