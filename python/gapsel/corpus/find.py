"""Which files a path means, how they are opened, and the fingerprint of them all.

A path is a file, a folder, a glob, or a Hugging Face `datasets` folder; or the URL of a file, folder or glob elsewhere.
What it expands to is a list of sources: single files of a known format, in sorted order. A Hugging Face folder stands
for the Arrow files that its state.json lists, since other Arrow files in it are caches.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import pyarrow as pa

from gapsel import files, remote
from gapsel.errors import DataError
from gapsel.files import check_complete, is_loop, shown_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

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
P = TypeVar("P", str, Path)
TABLES: tuple[Kind, ...] = ("parquet", "arrow")
CODECS = {".gz": "gzip", ".zst": "zstd"}
_VECTORS = (".npy", ".npz", ".safetensors", ".pt")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
CHUNK = 1 << 20


def sources(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return the files that the paths mean, each once: paths in the given order, what a folder or glob holds sorted.

    Raises DataError for a path that does not exist, holds nothing readable, or has an unknown extension.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    found: dict[str, None] = {}
    for path in paths:
        found.update(dict.fromkeys(_elsewhere(str(path)) if remote.is_url(str(path)) else _here(path)))
    if not found:
        msg = "no input: name a file, a folder, a glob or a Hugging Face datasets folder"
        raise DataError(msg)
    return list(found)


def kind_of(path: str | Path) -> Kind | None:
    """Return the format of a file by its extension, None if it is unknown."""
    path = Path(remote.name_of(str(path)).lower())
    if path.suffix not in CODECS:
        return KINDS.get(path.suffix)
    kind = KINDS.get(path.with_suffix("").suffix)
    return None if kind in TABLES else kind


def fingerprint(paths: Sequence[str | os.PathLike[str]]) -> str:
    """Return a hash (32 hex digits) of the names and contents of the inputs, as fingerprint_files does.

    Raises DataError as `sources` does, and for a file that cannot be read.
    """
    return fingerprint_files(contents(sources(paths)))


def fingerprint_files(found: Mapping[str, str]) -> str:
    """Return a hash (32 hex digits) of the names and `contents` of files.

    Names are relative to the folder that the files share, so that a copy elsewhere has the same fingerprint.
    """
    here = {file: Path(os.path.abspath(file)) for file in found if not remote.is_url(file)}  # noqa: PTH100 - resolve() would follow links
    root = os.path.commonpath([file.parent for file in here.values()]) if here else ""
    named = [[here[file].relative_to(root).as_posix() if file in here else file, found[file]] for file in found]
    return hashlib.blake2b(json.dumps(named).encode(), digest_size=16).hexdigest()


def contents(files: Iterable[str]) -> dict[str, str]:
    """Return a hash (32 hex digits) of the contents of each file.

    Of a URL it is one of what the store says of the file (etag, size, time of change), where that says enough.
    Raises DataError for a file that cannot be read.
    """
    return {file: remote.tag(file) if remote.is_url(file) else _content(file) for file in files}


def _content(file: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with reading(file):
        for chunk in _chunks(Path(file)):
            digest.update(chunk)
    return digest.hexdigest()


def reading(source: str) -> AbstractContextManager[None]:
    """Turn what goes wrong while a file is read into a DataError that names it and what to do."""
    return files.reading(source, (pa.ArrowException,), "the file is damaged or cut short, fetch it again")


@contextmanager
def open_stream(source: str) -> Iterator[io.BufferedReader]:
    """Open a file for binary reading, decompressed on the way if its name ends in .gz or .zst.

    Raises DataError for UTF-16, which its first two bytes tell.
    """
    codec = CODECS.get(Path(remote.name_of(source).lower()).suffix)
    there = remote.opened(source) if remote.is_url(source) else source
    with io.BufferedReader(pa.input_stream(there, compression=codec), CHUNK) as stream:
        if stream.peek(2).startswith(_UTF_16):
            msg = f"{source}: is UTF-16: convert it to UTF-8 (iconv -f UTF-16 -t UTF-8 FILE > NEW)"
            raise DataError(msg)
        yield stream


def _here(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the files that a path means."""
    text = str(path)
    return (str(file) for file in _expand(Path(text.removeprefix("file://")).expanduser()))


def _elsewhere(url: str) -> list[str]:
    """Return the URLs of the files that a URL means."""
    files, is_one = remote.expand(url)
    if is_one:
        return [_known_kind(files[0])]
    if any(file.endswith("/state.json") for file in files):
        msg = f"{url}: is a folder saved by `datasets`, whose caches are not told apart by URL: name its .arrow files"
        raise DataError(msg)
    found = _nonempty([file for file in files if kind_of(file)], url)
    if not glob.has_magic(url):
        check_complete(found, url)
    return found


def _expand(path: Path) -> list[Path]:
    """Return the files that one path means."""
    if path.is_dir():
        files = _nonempty(_folder(path), path)
        check_complete(map(str, files), str(path))
        return files
    if path.exists() or not glob.has_magic(str(path)):
        return [_known(path)]
    matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not matches:
        msg = f"{path}: nothing matches: check the pattern, and quote it so that the shell does not expand it"
        raise DataError(msg)
    return _nonempty(_all_of(map(Path, matches)), path)


def _all_of(paths: Iterable[Path]) -> list[Path]:
    """Return the files of known formats among the paths and in the folders among them."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += [] if is_loop(path) else _folder(path)
        elif kind_of(path):
            files.append(path)
    return files


def _folder(folder: Path) -> list[Path]:
    """Return the files of known formats in a folder and below, without hidden ones."""
    if (folder / "dataset_dict.json").is_file():
        return _split_of(folder)
    if all((folder / name).is_file() for name in ("dataset_info.json", "state.json")):
        return _hugging_face(folder)
    with reading(str(folder)):
        inside = shown_in(folder)
    return _all_of(inside)


def _hugging_face(folder: Path) -> list[Path]:
    """Return the Arrow files of a dataset written by ``save_to_disk``, in its own order."""
    listed = _load_object(folder / "state.json").get("_data_files")
    names = [entry.get("filename") for entry in listed] if isinstance(listed, list) else []
    if not names or not all(isinstance(name, str) for name in names):
        msg = f"{folder}/state.json: lists no _data_files: save the dataset again with save_to_disk"
        raise DataError(msg)
    return [_known(folder / name) for name in names]


def _split_of(folder: Path) -> list[Path]:
    """Return the files of the only split of a saved DatasetDict; which of several is the user's to say."""
    splits = _load_object(folder / "dataset_dict.json").get("splits")
    found = [folder / str(name) for name in splits] if isinstance(splits, list) else []
    if len(found) == 1:
        return _folder(found[0])
    msg = f"{folder}: is a DatasetDict of {len(found)} splits: name one of them ({', '.join(map(str, found))})"
    raise DataError(msg)


def _load_object(path: Path) -> dict[str, object]:
    """Load a small JSON file that describes a dataset."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read as JSON ({error}): save the dataset again with save_to_disk"
        raise DataError(msg) from error
    return value if isinstance(value, dict) else {}


def _known(path: Path) -> Path:
    """Return the path of one file if it is there and of a known format."""
    if not path.exists():
        msg = f"{path}: there is no such file or folder: check the path"
        raise DataError(msg)
    return _known_kind(path)


def _known_kind(path: P) -> P:
    """Return the path or URL of a file if it is of a known format."""
    if not kind_of(path):
        if Path(remote.name_of(str(path)).lower()).suffix in _VECTORS:
            msg = f"{path}: holds vectors and not texts: name it with --pool-vectors, --target-vectors and the like"
            raise DataError(msg)
        known = " ".join(KINDS)
        msg = (
            f"{path}: the extension is unknown: gapsel reads {known} (text formats also with .gz or .zst after it): "
            "rename or convert the file"
        )
        raise DataError(msg)
    return path


def _nonempty(files: list[P], path: P) -> list[P]:
    """Return the files, or raise if there is none."""
    if not files:
        msg = f"{path}: holds no file that gapsel reads ({' '.join(KINDS)}, plain, .gz or .zst): check the path"
        raise DataError(msg)
    return files


def _chunks(file: Path) -> Iterator[bytes]:
    """Yield the bytes of a file as they lie on the disk."""
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk
