"""What the inputs of a run are known by: hashes of their files' contents, by which a copy among shards is seen too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapsel import corpus, remote, store
from gapsel.errors import DataError
from gapsel.pipeline.vectors.sides import sides

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gapsel.config import Settings

# The inputs whose files are shards. Two tasks may have the same examples.
_SHARDED = ("pool", "pool_vectors", "base", "base_vectors")
# A file of these formats may be one document, and documents may occur twice.
_DOCUMENTS = ("txt", "json")


def input_files(settings: Settings) -> list[str]:
    """Return the files of all inputs."""
    return [file for files in _by_input(settings).values() for file in files]


def input_fingerprints(settings: Settings) -> dict[str, str]:
    """Return a hash of the contents of each input's files. Raises DataError for a shard that is a copy of another."""
    found = {}
    for name, files in _by_input(settings).items():
        contents = corpus.contents(files)
        if name in _SHARDED:
            _check_unlike(contents, None if name.endswith("_vectors") else settings)
        found[name] = corpus.fingerprint_files(contents)
    return found


def _by_input(settings: Settings) -> dict[str, list[str]]:
    """Return the files of each input, by the name of its setting."""
    found: dict[str, list[str]] = {}
    for side in sides(settings):
        texts, vectors = getattr(settings, side), getattr(settings, f"{side}_vectors")
        found |= {side: corpus.sources(texts)} if texts else {}
        found |= {f"{side}_vectors": store.files(vectors)} if vectors else {}
    return found


def _check_unlike(contents: Mapping[str, str], texts: Settings | None) -> None:
    """Raise DataError where a file that lies here has the bytes, and so the rows, of one before it.

    ``texts`` says how texts are read; None means vectors.
    """
    first: dict[str, str] = {}
    for file, content in contents.items():
        other = first.setdefault(content, file)
        if other != file and not remote.is_url(file) and (texts is None or _has_rows(file, texts)):
            msg = f"{file}: is a copy of {other}: its rows would count double; fetch the right file, or remove it"
            raise DataError(msg)


def _has_rows(file: str, settings: Settings) -> bool:
    """Tell whether a file is a shard with rows; what writes shards writes empty ones too, and these are all alike."""
    if corpus.kind_of(file) in _DOCUMENTS:
        return False
    fields = corpus.Fields(settings.text_field, settings.id_field)
    return next(corpus.source_rows(file, fields), None) is not None
