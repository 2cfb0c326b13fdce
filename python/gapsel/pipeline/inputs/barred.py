"""The rows of the pool that may not be chosen: found once, and kept in the run folder beside what each list did."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import corpus
from gapsel.files import whole
from gapsel.pipeline.folder.run_folder import sign
from gapsel.pipeline.vectors.sides import has_texts
from gapsel.progress import track
from gapsel.rules import exclude, overlapping

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

    from gapsel.config import Settings
    from gapsel.store import Store

BARRED = "barred.npz"
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
_TABLE_ROWS = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Barred:
    """Rows that may not be chosen, (n,) bool or None where all may, and what each list did, as plain JSON values."""

    flags: NDArray[np.bool_] | None
    said: dict[str, list[dict[str, Any]]]


def lists_hash(settings: Settings) -> str | None:
    """Return a hash of what the lists hold and of how they are read, None where there are none."""
    lists = (settings.exclude, settings.held_out)
    if not any(lists):
        return None
    return sign([corpus.fingerprint(one) if one else None for one in lists], settings.text_field, settings.id_field)


def read_barred(settings: Settings, folder: Path, pool: Store, *, quiet: bool = True) -> Barred:
    """Return the rows that the settings' lists bar, from the run folder where it has them."""
    lists = lists_hash(settings)
    if lists is None:
        return Barred(None, {})
    signature = sign(lists, pool.content, pool.n)
    kept = _kept(folder / BARRED, signature, pool.n)
    if kept is not None:
        return kept
    flags, said = _found(settings, pool, quiet=quiet)
    about = np.array([signature, json.dumps(said)])
    with whole(folder / BARRED) as stream:
        np.savez(stream, allow_pickle=False, about=about, bits=np.packbits(flags))
    return Barred(flags, said)


def tables(pool: Store) -> Iterator[pa.Table]:
    """Yield where all rows of the pool come from, some at a time."""
    for start, stop in zip(pool.starts, pool.starts[1:], strict=False):
        for first in range(int(start), int(stop), _TABLE_ROWS):
            yield pool.table(first, min(first + _TABLE_ROWS, int(stop)))


def _found(
    settings: Settings, pool: Store, *, quiet: bool
) -> tuple[NDArray[np.bool_], dict[str, list[dict[str, Any]]]]:
    """Return the barred rows (n,), and what each list did."""
    flags, said = np.zeros(pool.n, np.bool_), dict[str, list[dict[str, Any]]]()
    if settings.exclude:
        named, excluded = exclude(
            settings.exclude, tables(pool), pool.n, by_text=has_texts(settings, "pool"),
            text_field=settings.text_field, id_field=settings.id_field,
        )  # fmt: skip
        flags |= named
        said["exclude"] = [asdict(one) for one in excluded]
    if settings.held_out:
        with track("held out", pool.n, "documents", enabled=not quiet) as advance:
            shared, found = overlapping(
                settings.held_out, _texts(settings), pool.n, text_field=settings.text_field, advance=advance
            )
        flags |= shared
        said["held_out"] = [asdict(one) for one in found]
    return flags, said


def _texts(settings: Settings) -> Iterator[list[str]]:
    found = corpus.read(settings.pool, text_field=settings.text_field, id_field=settings.id_field)
    return (batch.texts for batch in found)


def _kept(file: Path, signature: str, n: int) -> Barred | None:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            made_by, said = stored["about"].tolist()
            if made_by != signature:
                return None
            return Barred(np.unpackbits(stored["bits"], count=n).astype(np.bool_), json.loads(said))
    except _DAMAGED:
        return None
