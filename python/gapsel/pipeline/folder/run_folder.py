"""The run folder and its record, run.json: settings, inputs, versions, and which steps are done.

A step is done when its signature, a hash of the settings it depends on and of the step before it, stands in the
record. What is done is not done again; what depends on a changed setting is. The record is rewritten whole after each
step, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import platform
import re
import resource
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

from gapsel import __version__
from gapsel.config import STEPS, STUDIES, WITHOUT_EFFECT, Settings
from gapsel.errors import DataError, ResourceError, UsageError
from gapsel.files import is_leftover, write_json
from gapsel.findings import made_of
from gapsel.pipeline.folder.lock import is_lock
from gapsel.pipeline.folder.results import discard_after

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_Record = TypeVar("_Record")
RECORD = "run.json"
_PACKAGES = ("numpy", "pyarrow", "safetensors", "torch", "transformers")


@dataclass(slots=True)
class RunFolder:
    """One run folder with its settings and its record."""

    path: Path
    settings: Settings
    record: dict[str, Any]

    @classmethod
    def begin(cls, path: Path, settings: Settings, door: str) -> RunFolder:
        """Start a run in a new or empty folder, or take up the same run again.

        The door "embed" knows nothing of later steps, and takes their settings as they are in the folder.
        Raises UsageError, and touches nothing, where the folder holds another run.
        """
        if not (path / RECORD).exists():
            return cls(path, settings, _new_record(settings))
        there = cls.open(path)
        if door == "embed":
            own = {name: getattr(settings, name) for name in (*settings.of(door), *WITHOUT_EFFECT)}
            settings = dataclasses.replace(there.settings, **own)
        if settings.of("report") == there.told:
            settings = dataclasses.replace(settings, **{name: getattr(there.settings, name) for name in there.told})
        differs = _difference(there.settings, settings, there.record["steps"])
        if differs:
            old, new = getattr(there.settings, differs), getattr(settings, differs)
            msg = (
                f"{path}: holds another run, with {differs} {_show(old)} where this one has {_show(new)}: name a new "
                f"folder (-o){_change(differs)}"
            )
            raise UsageError(msg)
        return cls(path, settings, there.record)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open a folder that a run was started in. Raises DataError where it is none."""
        check_begun(path)
        file = path / RECORD
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            settings = Settings.from_json(record["settings"])
            more = (record.get(name, {}) for name in ("stamps", "compared"))
            sound = all(isinstance(facts, dict) for facts in (*record["steps"].values(), *more))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            msg = f"{file}: is no record of a run ({error}): repair it, or start in a new folder"
            raise DataError(msg) from error
        if not sound:
            msg = f"{file}: is no record of a run (its steps are not objects): repair it, or start in a new folder"
            raise DataError(msg)
        return cls(path, settings, record)

    @property
    def told(self) -> dict[str, Any]:
        """What the run was told of its report: as it is, or as it was before `gapsel compare` came beside it."""
        compared, now = self.record.get("compared", {}), self.settings.of("report")
        before: dict[str, Any] = compared.get("told", now) if compared.get("shown") == now else now
        return before

    def compare(self, settings: Settings) -> None:
        """Take other settings of the report, which are no change to the run that takes up this folder again."""
        told, self.settings = self.told, settings
        self.record["compared"] = {"told": told, "shown": settings.of("report")}

    def check_inputs(self, inputs: dict[str, str]) -> None:
        """Raise DataError where the files that the run began with hold something else now."""
        began = self.record.get("inputs", inputs)
        changed = next((name for name in inputs if began.get(name) != inputs[name]), None)
        if changed:
            msg = (
                f"{changed}: the files have changed since the run in {self.path} began: put them back, or run again "
                "into a new folder (-o)"
            )
            raise DataError(msg)

    def is_done(self, step: str, signature: str) -> bool:
        """Tell whether a step is done with the settings as they are now, and all that it wrote is still there."""
        facts = self.record["steps"].get(step, {})
        return bool(facts.get("signature") == signature) and all(
            (self.path / name).exists() for name in facts.get("files", ())
        )

    def facts(self, step: str) -> dict[str, Any]:
        """Return what a finished step recorded."""
        facts: dict[str, Any] = self.record["steps"][step]
        return facts

    def note(self) -> None:
        """Write the record of a run that begins, unless it is there."""
        if not (self.path / RECORD).exists():
            self._save()

    def writes(self, step: str, signature: str) -> list[str]:
        """Record, before a step changes its first file, that it and those after it are not done from now on.

        A step that fails before has changed nothing, this record included. Where it is of other settings than what is
        there, what tells of the choice before goes first; return the names of these files.
        """
        known = self.record["steps"].get(step, {}).get("signature")
        gone = [] if known == signature else discard_after(step, self.path)
        self._forget(step)
        self._save()
        return gone

    def finish(self, step: str, signature: str, seconds: float, facts: dict[str, Any]) -> None:
        """Record that a step is done."""
        self._forget(step)
        self.record["steps"][step] = {"signature": signature, "seconds": round(seconds, 3), **facts}
        self.record["peak_memory_bytes"] = peak_memory()
        self._save()

    def remember(self, name: str, facts: dict[str, Any]) -> None:
        """Record what is no step: it follows from the vectors, and nothing follows from it."""
        self.record[name] = facts
        self._save()

    def _forget(self, step: str) -> None:
        for later in _from(step):
            self.record["steps"].pop(later, None)
        self.record["settings"] = self.settings.to_json()

    def _save(self) -> None:
        write_json(self.path / RECORD, plain(self.record))


def _from(step: str) -> tuple[str, ...]:
    """Return a step with all that follows from it; one study of the selection does not follow from another."""
    if step in STUDIES:
        return step, "report"
    return (*STEPS[STEPS.index(step) :], *(() if step == "report" else STUDIES))


def place(folder: Path) -> Path:
    """Return where a run folder lies, with ~ spelled out. Raises UsageError for a URL."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(folder)):
        msg = f"{folder}: is a URL, and a run folder lies on a disk: name a folder here (-o)"
        raise UsageError(msg)
    return folder.expanduser()


def check_free(path: Path) -> None:
    """Raise, before anything is read or locked, unless a run may begin or go on here.

    UsageError for a file and for a folder that holds something else, ResourceError where nothing can be written.
    """
    there = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    if not there.is_dir():
        what = "is a file" if there == path.absolute() else f"cannot be made, {there} is a file"
        msg = f"{path}: {what}: name a new folder (-o)"
        raise UsageError(msg)
    check_writable(there)
    if path.exists() and not (path / RECORD).exists() and not all(map(_is_ours, path.iterdir())):
        msg = f"{path}: is there already and is no run folder: name a new folder (-o)"
        raise UsageError(msg)


def check_begun(path: Path) -> None:
    """Raise DataError unless a run was started in this folder."""
    if not (path / RECORD).exists():
        msg = f"{path}: is no run folder (it has no {RECORD}): begin with `gapsel embed` or `gapsel run`"
        raise DataError(msg)


def check_writable(folder: Path) -> None:
    """Raise ResourceError unless files can be written into this folder."""
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        msg = f"{folder}: cannot be written: name another folder (-o), or change its permissions, or mount it writable"
        raise ResourceError(msg)


def _is_ours(path: Path) -> bool:
    """Tell whether a file is what a run leaves behind that was killed at its first step."""
    return is_leftover(path) or is_lock(path)


def read_json(file: Path) -> dict[str, Any]:
    """Read an object that a run wrote. Raises DataError for anything else."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{file}: cannot be read ({error}): delete it, and give the same command again"
        raise DataError(msg) from error
    if not isinstance(value, dict):
        msg = f"{file}: is no JSON object: delete it, and give the same command again"
        raise DataError(msg)
    return value


def read_as(file: Path, kind: type[_Record], what: str) -> _Record:
    """Read a record that a run wrote as JSON. Raises DataError for anything else."""
    saved = read_json(file)
    try:
        return made_of(kind, saved)
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{file}: cannot be read as {what} ({error}): delete it, and give the same command again"
        raise DataError(msg) from error


def plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON value with null for the numbers that JSON has not: infinities and NaN."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sign(*parts: object) -> str:
    """Return a short hash of JSON values."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=12).hexdigest()


def peak_memory() -> int:
    """Return the most memory this process ever held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _new_record(settings: Settings) -> dict[str, Any]:
    return {
        "gapsel": __version__,
        "settings": settings.to_json(),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {"platform": platform.platform(), "processors": os.cpu_count()},
        "steps": {},
    }


def _versions() -> dict[str, str]:
    return {package: found for package in _PACKAGES if (found := _version(package))}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _difference(one: Settings, other: Settings, steps: Iterable[str]) -> str | None:
    """Return the first setting that differs and that something already done, or half done, depends on."""
    a, b = one.of("embed", *steps), other.of("embed", *steps)
    return next((name for name in a if a[name] != b[name]), None)


def _change(name: str) -> str:
    """Say which door changes a setting in the run that is there."""
    takes = next(field.metadata["doors"] for field in dataclasses.fields(Settings) if field.name == name)
    door = next((step for step in reversed(STEPS) if step in takes and step != "embed"), None)
    return f", or change this run knowingly with `gapsel {door}`" if door else ""


def _show(value: object) -> str:
    return repr(list(value)) if isinstance(value, tuple) else repr(value)
