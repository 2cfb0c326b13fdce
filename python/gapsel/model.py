"""Fitted potentials saved and loaded: a few MB that score anything, anywhere.

One safetensors file: y (m, d) float32, b (m,) and g (m,) float64, the same again where something is to be avoided, and
how f lies on the pool, ranks (q,) int64 and quantiles (q,) float32; as text metadata the format's version, eps, cost,
mass, the scale of the cost, the evidence, the fingerprint of the embedder, and a digest of the whole file. No pickle; a
reader in plain NumPy needs twenty lines.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel.calibration import Calibration
from gapsel.errors import DataError
from gapsel.files import whole
from gapsel.records import Avoided, Box, Cost, CostScale, Evidence, Potentials, Query, Stage, Target

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.backends import Backend

# Any other tensor, key or meaning is another version, and the reader refuses what it does not know.
VERSION = 4
FORMAT = f"gapsel-model-{VERSION}"
_METADATA = {"format", "about", "digest"}
_ABOUT = {"eps", "mass", "cost", "scale", "evidence", "calibration", "embedder", "price"}
_POTENTIALS = {"y": ("float32", 2), "b": ("float64", 1), "g": ("float64", 1)}
_TENSORS = {**_POTENTIALS, "ranks": ("int64", 1), "quantiles": ("float32", 1)}
# The potentials by which rows have a price, where something is to be avoided.
_PRICE = "price_"
# What stands in the place of the digest while it is computed.
_BLANK = "0" * 32
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Model:
    """Potentials with their calibration, what made the target's vectors, and what is to be ``avoided``."""

    potentials: Potentials
    calibration: Calibration
    embedder: dict[str, object] = field(default_factory=dict)
    avoided: Avoided | None = None

    def f(self, shards: Sequence[NDArray[np.floating]], backend: Backend) -> NDArray[np.float32]:
        """Return f (n,) of any vectors of the same embedder, seen or unseen; with their price, if they have one."""
        own = potential(self.potentials, shards, backend)
        return own if self.avoided is None else own + self.prices(shards, backend)

    def prices(self, shards: Sequence[NDArray[np.floating]], backend: Backend) -> NDArray[np.float32]:
        """Return what choosing each vector (n,) costs by what is to be avoided; 0 where that is nothing."""
        if self.avoided is None:
            return np.zeros(sum(len(shard) for shard in shards), np.float32)
        return self.avoided.price(potential(self.avoided.potentials, shards, backend))

    def score(self, f: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the calibrated scores (n,) of documents with potentials f (n,), of the pool or not."""
        return self.calibration.score(f)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file whole or not at all."""
        from safetensors.numpy import save

        p, calibration = self.potentials, dataclasses.asdict(self.calibration)
        tensors: dict[str, NDArray[Any]] = {"y": p.target.y, "b": p.target.b, "g": p.g}
        tensors |= {name: calibration.pop(name) for name in ("ranks", "quantiles")}
        about = {**_said(p), "calibration": calibration, "embedder": self.embedder, "price": None}
        if self.avoided is not None:
            other = self.avoided.potentials
            tensors |= {f"{_PRICE}y": other.target.y, f"{_PRICE}b": other.target.b, f"{_PRICE}g": other.g}
            about["price"] = {**_said(other), "strength": self.avoided.strength, "mean": self.avoided.mean}
        metadata = {"format": FORMAT, "about": json.dumps(about, sort_keys=True, allow_nan=False), "digest": _BLANK}
        with whole(Path(path)) as file:
            file.write(sealed(save(tensors, metadata)))


def potential(p: Potentials, shards: Sequence[NDArray[np.floating]], backend: Backend) -> NDArray[np.float32]:
    """Return the potential (n,) of any vectors: one soft minimum each."""
    n = sum(len(shard) for shard in shards)
    out = np.empty(n, np.float32)
    backend.sweep(shards, Query(p.target, p.g, Box.fixed(1.0 / max(n, 1)), p.eps, p.cost, f=out))
    return out


def _said(p: Potentials) -> dict[str, Any]:
    """Return what there is to say of potentials beside their numbers, as JSON has it."""
    return {
        "eps": p.eps,
        "mass": p.mass,
        "cost": dataclasses.asdict(p.cost),
        "scale": dataclasses.asdict(p.scale),
        "evidence": {name: _or_null(value) for name, value in dataclasses.asdict(p.evidence).items()},
    }


def sealed(raw: bytes) -> bytes:
    """Return the bytes of a model file with the digest of all of them, itself blank, in its place."""
    header, rest = _split(raw)
    blank = _with_digest(header, _BLANK)
    digest = hashlib.blake2b(blank + rest, digest_size=16).hexdigest()
    return _with_digest(header, digest) + rest


def load(path: str | os.PathLike[str]) -> Model:
    """Read a model file, or the one in a run folder.

    Raises DataError for what is not one, is damaged, of another version, or holds what this version does not know.
    """
    file = Path(path) / "model.safetensors" if Path(path).is_dir() else Path(path)
    tensors, text = _read(file)
    try:
        return _model(tensors, json.loads(text))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{file}: is no complete gapsel model ({error}): fit it again"
        raise DataError(msg) from error


def _model(tensors: dict[str, NDArray[Any]], about: dict[str, Any]) -> Model:
    """Return the model. Raises what is caught in `load` for anything that does not belong together."""
    _same("keys", about, _ABOUT)
    priced = about["price"] is not None
    wanted = {**_TENSORS, **({f"{_PRICE}{name}": kind for name, kind in _POTENTIALS.items()} if priced else {})}
    _same("tensors", tensors, wanted)
    for name, (dtype, dimensions) in wanted.items():
        _check(tensors[name].dtype == dtype and tensors[name].ndim == dimensions, f"{name} is no {dtype} of its shape")
    _check(len(tensors["ranks"]) == len(tensors["quantiles"]) > 0, "ranks and quantiles do not agree in length")
    calibration = Calibration(**about["calibration"], ranks=tensors["ranks"], quantiles=tensors["quantiles"])
    potentials = _potentials(tensors, "", about)
    avoided = _avoided(tensors, about["price"], potentials) if priced else None
    return Model(potentials, calibration, dict(about["embedder"]), avoided)


def _avoided(tensors: dict[str, NDArray[Any]], about: dict[str, Any], beside: Potentials) -> Avoided:
    """Return what is to be avoided, which is of the same vectors and cost as the potentials ``beside`` it."""
    found = _potentials(tensors, _PRICE, about)
    _check(found.target.y.shape[1] == beside.target.y.shape[1], "y and price_y do not agree in dimensions")
    _check(found.cost == beside.cost, "the price has another cost")
    return Avoided(found, about["strength"], about["mean"])


def _potentials(tensors: dict[str, NDArray[Any]], prefix: str, about: dict[str, Any]) -> Potentials:
    y, b, g = (tensors[f"{prefix}{name}"] for name in _POTENTIALS)
    _check(len(y) == len(b) == len(g), f"{prefix}y, {prefix}b and {prefix}g do not agree in length")
    evidence: dict[str, Any] = {name: math.nan if value is None else value for name, value in about["evidence"].items()}
    evidence["trace"] = tuple(Stage(**stage) for stage in evidence["trace"])
    return Potentials(
        target=Target(y, b), g=g, eps=about["eps"], mass=about["mass"],
        cost=Cost(**about["cost"]), scale=CostScale(**about["scale"]), evidence=Evidence(**evidence),
    )  # fmt: skip


def _or_null(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def _same(what: str, there: dict[str, Any], wanted: dict[str, Any] | set[str]) -> None:
    lacking, foreign = sorted(set(wanted) - set(there)), sorted(set(there) - set(wanted))
    _check(not lacking, f"it lacks the {what} {', '.join(lacking)}")
    _check(not foreign, f"it has {what} that are unknown here: {', '.join(foreign)}")


def _check(fits: bool, wrong: str) -> None:  # noqa: FBT001 - an assertion with a message
    if not fits:
        raise ValueError(wrong)


def _read(file: Path) -> tuple[dict[str, NDArray[Any]], str]:
    """Return the tensors and the text of a model file that is whole."""
    from safetensors import SafetensorError, safe_open

    if not file.exists():
        msg = f"{file}: there is no model: name a model.safetensors or a run folder that `gapsel fit` has finished"
        raise DataError(msg)
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            _check_format(file, metadata)
            _check_digest(file, metadata["digest"])
            return {name: opened.get_tensor(name) for name in opened.keys()}, metadata["about"]  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        msg = f"{file}: cannot be read as a model ({error}): it is damaged or something else; fit it again"
        raise DataError(msg) from error


def _check_format(file: Path, metadata: dict[str, str]) -> None:
    """Raise DataError unless the file says that it is a model of this version."""
    form = metadata.get("format", "")
    number = re.fullmatch(r"gapsel-model-([0-9]{1,9})", form)
    if number is None:
        msg = f"{file}: is no model of gapsel (its format is {form!r}): name a model.safetensors that `gapsel fit` made"
        raise DataError(msg)
    if int(number[1]) != VERSION:
        newer = int(number[1]) > VERSION
        remedy = "update gapsel, or fit it again with this version" if newer else "fit it again"
        msg = (
            f"{file}: its format is {form}, of {'a newer' if newer else 'an older'} gapsel; this version reads "
            f"{FORMAT}: {remedy}"
        )
        raise DataError(msg)
    try:
        _same("metadata", metadata, _METADATA)
    except ValueError as error:
        msg = f"{file}: is no complete gapsel model ({error}): fit it again"
        raise DataError(msg) from error


def _check_digest(file: Path, digest: str) -> None:
    """Raise DataError unless the file has the bytes that were written."""
    with file.open("rb") as stream:
        start = stream.read(8)
        header = start + stream.read(int.from_bytes(start, "little"))
        found = hashlib.blake2b(_with_digest(header, _BLANK), digest_size=16)
        while chunk := stream.read(_CHUNK):
            found.update(chunk)
    if found.hexdigest() != digest:
        msg = f"{file}: is damaged (its contents do not have the digest that it states): copy it again, or fit it again"
        raise DataError(msg)


def _split(raw: bytes) -> tuple[bytes, bytes]:
    """Return the header, its length before it, and the numbers."""
    end = 8 + int.from_bytes(raw[:8], "little")
    return raw[:end], raw[end:]


def _with_digest(header: bytes, digest: str) -> bytes:
    return re.sub(rb'"digest":"[0-9a-f]{32}"', f'"digest":"{digest}"'.encode(), header, count=1)
