"""Which files a path means, how they are opened, and the fingerprint of them all.

A path is a file, a folder, a glob, or a Hugging Face `datasets` folder. What it expands to is a list of sources: single
files of a known format, in sorted order. A Hugging Face folder stands for the Arrow files that its state.json lists,
since other Arrow files in it are caches.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import pyarrow as pa

from gapsel.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Kind = Literal["jsonl", "json", "csv", "tsv", "txt", "parquet", "arrow"]
KINDS: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "txt",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
TABLES: tuple[Kind, ...] = ("parquet", "arrow")
CODECS = {".gz": "gzip", ".zst": "zstd"}
CHUNK = 1 << 20


def sources(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return the files that the paths mean, each once: paths in the given order, what a folder or glob holds sorted.

    Raises DataError for a path that does not exist, holds nothing readable, or has an unknown extension.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    found: dict[str, None] = {}
    for path in paths:
        found.update(dict.fromkeys(_expand(str(Path(path).expanduser()))))
    if not found:
        msg = "no input: name a file, a folder, a glob or a Hugging Face datasets folder"
        raise DataError(msg)
    return list(found)


def kind_of(path: str) -> Kind | None:
    """Return the format of a file by its extension, None if it is unknown."""
    stem, extension = os.path.splitext(path.lower())
    if extension not in CODECS:
        return KINDS.get(extension)
    kind = KINDS.get(os.path.splitext(stem)[1])
    return None if kind in TABLES else kind


def fingerprint(paths: Sequence[str | os.PathLike[str]]) -> str:
    """Return a hash (32 hex digits) of the names, sizes and contents of the inputs.

    Names are relative to the folder that the files share, so that a copy elsewhere has the same fingerprint.
    Raises DataError as `sources` does, and for a file that cannot be read.
    """
    files = sources(paths)
    root = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files])
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        name = Path(os.path.relpath(os.path.abspath(file), root)).as_posix()
        digest.update(json.dumps([name, _size(file)]).encode())
        for chunk in _chunks(file):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def reading(source: str) -> Iterator[None]:
    """Turn what goes wrong while a file is read into a DataError that names it and what to do."""
    try:
        yield
    except FileNotFoundError as error:
        msg = f"{source}: there is no such file: check the path"
        raise DataError(msg) from error
    except PermissionError as error:
        msg = f"{source}: permission to read it is denied: change its mode (chmod +r) or owner"
        raise DataError(msg) from error
    except (OSError, pa.ArrowException) as error:
        msg = f"{source}: cannot be read ({_one_line(error)}): the file is damaged or cut short, fetch it again"
        raise DataError(msg) from error


@contextmanager
def open_stream(source: str) -> Iterator[io.BufferedReader]:
    """Open a file for binary reading, decompressed on the way if its name ends in .gz or .zst."""
    codec = CODECS.get(os.path.splitext(source.lower())[1])
    with io.BufferedReader(pa.input_stream(source, compression=codec), CHUNK) as stream:
        yield stream


def _expand(path: str) -> Iterable[str]:
    """Return the files that one path means."""
    if os.path.isdir(path):
        return _nonempty(_folder(path), path)
    if os.path.exists(path) or not glob.has_magic(path):
        return [_known(path)]
    matches = sorted(glob.glob(path, recursive=True))
    if not matches:
        msg = f"{path}: nothing matches: check the pattern, and quote it so that the shell does not expand it"
        raise DataError(msg)
    return _nonempty(_all_of(matches), path)


def _all_of(paths: Iterable[str]) -> list[str]:
    """Return the files of known formats among the paths and in the folders among them."""
    files: list[str] = []
    for path in paths:
        if os.path.isdir(path):
            files += _folder(path)
        elif kind_of(path):
            files.append(path)
    return files


def _folder(folder: str) -> list[str]:
    """Return the files of known formats in a folder and below, without hidden ones."""
    if os.path.isfile(os.path.join(folder, "dataset_dict.json")):
        return _split_of(folder)
    if all(os.path.isfile(os.path.join(folder, name)) for name in ("dataset_info.json", "state.json")):
        return _hugging_face(folder)
    with reading(folder):
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    return _all_of(os.path.join(folder, name) for name in names)


def _hugging_face(folder: str) -> list[str]:
    """Return the Arrow files of a dataset written by ``save_to_disk``, in its own order."""
    state = _load_object(os.path.join(folder, "state.json"))
    try:
        names = [str(entry["filename"]) for entry in state["_data_files"]]  # type: ignore[attr-defined]
    except (KeyError, TypeError) as error:
        msg = f"{folder}/state.json: lists no _data_files: save the dataset again with save_to_disk"
        raise DataError(msg) from error
    return [_known(os.path.join(folder, name)) for name in names]


def _split_of(folder: str) -> list[str]:
    """Return the files of the only split of a saved DatasetDict; which of several is the user's to say."""
    splits = _load_object(os.path.join(folder, "dataset_dict.json")).get("splits")
    names = [str(name) for name in splits] if isinstance(splits, list) else []
    if len(names) == 1:
        return _folder(os.path.join(folder, names[0]))
    choices = ", ".join(os.path.join(folder, name) for name in names)
    msg = f"{folder}: is a DatasetDict of {len(names)} splits: name one of them ({choices})"
    raise DataError(msg)


def _load_object(path: str) -> dict[str, object]:
    """Load a small JSON file that describes a dataset."""
    try:
        with reading(path):
            value = json.loads(Path(path).read_bytes())
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        msg = f"{path}: is not JSON ({error}): save the dataset again with save_to_disk"
        raise DataError(msg) from error
    return value if isinstance(value, dict) else {}


def _known(path: str) -> str:
    """Return the path of one file if it is there and of a known format."""
    if not os.path.exists(path):
        msg = f"{path}: there is no such file or folder: check the path"
        raise DataError(msg)
    if not kind_of(path):
        known = " ".join(KINDS)
        msg = (
            f"{path}: the extension is unknown: gapsel reads {known} (text formats also with .gz or .zst after it): "
            "rename or convert the file"
        )
        raise DataError(msg)
    return path


def _nonempty(files: list[str], path: str) -> list[str]:
    """Return the files, or raise if there is none."""
    if not files:
        msg = f"{path}: holds no file that gapsel reads ({' '.join(KINDS)}, plain, .gz or .zst): check the path"
        raise DataError(msg)
    return files


def _size(file: str) -> int:
    with reading(file):
        return os.path.getsize(file)


def _chunks(file: str) -> Iterator[bytes]:
    """Yield the bytes of a file as they lie on the disk."""
    with reading(file), open(file, "rb") as stream:
        yield from _until_empty(stream)


def _until_empty(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk


def _one_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
