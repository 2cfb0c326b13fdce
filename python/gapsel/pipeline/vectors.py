"""The first door: texts to vectors on disk, or ready-made vectors taken as they are."""

from __future__ import annotations

from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gapsel import corpus, embed, store
from gapsel.errors import DataError, UsageError
from gapsel.files import is_leftover
from gapsel.pipeline.ahead import ahead
from gapsel.potentials import gather
from gapsel.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from gapsel.config import Settings
    from gapsel.store import Store

# Small shards: an interrupted run loses at most one.
_SHARD_ROWS = 8192
_BATCH_ROWS = 2048
SIDES = ("pool", "target")


def has_texts(settings: Settings, side: str) -> bool:
    """Tell whether a side was given as texts."""
    return bool(getattr(settings, side))


def check_inputs(settings: Settings, folder: Path) -> None:
    """Raise UsageError unless both sides are given, and no run folder lies where its own inputs are looked for."""
    for side in SIDES:
        texts, vectors = getattr(settings, side), getattr(settings, f"{side}_vectors")
        if not texts and not vectors:
            msg = f"no {side} is given: name its files (--{side}) or its vectors (--{side}-vectors)"
            raise UsageError(msg)
        inside = next((path for path in texts if _holds(path, folder)), None)
        if inside is not None:
            msg = f"{folder}: lies in {inside}, and would be read as a part of the {side}: name a folder elsewhere (-o)"
            raise UsageError(msg)


def _holds(path: str, folder: Path) -> bool:
    """Tell whether what a run writes would be found under an input's path: a folder that holds it, a glob that does."""
    where = folder.absolute()
    if Path(path).is_dir():
        return where.is_relative_to(path)
    return has_magic(path) and any(Path(file).is_relative_to(where) for file in corpus.sources([path]))


def input_fingerprints(settings: Settings) -> dict[str, str]:
    """Return a hash of the contents of each side's input files."""
    found = {}
    for side in SIDES:
        texts, vectors = getattr(settings, side), getattr(settings, f"{side}_vectors")
        if texts:
            found[side] = corpus.fingerprint(texts)
        if vectors:
            found[f"{side}_vectors"] = _ready_made(vectors).fingerprint_hex
    return found


def open_side(settings: Settings, folder: Path, side: str) -> Store:
    """Open the vectors of one side: the store in the run folder, or the ready-made files; all of them are checked."""
    if has_texts(settings, side):
        opened = store.open(folder / "vectors" / side)
    else:
        opened = _ready_made(getattr(settings, f"{side}_vectors"))
    _check_vectors(settings, opened, side)
    return opened


def _ready_made(paths: Sequence[str]) -> Store:
    # What float32 cannot hold becomes infinite, which the check of the vectors refuses with the row named.
    with np.errstate(over="ignore"):
        return store.from_vectors(list(paths))


def _check_vectors(settings: Settings, vectors: Store, side: str) -> None:
    normalize = settings.normalize or settings.cost == "cosine"
    store.check(vectors.shards, name=side, normalize=normalize, files=vectors.files)


@dataclass(slots=True)
class Side:
    """What was given for one side, looked at before anything is written: ``rows`` usable rows of ``d`` dimensions.

    ``rejects`` are the texts that cannot be used, None where there are no texts; ``vectors`` what is ready-made. d is 0
    until an encoder is there to say it.
    """

    name: str
    rows: int
    d: int
    rejects: corpus.Rejects | None = None
    vectors: Store | None = None


def look_at(settings: Settings, name: str) -> Side:
    """Read a side once, so that bad rows and vectors are known before an hour is spent. Raises DataError for them."""
    given = getattr(settings, f"{name}_vectors")
    vectors = _ready_made(given) if given else None
    if vectors is not None:
        _check_vectors(settings, vectors, name)
        if not has_texts(settings, name):
            return Side(name, vectors.n, vectors.d, vectors=vectors)
    rejects = corpus.Rejects()
    rows = sum(len(batch.ids) for batch in _batches(settings, name, rejects))
    if vectors is not None and vectors.n != rows:
        msg = (
            f"{name}: {rows} usable documents and {vectors.n} vectors do not lie row for row beside each other: give "
            f"one vector for each document{', and repair or remove the rejected rows' if rejects.count else ''}"
        )
        raise DataError(msg)
    return Side(name, rows, 0 if vectors is None else vectors.d, rejects, vectors)


def load_encoder(settings: Settings, sides: Sequence[Side]) -> embed.Encoder | None:
    """Load the encoder, where a side needs one, and say its d in the sides that do."""
    needing = [side for side in sides if side.vectors is None]
    if not needing:
        return None
    encoder = embed.load(
        settings.model, pooling=settings.pooling, max_tokens=settings.max_tokens,
        device=settings.device, dtype=settings.dtype, threads=settings.threads,
    )  # fmt: skip
    for side in needing:
        side.d = encoder.dim
    return encoder


def write_side(
    settings: Settings, folder: Path, side: Side, encoder: embed.Encoder | None, *, quiet: bool
) -> tuple[dict[str, Any], list[str]]:
    """Write the rejected rows and the vectors of a side, if it has texts; return its facts and the files written."""
    if side.rejects is None:
        return {"rows": side.rows, "d": side.d, "rejected": 0, "tokens": 0}, []
    rejected = "rejected.jsonl" if side.name == "pool" else f"rejected_{side.name}.jsonl"
    side.rejects.finish(folder / rejected)
    with track(f"embed {side.name}", side.rows, "documents", enabled=not quiet) as advance:
        made = _Maker(settings, folder, side, encoder).write(advance)
    facts = {"rows": made.n, "d": made.d, "rejected": side.rejects.count, "tokens": made.tokens()}
    there = sorted((folder / "vectors" / side.name).iterdir())
    return facts, [rejected, *(str(file.relative_to(folder)) for file in there if not is_leftover(file))]


def _batches(settings: Settings, side: str, rejects: corpus.Rejects | None = None) -> Iterator[corpus.Batch]:
    return corpus.read(
        getattr(settings, side), text_field=settings.text_field, id_field=settings.id_field,
        batch_rows=_BATCH_ROWS, rejects=rejects,
    )  # fmt: skip


class _Maker:
    """Writes the store of one side: texts with the encoder's vectors, or with ready-made ones row for row."""

    def __init__(self, settings: Settings, folder: Path, side: Side, encoder: embed.Encoder | None) -> None:
        self._settings = settings
        self._side = side
        self._encoder = encoder if side.vectors is None else None
        paths = getattr(settings, side.name)
        fingerprint = {
            "embedder": {"vectors": "ready-made"} if self._encoder is None else self._encoder.fingerprint,
            "input": corpus.fingerprint(paths),
            "paths": list(paths),
        }
        dtype = "float16" if side.vectors is None else np.result_type(*(one.dtype for one in side.vectors.shards))
        self._writer = store.Writer(
            folder / "vectors" / side.name, fingerprint=fingerprint, shard_rows=_SHARD_ROWS, dtype=dtype
        )

    def write(self, advance: Callable[[int], None]) -> Store:
        kept = self._writer.keep(self._hashes()) if self._writer.finished_rows else 0
        advance(kept)
        for piece in ahead(self._pieces(kept)):
            self._append(piece, advance)
        return self._writer.finish()

    def _pieces(self, kept: int) -> Iterator[_Piece]:
        """Read the documents after the first ``kept``; the batch that these end in comes whole."""
        seen = 0
        for batch in _batches(self._settings, self._side.name):
            skip = min(max(kept - seen, 0), len(batch.ids))
            if skip < len(batch.ids):
                tokenized = None if self._encoder is None else self._encoder.tokenize(batch.texts)
                yield _Piece(batch, seen, skip, tokenized)
            seen += len(batch.ids)

    def _hashes(self) -> Iterator[bytes]:
        for batch in _batches(self._settings, self._side.name):
            yield from map(corpus.text_hash, batch.texts)

    def _append(self, piece: _Piece, advance: Callable[[int], None]) -> None:
        """Add the documents of a piece, but for those to skip."""
        batch, skip = piece.batch, piece.skip
        vectors, tokens = self._vectors(piece, advance if not skip else lambda _count: None)
        if skip or self._encoder is None:
            advance(len(batch.texts) - skip)
        hashes = [corpus.text_hash(text) for text in batch.texts[skip:]]
        self._writer.append(vectors[skip:], batch.ids[skip:], batch.source, batch.rows[skip:], hashes, tokens[skip:])

    def _vectors(self, piece: _Piece, advance: Callable[[int], None]) -> tuple[NDArray[np.floating], NDArray[np.int32]]:
        # Always of the whole batch: what a document is padded with can change its last bit, and a run that was stopped
        # ends with the bits of one that was not.
        given, count = self._side.vectors, len(piece.batch.texts)
        if given is not None:
            return gather(given.shards, np.arange(piece.first, piece.first + count)), np.zeros(count, np.int32)
        encoder, tokenized = cast("embed.Encoder", self._encoder), cast("embed.Tokenized", piece.tokenized)
        encoded = encoder.forward(tokenized, advance)
        return encoded.vectors, encoded.tokens


@dataclass(frozen=True, slots=True)
class _Piece:
    """A batch that begins at row ``first`` of its side, how many of its documents are there already, its token ids."""

    batch: corpus.Batch
    first: int
    skip: int
    tokenized: embed.Tokenized | None
