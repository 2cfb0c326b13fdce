"""The first door: texts to vectors on disk; ready-made vectors where they lie, or brought there (given.py)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gapsel import corpus, embed, remote, store
from gapsel.config import POOL_WEIGHTS
from gapsel.errors import DataError, UsageError
from gapsel.files import is_leftover
from gapsel.pipeline.vectors.encoding import Given, Here, There, which
from gapsel.pipeline.vectors.given import bring, check, lie_ready
from gapsel.pipeline.vectors.given import look as look_at_heads
from gapsel.pipeline.vectors.making import Maker
from gapsel.pipeline.vectors.moments import moments_of, sample
from gapsel.progress import track
from gapsel.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gapsel.config import Settings
    from gapsel.pipeline.vectors.encoding import Embedder
    from gapsel.store import Store

# Small shards: an interrupted run loses at most one. But the store's list of them is written anew with each, so that a
# pool of more than so many gets larger ones, up to so many times.
_SHARD_ROWS = 8192
_MANY, _TIMES = 4096, 8
_BATCH_ROWS = 2048


def sides(settings: Settings) -> tuple[str, ...]:
    """Return the names of the sides: pool and target, and a base and what is to be avoided where these are given."""
    more = (side for side in ("base", "avoid") if getattr(settings, side) or getattr(settings, f"{side}_vectors"))
    return ("pool", "target", *more)


def called(side: str) -> str:
    """Return what messages call a side."""
    return "what is to be avoided" if side == "avoid" else f"the {side}"


def check_d(side: str, d: int, target: int) -> None:
    """Raise DataError unless a side has vectors of as many dimensions as the target."""
    if d != target:
        msg = (
            f"the vectors of {called(side)} have {d} dimensions, those of the target {target}: embed both with the "
            "same model"
        )
        raise DataError(msg)


def has_texts(settings: Settings, side: str) -> bool:
    """Tell whether a side was given as texts."""
    return bool(getattr(settings, side))


def check_inputs(settings: Settings, folder: Path) -> None:
    """Raise UsageError unless all sides are given, and no run folder lies where its own inputs are looked for."""
    for side in sides(settings):
        texts, vectors = getattr(settings, side), getattr(settings, f"{side}_vectors")
        if not texts and not vectors:
            msg = f"no {side} is given: name its files (--{side}) or its vectors (--{side}-vectors)"
            raise UsageError(msg)
        inside = next((path for path in texts if _holds(path, folder, corpus.sources)), None)
        inside = inside or next((path for path in vectors if _holds(path, folder, store.files)), None)
        if inside is not None:
            msg = (
                f"{folder}: lies in {inside}, and would be read as a part of {called(side)}: name a folder elsewhere "
                "(-o)"
            )
            raise UsageError(msg)
    check_base(settings)


def check_base(settings: Settings) -> None:
    """Raise UsageError for weights that belong to no base, or that a base takes the meaning from."""
    beside = "base" in sides(settings)
    if settings.base_weights is not None and not beside:
        msg = f"base_weights is {settings.base_weights!r}, and there is no base: name its files (--base) too"
        raise UsageError(msg)
    for name in POOL_WEIGHTS if beside else ():
        if getattr(settings, name) is not None:
            msg = (
                f"{name} is {getattr(settings, name)!r}, and there is a base, which has all the weight: leave one of "
                "them out (weights of the base are --base-weights)"
            )
            raise UsageError(msg)


def _holds(path: str, folder: Path, find: Callable[[Sequence[str]], list[str]]) -> bool:
    """Tell whether what a run writes would be found under an input's path: a folder that holds it, a glob that does."""
    where = folder.absolute()
    if remote.is_url(path):
        return False
    if Path(path).is_dir():
        return where.is_relative_to(path)
    return has_magic(path) and any(Path(file).is_relative_to(where) for file in find([path]))


def open_side(settings: Settings, folder: Path, side: str, *, check: bool = True) -> Store:
    """Open the vectors of one side: the store in the run folder, or the ready-made files; ``check`` reads all."""
    if uses_store(settings, side):
        opened = store.open(folder / "vectors" / side)
        for at, file in enumerate(opened.files if check else ()):
            # One after the other, so that what the second reads is still in memory.
            store.verify(opened, at)
            store.check(opened.shards[at : at + 1], name=side, normalize=_normalizes(settings), files=[file])
        return opened
    opened = _mapped(store.files(getattr(settings, f"{side}_vectors")))
    if check:
        _check_vectors(settings, opened, side)
    return opened


def side_files(settings: Settings, folder: Path, side: str) -> list[str]:
    """Return the files that `open_side` reads."""
    if uses_store(settings, side):
        return [str(file) for file in sorted((folder / "vectors" / side).iterdir()) if not is_leftover(file)]
    return store.files(getattr(settings, f"{side}_vectors"))


def uses_store(settings: Settings, side: str) -> bool:
    """Tell whether the vectors of a side are written to the run folder, rather than used where they lie."""
    return has_texts(settings, side) or not lie_ready(store.files(getattr(settings, f"{side}_vectors")))


def _mapped(files: Sequence[str]) -> Store:
    # What float32 cannot hold becomes infinite, which the check of the vectors refuses with the row named.
    with np.errstate(over="ignore"):
        return store.from_vectors(list(files))


def _check_vectors(settings: Settings, vectors: Store, side: str) -> None:
    store.check(vectors.shards, name=side, normalize=_normalizes(settings), files=vectors.files)


def _normalizes(settings: Settings) -> bool:
    return settings.normalize or settings.cost == "cosine"


@dataclass(slots=True)
class Side:
    """What was given for one side, looked at before anything is written: ``rows`` usable rows of ``d`` dimensions.

    ``rejects`` are the texts that cannot be used, None where there are no texts; ``given`` are the files of ready-made
    vectors. d is 0 until an encoder is there to say it. ``sources`` says how many rows come from each file, in order.
    """

    name: str
    rows: int
    d: int
    rejects: corpus.Rejects | None = None
    given: tuple[store.Given, ...] = ()
    sources: dict[str, int] = field(default_factory=dict)


def look_at(settings: Settings, name: str) -> Side:
    """Read a side once, so that bad rows and vectors are known before an hour is spent. Raises DataError for them."""
    files = store.files(getattr(settings, f"{name}_vectors"))
    given = look_at_heads(files, settings.vector_field)
    vectors = sum(one.rows for one in given)
    check(given, normalize=_normalizes(settings))
    if not has_texts(settings, name):
        return Side(name, vectors, given[0].d, given=given, sources={one.source: one.rows for one in given})
    rejects, sources = corpus.Rejects(), Counter[str]()
    for batch in _batches(settings, name, rejects):
        sources[batch.source] += len(batch.ids)
    rows = sources.total()
    if given and vectors != rows:
        msg = (
            f"{name}: {counted(rows, 'usable document')} and {counted(vectors, 'vector')} do not lie row for row "
            f"beside each other: give one vector for each document{_with_the_rejected(rejects)}"
        )
        raise DataError(msg)
    return Side(name, rows, given[0].d if given else 0, rejects, given, sources)


def _with_the_rejected(rejects: corpus.Rejects) -> str:
    """Say, as the end of a sentence, which row has to be repaired first."""
    first = min(rejects.example.values(), default=None, key=lambda one: (one.file, one.line))
    if first is None:
        return ""
    return (
        f", and repair or remove the {rejects.count} that cannot be used, the first of them {first.file} line "
        f"{first.line}: {first.reason}"
    )


def load_encoder(settings: Settings, sides: Sequence[Side]) -> embed.Encoder | None:
    """Load the encoder, where a side needs one, and say its d in the sides that do. Nothing is written yet."""
    needing = [side for side in sides if not side.given]
    if not needing:
        return None
    if settings.features in embed.SCALED and settings.pool_vectors:
        msg = f"{settings.features} features are scaled by the pool's own: give the pool as texts (--pool) alone"
        raise UsageError(msg)
    encoder = embed.load(**which(settings), device=settings.device, threads=settings.threads)
    for side in needing:
        side.d = encoder.dim
    return encoder


def at_work(settings: Settings, folder: Path, sides: Sequence[Side], encoder: embed.Encoder | None) -> Embedder | None:
    """Return who embeds with an encoder; features are scaled as the run folder has it, or will have it from now on."""
    if encoder is None:
        return None
    found = None
    if settings.features in embed.SCALED:
        rows = next(side.rows for side in sides if side.name == "pool")
        found = moments_of(folder, encoder, lambda: sample(_batches(settings, "pool"), rows))
        encoder = embed.scaled(encoder, found)
    return There(encoder, which(settings), settings, found) if settings.on_cluster else Here(encoder)


def maker(settings: Settings, folder: Path, side: Side, encoder: Embedder | None) -> Maker:
    """Return what writes the store of a side that has texts."""
    given = Given(side.given, side.name, normalize=_normalizes(settings)) if side.given else None
    embedder = given or cast("Embedder", encoder)
    return _maker(settings, side.name, folder / "vectors" / side.name, side.rows, embedder)


def pool_maker(settings: Settings, folder: Path, rows: int, embedder: Embedder) -> Maker:
    """Return what writes another store of the pool's texts, which has so many ``rows``."""
    return _maker(settings, "pool", folder, rows, embedder)


def _maker(settings: Settings, name: str, folder: Path, rows: int, embedder: Embedder) -> Maker:
    paths = getattr(settings, name)
    return Maker(
        rows=rows,
        batches=partial(_batches, settings, name),
        about={"input": corpus.fingerprint(paths), "paths": list(paths)},
        embedder=embedder,
        folder=folder,
        shard_rows=shard_rows(rows),
    )


def shard_rows(rows: int) -> int:
    """Return how many documents a shard has, of so many in all."""
    return _SHARD_ROWS * min(max(1, -(-rows // (_SHARD_ROWS * _MANY))), _TIMES)


def write_side(
    settings: Settings, folder: Path, side: Side, encoder: Embedder | None, *, quiet: bool
) -> tuple[dict[str, Any], list[str]]:
    """Write the rejected rows, if it has texts, and the vectors of a side; return its facts and the files written."""
    if not uses_store(settings, side.name):
        return {"rows": side.rows, "d": side.d, "rejected": 0, "tokens": 0}, []
    files = [] if side.rejects is None else [_set_aside(folder, side.name, side.rejects)]
    verb = "bring" if side.given else "embed"
    with track(f"{verb} {side.name}", side.rows, "documents", enabled=not quiet) as advance:
        if side.rejects is None:
            made = _bring(settings, folder, side, advance)
        else:
            made = maker(settings, folder, side, encoder).write(advance)
    rejected = side.rejects.count if side.rejects else 0
    facts = {"rows": made.n, "d": made.d, "rejected": rejected, "tokens": made.tokens()}
    there = sorted((folder / "vectors" / side.name).iterdir())
    return facts, [*files, *(str(file.relative_to(folder)) for file in there if not is_leftover(file))]


def _set_aside(folder: Path, side: str, rejects: corpus.Rejects) -> str:
    """Write the rows of a side that cannot be used, and return the name of the file."""
    name = "rejected.jsonl" if side == "pool" else f"rejected_{side}.jsonl"
    rejects.finish(folder / name)
    return name


def _bring(settings: Settings, folder: Path, side: Side, advance: Callable[[int], None]) -> Store:
    paths = getattr(settings, f"{side.name}_vectors")
    fingerprint = {
        "embedder": {"vectors": "ready-made"},
        "input": corpus.fingerprint_files(corpus.contents(store.files(paths))),
        "paths": list(paths),
    }
    where = folder / "vectors" / side.name
    return bring(side.given, where, fingerprint, normalize=_normalizes(settings), advance=advance)


def _batches(settings: Settings, side: str, rejects: corpus.Rejects | None = None) -> Iterator[corpus.Batch]:
    return corpus.read(
        getattr(settings, side), text_field=settings.text_field, id_field=settings.id_field,
        batch_rows=_BATCH_ROWS, rejects=rejects,
    )  # fmt: skip
