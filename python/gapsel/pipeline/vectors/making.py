"""Documents to the store of their side: in one go, or shard by shard in parts that others may write.

A part is a store of one shard in a folder of its own, vectors/pool.parts/00003, by which several tasks can embed one
pool. Whoever writes the whole store embeds what is missing of the parts, and takes them over.
"""

from __future__ import annotations

import shutil
from collections import deque
from typing import TYPE_CHECKING

from gapsel import corpus, store
from gapsel.pipeline.vectors.encoding import Piece

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gapsel.embed import Encoded
    from gapsel.pipeline.vectors.encoding import Embedder


class Maker:
    """Writes the store of a side of ``rows`` documents.

    ``batches`` reads the documents anew, ``about`` says what they are; ``folder`` is the store's.
    """

    def __init__(
        self,
        *,
        rows: int,
        batches: Callable[[], Iterator[corpus.Batch]],
        about: Mapping[str, object],
        embedder: Embedder,
        folder: Path,
        shard_rows: int,
    ) -> None:
        self._rows, self._batches, self._embedder, self._shard_rows = rows, batches, embedder, shard_rows
        self._fingerprint = {"embedder": embedder.fingerprint, **about}
        self._folder, self._parts = folder, folder.with_name(f"{folder.name}.parts")

    @property
    def shards(self) -> range:
        """The numbers of all shards."""
        return range(-(-self._rows // self._shard_rows))

    def write(self, advance: Callable[[int], None]) -> store.Store:
        """Write the store, or what is missing of it."""
        writer = self._writer(self._folder)
        kept = writer.keep(self._hashes()) if writer.finished_rows else 0
        if self._parts.exists():
            missing = self.missing(self.shards[-(-kept // self._shard_rows) :])
            self.write_parts(missing, advance)
            kept = writer.adopt(self._parts)
            shutil.rmtree(self._parts)
            advance(max(0, kept - self.rows_of(missing)))
        else:
            advance(kept)
        left = range(kept, self._rows)
        for piece, encoded in self._encoded([left], _at_most(len(left), advance)):
            _append(writer, piece, encoded, left)
        return writer.finish()

    def missing(self, shards: Sequence[int]) -> list[int]:
        """Return those of some shards that neither the store nor a part holds, of these documents and this embedder."""
        there = self._writer(self._folder).finished_rows
        return [shard for shard in shards if self._span(shard).stop > there and not self._has_part(shard)]

    def rows_of(self, shards: Sequence[int]) -> int:
        """Return how many documents some shards have."""
        return sum(len(self._span(shard)) for shard in shards)

    def write_parts(self, shards: Sequence[int], advance: Callable[[int], None]) -> None:
        """Write the parts of some shards, which ascend."""
        writers = {shard: self._writer(self._part(shard)) for shard in shards}
        spans = [self._span(shard) for shard in shards]
        for piece, encoded in self._encoded(spans, _at_most(self.rows_of(shards), advance)):
            touched = range(piece.first // self._shard_rows, -(-piece.stop // self._shard_rows))
            for shard in writers.keys() & set(touched):
                _append(writers[shard], piece, encoded, self._span(shard))
                if self._span(shard).stop <= piece.stop:
                    writers.pop(shard).finish()

    def discard_parts(self, shards: Iterable[int]) -> None:
        """Delete the parts of some shards."""
        for shard in shards:
            shutil.rmtree(self._part(shard), ignore_errors=True)

    def _has_part(self, shard: int) -> bool:
        return self._writer(self._part(shard)).finished_rows == len(self._span(shard))

    def _encoded(self, wanted: Sequence[range], advance: Callable[[int], None]) -> Iterator[tuple[Piece, Encoded]]:
        """Embed the batches that hold wanted rows; always whole ones, see Embedder."""
        return self._embedder.encoded(self._pieces(wanted), advance)

    def _pieces(self, wanted: Sequence[range]) -> Iterator[Piece]:
        first, coming = 0, deque(wanted)
        for batch in self._batches():
            piece = Piece(batch, first)
            first = piece.stop
            while coming and coming[0].stop <= piece.first:
                coming.popleft()
            if not coming:
                return
            if coming[0].start < piece.stop:
                yield piece

    def _hashes(self) -> Iterator[bytes]:
        for batch in self._batches():
            yield from map(corpus.text_hash, batch.texts)

    def _span(self, shard: int) -> range:
        return range(shard * self._shard_rows, min((shard + 1) * self._shard_rows, self._rows))

    def _part(self, shard: int) -> Path:
        return self._parts / f"{shard:05d}"

    def _writer(self, folder: Path) -> store.Writer:
        embedder = self._embedder
        return store.Writer(
            folder, fingerprint=self._fingerprint, shard_rows=self._shard_rows, dtype=embedder.stored_dtype
        )


def _at_most(count: int, advance: Callable[[int], None]) -> Callable[[int], None]:
    """Advance by what is told, but not beyond ``count`` in all: batches come whole, with rows that are not wanted."""
    left = count

    def told(done: int) -> None:
        nonlocal left
        step = min(done, left)
        left -= step
        advance(step)

    return told


def _append(writer: store.Writer, piece: Piece, encoded: Encoded, wanted: range) -> None:
    """Add the rows of a piece that are wanted to a store."""
    own = slice(max(wanted.start, piece.first) - piece.first, min(wanted.stop, piece.stop) - piece.first)
    batch = piece.batch
    hashes = [corpus.text_hash(text) for text in batch.texts[own]]
    vectors, tokens = encoded.vectors[own], encoded.tokens[own]
    writer.append(vectors, batch.ids[own], batch.source, batch.rows[own], hashes, tokens)
