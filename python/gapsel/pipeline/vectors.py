"""The first door: texts to vectors on disk, or ready-made vectors taken as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapsel import corpus, embed, store
from gapsel.errors import DataError, UsageError
from gapsel.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gapsel.config import Settings
    from gapsel.store import Store

# Small shards: an interrupted run loses at most one.
_SHARD_ROWS = 8192
_BATCH_ROWS = 2048
SIDES = ("pool", "target")


def has_texts(settings: Settings, side: str) -> bool:
    """Tell whether a side was given as texts."""
    return bool(getattr(settings, side))


def check_inputs(settings: Settings) -> None:
    """Raise UsageError unless both sides are given, each as texts, as vectors, or both of both kinds alike."""
    for side in SIDES:
        if not getattr(settings, side) and not getattr(settings, f"{side}_vectors"):
            msg = f"no {side} is given: name its files (--{side}) or its vectors (--{side}-vectors)"
            raise UsageError(msg)


def input_fingerprints(settings: Settings) -> dict[str, str]:
    """Return a hash of the contents of each side's input files."""
    found = {}
    for side in SIDES:
        texts, vectors = getattr(settings, side), getattr(settings, f"{side}_vectors")
        if texts:
            found[side] = corpus.fingerprint(texts)
        if vectors:
            found[f"{side}_vectors"] = store.from_vectors(list(vectors)).fingerprint_hex
    return found


def open_side(settings: Settings, folder: Path, side: str) -> Store:
    """Open the vectors of one side: the store in the run folder, or the ready-made files."""
    if has_texts(settings, side):
        return store.open(folder / "vectors" / side)
    return store.from_vectors(list(getattr(settings, f"{side}_vectors")))


def write_sides(settings: Settings, folder: Path, *, quiet: bool) -> dict[str, Any]:
    """Embed what was given as texts; return rows, rejected rows and tokens of each side."""
    counts = {side: _count(settings, folder, side) for side in SIDES if has_texts(settings, side)}
    encoder = None
    if any(not getattr(settings, f"{side}_vectors") for side in counts):
        encoder = embed.load(
            settings.model, pooling=settings.pooling, max_tokens=settings.max_tokens,
            device=settings.device, dtype=settings.dtype, threads=settings.threads,
        )  # fmt: skip
    for side, facts in counts.items():
        made = _Maker(settings, folder, side, encoder)
        with track(f"embed {side}", facts["rows"], "documents", enabled=not quiet) as advance:
            made.write(advance)
    return {side: _facts(settings, folder, side, counts) for side in SIDES}


def _facts(settings: Settings, folder: Path, side: str, counts: dict[str, dict[str, int]]) -> dict[str, Any]:
    opened = open_side(settings, folder, side)
    return {"rows": opened.n, "d": opened.d, "rejected": counts.get(side, {}).get("rejected", 0),
            "tokens": int(opened.tokens().sum())}  # fmt: skip


def _count(settings: Settings, folder: Path, side: str) -> dict[str, int]:
    """Read a side once, so that bad rows are known before an hour is spent, and the progress knows its end."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "rejected.jsonl" if side == "pool" else f"rejected_{side}.jsonl"
    with corpus.Rejects(folder / name) as rejects:
        rows = sum(len(batch.ids) for batch in _batches(settings, side, rejects))
        return {"rows": rows, "rejected": rejects.count}


def _batches(settings: Settings, side: str, rejects: corpus.Rejects | None = None) -> Iterator[corpus.Batch]:
    return corpus.read(
        getattr(settings, side), text_field=settings.text_field, id_field=settings.id_field,
        batch_rows=_BATCH_ROWS, rejects=rejects,
    )  # fmt: skip


class _Maker:
    """Writes the store of one side: texts with the encoder's vectors, or with ready-made ones row for row."""

    def __init__(self, settings: Settings, folder: Path, side: str, encoder: embed.Encoder | None) -> None:
        self._settings = settings
        self._side = side
        given = getattr(settings, f"{side}_vectors")
        self._given = store.from_vectors(list(given)) if given else None
        self._encoder = None if given else encoder
        made_by: dict[str, object] = {"vectors": "ready-made"}
        if self._encoder is not None:
            made_by = self._encoder.fingerprint
        fingerprint = {
            "embedder": made_by,
            "input": corpus.fingerprint(getattr(settings, side)),
            "paths": list(getattr(settings, side)),
        }
        dtype = "float16" if self._given is None else self._given.shards[0].dtype
        self._writer = store.Writer(
            folder / "vectors" / side, fingerprint=fingerprint, shard_rows=_SHARD_ROWS, dtype=dtype
        )

    def write(self, advance: Any) -> None:  # noqa: ANN401 - a callable of one int
        kept = self._writer.keep(self._hashes()) if self._writer.finished_rows else 0
        advance(kept)
        seen = 0
        for batch in _batches(self._settings, self._side):
            skip = min(max(kept - seen, 0), len(batch.ids))
            first, seen = seen + skip, seen + len(batch.ids)
            if skip < len(batch.ids):
                self._append(batch, skip, first, advance)
        if self._given is not None and seen != self._given.n:
            msg = (
                f"{self._side}: {seen} usable documents and {self._given.n} vectors do not lie row for row beside each "
                "other: give one vector for each document, and repair or remove the rejected rows"
            )
            raise DataError(msg)
        self._writer.finish()

    def _hashes(self) -> Iterator[bytes]:
        for batch in _batches(self._settings, self._side):
            yield from map(corpus.text_hash, batch.texts)

    def _append(self, batch: corpus.Batch, skip: int, first: int, advance: Any) -> None:  # noqa: ANN401
        import numpy as np

        from gapsel.potentials import gather

        texts = batch.texts[skip:]
        if self._encoder is not None:
            encoded = self._encoder.encode(texts, advance)
            vectors, tokens = encoded.vectors, encoded.tokens
        else:
            assert self._given is not None
            rows = np.arange(first, min(first + len(texts), self._given.n))
            texts = texts[: len(rows)]
            vectors = gather(self._given.shards, rows)
            tokens = np.zeros(len(rows), np.int32)
        count = len(texts)
        hashes = [corpus.text_hash(text) for text in texts]
        self._writer.append(
            vectors, batch.ids[skip : skip + count], batch.source, batch.rows[skip : skip + count], hashes, tokens
        )
