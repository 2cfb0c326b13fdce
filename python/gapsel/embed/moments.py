"""Moments of a model's features, estimated from a sample of documents; of gradients, what Adam would divide by.

Those of hidden states are in `standard`. Of gradients, v is the mean over the sample of the squared gradients of single
documents, entry by entry. Adam's step from a gradient g is, without its momentum, g / sqrt(v + tiny). LESS (Xia et al.
2024, arXiv 2402.04333) puts that on the side of the training documents and leaves the target's gradients as they are:
what it ranks by is <g_target, g / sqrt(v + tiny)>. Optimal transport compares both sides in one space, so each gets
half of it,

    x = g / (v + tiny)^(1/4)          <x_target, x> = <g_target, g / sqrt(v + tiny)>

tiny is a share of the layer's mean v, where LESS has 1e-8: an entry that no sampled document moved does not outweigh
the others.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gapsel.errors import DataError
from gapsel.files import whole

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

# The name of the file in a run folder, and beside a model file that is to score texts.
MOMENTS = "moments.safetensors"
_TINY = 1e-4
_FORMAT = "gapsel-moments-1"


@dataclass(frozen=True, slots=True)
class Moments:
    """v float32 by name, from so many ``documents``: of gradients (outputs, rank) for every layer, see `standard` else.

    ``made_for`` is the hash of the fingerprint of the encoder whose features they were.
    """

    v: dict[str, NDArray[np.float32]]
    documents: int
    made_for: str

    @property
    def hash(self) -> str:
        """The identity of the numbers."""
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(self.v):
            digest.update(f"{name} {self.v[name].shape} ".encode() + np.ascontiguousarray(self.v[name]).tobytes())
        return digest.hexdigest()

    def scale(self, layer: str) -> NDArray[np.float32]:
        """Return what multiplies a layer's gradient, flat; 0 for a layer that no document moved."""
        v = self.v[layer].astype(np.float64).ravel()
        damped = v + _TINY * v.mean()
        return np.where(damped > 0, 1 / np.sqrt(np.sqrt(np.where(damped > 0, damped, 1.0))), 0.0).astype(np.float32)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file whole or not at all."""
        from safetensors.numpy import save

        about = {
            "format": _FORMAT,
            "about": json.dumps({"documents": self.documents, "made_for": self.made_for, "hash": self.hash}),
        }
        with whole(Path(path)) as file:
            file.write(save(self.v, about))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Moments:
        """Read a file. Raises DataError for one that is missing, is none, or is damaged."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="numpy") as file:
                metadata = file.metadata() or {}
                about = json.loads(metadata["about"])
                v = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
                read = cls(v, int(about["documents"]), str(about["made_for"]))
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            msg = f"{path}: cannot be read as moments of features ({error}): embed again into a new folder"
            raise DataError(msg) from error
        if metadata.get("format") != _FORMAT or about.get("hash") != read.hash:
            msg = f"{path}: the moments in it are damaged or of another version: embed again into a new folder"
            raise DataError(msg)
        return read
