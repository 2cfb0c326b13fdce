"""Which files of vectors a path means: a file, a folder or a glob, here or by URL."""

from __future__ import annotations

from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING

from gapsel import remote
from gapsel.errors import DataError
from gapsel.files import check_complete, is_loop, shown_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

KINDS = (".npy", ".parquet")
# Counted in folders and globs that hold none of those: texts lie beside vectors as well.
_LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst")


def files(paths: Sequence[str]) -> list[str]:
    """Return the files that the paths mean: files, and in sorted order what folders and globs hold; here or by URL.

    Raises DataError where nothing is there, and for a file that is named twice.
    """
    found = [file for path in paths for file in _expand(path)]
    seen: set[str] = set()
    for file in found:
        if file in seen:
            msg = f"{file}: is named twice: its rows would count double; name it once"
            raise DataError(msg)
        seen.add(file)
    return found


def _expand(path: str) -> list[str]:
    if remote.is_url(path):
        found, is_one = remote.expand(path)
        return found if is_one else _known(found, path)
    if Path(path).is_dir():
        return _known(list(map(str, _below(shown_in(Path(path))))), path)
    if has_magic(path) and not Path(path).exists():
        found = sorted(glob(path, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        return _known(list(dict.fromkeys(map(str, _below(map(Path, found))))), path)
    return [path]


def _below(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files among the paths and in the folders among them, in the order in which texts are read."""
    for path in paths:
        if not path.is_dir():
            yield path
        elif not is_loop(path):
            yield from _below(shown_in(path))


def _known(names: list[str], path: str) -> list[str]:
    found = next(filter(None, (_ending(names, kinds) for kinds in (KINDS, _LINES))), [])
    if not has_magic(path):
        check_complete(found, path)
    if not found:
        msg = f"{path}: holds no file of vectors ({', '.join((*KINDS, *_LINES[:1]))}): check the path"
        raise DataError(msg)
    return found


def _ending(names: Sequence[str], kinds: tuple[str, ...]) -> list[str]:
    return [name for name in names if remote.name_of(name).lower().endswith(kinds)]
