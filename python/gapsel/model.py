"""Fitted potentials saved and loaded: a few MB that score anything, anywhere.

One safetensors file: y (m, d) float32, b (m,) and g (m,) float64, and as text metadata the format version, eps, cost,
mass, the scale of the cost, the calibration (mean and quantiles of f on the pool), the evidence, and the fingerprint of
the embedder. No pickle; a reader in plain NumPy needs twenty lines.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.errors import DataError
from gapsel.files import whole
from gapsel.records import Box, Cost, CostScale, Evidence, Potentials, Stage, Target

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.backends import Backend

FORMAT = "gapsel-model-1"
QUANTILES = (0.0, 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How f lies on the pool that the potentials were fitted on: its weighted mean and ``QUANTILES``."""

    rows: int
    mean: float
    quantiles: tuple[float, ...]

    @classmethod
    def of(cls, f: NDArray[np.float32], a: float | NDArray[np.float64]) -> Calibration:
        """Measure f (n,) under the base weights."""
        mean = np.average(f.astype(np.float64), weights=None if isinstance(a, float) else a)
        return cls(len(f), float(mean), tuple(float(q) for q in np.quantile(f, QUANTILES)))


@dataclass(frozen=True, slots=True)
class Model:
    """Potentials with their calibration, and what made the target's vectors."""

    potentials: Potentials
    calibration: Calibration
    embedder: dict[str, object] = field(default_factory=dict)

    def f(self, shards: Sequence[NDArray[np.floating]], backend: Backend) -> NDArray[np.float32]:
        """Return f (n,) of any vectors of the same embedder, seen or unseen: one soft minimum each."""
        p = self.potentials
        n = sum(len(shard) for shard in shards)
        out = np.empty(n, np.float32)
        backend.sweep(shards, p.target, p.g, Box.fixed(1.0 / max(n, 1)), eps=p.eps, cost=p.cost, f=out)
        return out

    def score(self, f: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the calibrated scores (n,) of documents outside the pool: f (n,) minus its mean on the pool."""
        return f.astype(np.float64) - self.calibration.mean

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file whole or not at all."""
        from safetensors.numpy import save

        p = self.potentials
        about = {
            "eps": p.eps,
            "mass": p.mass,
            "cost": dataclasses.asdict(p.cost),
            "scale": dataclasses.asdict(p.scale),
            "evidence": dataclasses.asdict(p.evidence),
            "calibration": dataclasses.asdict(self.calibration),
            "embedder": self.embedder,
        }
        tensors: dict[str, NDArray[Any]] = {"y": p.target.y, "b": p.target.b, "g": p.g}
        with whole(Path(path)) as file:
            file.write(save(tensors, {"format": FORMAT, "about": json.dumps(about, sort_keys=True)}))


def load(path: str | os.PathLike[str]) -> Model:
    """Read a model file, or the one in a run folder. Raises DataError for what is not one, is damaged or too new."""
    file = Path(path) / "model.safetensors" if Path(path).is_dir() else Path(path)
    tensors, text = _read(file)
    try:
        about = json.loads(text)
        target = Target(tensors["y"], tensors["b"])
        if tensors["g"].shape != target.b.shape or tensors["y"].shape[:1] != target.b.shape:
            msg = "y, b and g do not agree in length"
            raise ValueError(msg)  # noqa: TRY301 - one message for all that can be wrong inside
        evidence = about["evidence"] | {"trace": tuple(Stage(**stage) for stage in about["evidence"]["trace"])}
        potentials = Potentials(
            target=target, g=tensors["g"], eps=about["eps"], mass=about["mass"], cost=Cost(**about["cost"]),
            scale=CostScale(**about["scale"]), evidence=Evidence(**evidence),
        )  # fmt: skip
        calibration = about["calibration"] | {"quantiles": tuple(about["calibration"]["quantiles"])}
        return Model(potentials, Calibration(**calibration), about["embedder"])
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{file}: is no complete gapsel model ({error}): fit it again"
        raise DataError(msg) from error


def _read(file: Path) -> tuple[dict[str, NDArray[Any]], str]:
    from safetensors import SafetensorError, safe_open

    if not file.exists():
        msg = f"{file}: there is no model: name a model.safetensors or a run folder that `gapsel fit` has finished"
        raise DataError(msg)
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        msg = f"{file}: cannot be read as a model ({error}): it is damaged or something else; fit it again"
        raise DataError(msg) from error
    if metadata.get("format") != FORMAT:
        msg = f"{file}: its format is {metadata.get('format')!r}, this version reads {FORMAT!r}: fit it again"
        raise DataError(msg)
    return tensors, metadata.get("about", "")
