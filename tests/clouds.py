"""Vectors of three kinds for what stands beside pool and target (a base, examples to avoid), as arrays and as files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

N, M, D, K = 900, 30, 6, 60


def cloud(rows: int, seed: int, kinds: tuple[int, ...] = (0, 1, 2)) -> NDArray[np.float32]:
    """Vectors around some of the axes."""
    rng = np.random.default_rng(seed)
    centres = 3 * np.eye(D)[list(kinds)]
    return np.asarray(centres[rng.integers(len(kinds), size=rows)] + rng.standard_normal((rows, D)), np.float32)


def write(path: Path, x: NDArray[np.float32]) -> Path:
    np.save(path, x)
    return path


def in_files(folder: Path, **sides: NDArray[np.float32]) -> dict[str, Any]:
    """Write the vectors of sides, and return the settings that name their files."""
    return {f"{name}_vectors": str(write(folder / f"{name}.npy", x)) for name, x in sides.items()}
