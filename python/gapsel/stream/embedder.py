"""The encoder that a model was fitted with: loaded as it was used then, and refused where it is another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gapsel import embed
from gapsel.errors import DataError, UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from gapsel.model import Model

# What was said of the use of a model, as far as its features have it.
_SETTINGS = ("features", "gradient_dims", "pooling", "max_tokens", "dtype")


def load_encoder(
    model: Model,
    file: str | os.PathLike[str] = "",
    *,
    encoder: str | os.PathLike[str] | embed.Encoder | None = None,
    device: str = "auto",
    threads: int = 0,
) -> embed.Encoder:
    """Return the encoder of a model that was read from ``file``: by its name, or the one that is given.

    A folder has no name by which it could be found again: where ``file`` lies in a run folder, that says it, else
    ``encoder`` has to. Raises UsageError where the model was fitted with ready-made vectors or the encoder is not
    found, DataError where it is not the one that the model was fitted with.
    """
    made = model.embedder
    if "hash" not in made:
        msg = (
            f"{file or 'the model'}: was fitted with ready-made vectors, so that no encoder of texts is known: give "
            "vectors of the same kind (.npy, or a column: --vector-field)"
        )
        raise UsageError(msg)
    loaded = encoder if isinstance(encoder, embed.Encoder) else _loaded(made, file, encoder, device, threads)
    if loaded.fingerprint["hash"] != made["hash"]:
        raise _another(loaded.fingerprint, made)
    return loaded


def _loaded(
    made: Mapping[str, object],
    file: str | os.PathLike[str],
    encoder: str | os.PathLike[str] | None,
    device: str,
    threads: int,
) -> embed.Encoder:
    settings = cast("Any", {name: made[name] for name in _SETTINGS if name in made})
    name = _known_folder(file) or str(made["model"])
    moments = _moments(made, file)
    try:
        loaded = embed.load(_source(str(encoder or name)), device=device, threads=threads, **settings)
    except UsageError as error:
        if encoder is not None:
            raise
        msg = f"{error}. The model was fitted with the encoder {made['model']!r}: name its folder (--encoder)"
        raise UsageError(msg) from error
    fits = moments is not None and moments.made_for == loaded.fingerprint["hash"]
    return embed.scaled(loaded, moments) if moments is not None and fits else loaded


def _moments(made: Mapping[str, object], file: str | os.PathLike[str]) -> embed.Moments | None:
    """Return the moments that a model's features were scaled by, None for features that are not."""
    if made.get("features") not in embed.SCALED:
        return None
    path = Path(file)
    beside = (path if path.is_dir() else path.parent) / embed.MOMENTS
    if not beside.exists():
        msg = (
            f"{beside}: is missing, and the model was fitted with features scaled by what it holds: copy "
            f"{beside.name} of the run folder to where the model file lies"
        )
        raise DataError(msg)
    return embed.Moments.load(beside)


def _source(name: str) -> str:
    """Return what loads an encoder; the default one comes in a package, not from the hub."""
    return "default" if name == embed.DEFAULT_MODEL else name


def _known_folder(file: str | os.PathLike[str]) -> str | None:
    """Return the folder of the encoder that the run, in whose folder the model file lies, was begun with."""
    path = Path(file)
    record = (path if path.is_dir() else path.parent) / "run.json"
    try:
        name = json.loads(record.read_text(encoding="utf-8"))["settings"]["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) and Path(name).is_dir() else None


def _another(found: Mapping[str, object], made: Mapping[str, object]) -> DataError:
    """Return the error for an encoder that is not the model's, with what tells them apart."""
    differ = [name for name in (*_SETTINGS, "moments") if found.get(name) != made.get(name)]
    here, there = (cast("dict[str, str]", one.get("files") or {}) for one in (found, made))
    differ += sorted(name for name in {*here, *there} if here.get(name) != there.get(name))
    return DataError(
        f"the encoder {found['model']!r} (fingerprint {found['hash']}) is not the one that the model was fitted with, "
        f"{made['model']!r} (fingerprint {made['hash']}); they differ in {', '.join(differ) or 'their settings'}: name "
        "the folder of the right one (--encoder), or fit again with this one"
    )
