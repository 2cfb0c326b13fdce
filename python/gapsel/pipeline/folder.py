"""The run folder and its record, run.json: settings, inputs, versions, and which steps are done.

A step is done when its signature, a hash of the settings it depends on and of the step before it, stands in the
record. What is done is not done again; what depends on a changed setting is. The record is rewritten whole after each
step, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapsel import __version__
from gapsel.config import STEPS, Settings
from gapsel.errors import DataError, UsageError
from gapsel.files import write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD = "run.json"
_PACKAGES = ("numpy", "pyarrow", "safetensors", "torch", "transformers")


@dataclass(slots=True)
class RunFolder:
    """One run folder with its settings and its record."""

    path: Path
    settings: Settings
    record: dict[str, Any]

    @classmethod
    def begin(cls, path: Path, settings: Settings) -> RunFolder:
        """Start a run in a new or empty folder, or take up the same run again.

        Raises UsageError, and touches nothing, where the folder holds another run or something else.
        """
        if not (path / RECORD).exists():
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                msg = f"{path}: is there already and is no run folder: name a new folder (-o)"
                raise UsageError(msg)
            return cls(path, settings, _new_record(settings))
        there = cls.open(path)
        differs = _difference(there.settings, settings)
        if differs:
            old, new = getattr(there.settings, differs), getattr(settings, differs)
            msg = (
                f"{path}: holds another run, with {differs} {_show(old)} where this one has {_show(new)}: name a new "
                "folder (-o), or change this run knowingly with `gapsel fit` or `gapsel select`"
            )
            raise UsageError(msg)
        return cls(path, settings, there.record)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open a folder that a run was started in. Raises DataError where it is none."""
        file = path / RECORD
        try:
            record = json.loads(file.read_text())
            settings = Settings.from_json(record["settings"], str(file))
        except FileNotFoundError as error:
            msg = f"{path}: is no run folder (it has no {RECORD}): begin with `gapsel embed` or `gapsel run`"
            raise DataError(msg) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"{file}: cannot be read as a run's record ({error}): repair it or start in a new folder"
            raise DataError(msg) from error
        return cls(path, settings, record)

    def is_done(self, step: str, signature: str) -> bool:
        """Tell whether a step is done with the settings as they are now."""
        return bool(self.record["steps"].get(step, {}).get("signature") == signature)

    def facts(self, step: str) -> dict[str, Any]:
        """Return what a finished step recorded."""
        facts: dict[str, Any] = self.record["steps"][step]
        return facts

    @contextmanager
    def step(self, name: str, signature: str) -> Iterator[dict[str, Any]]:
        """Time a step; what the block puts into the dictionary is recorded with it once it ends well."""
        self.path.mkdir(parents=True, exist_ok=True)
        for later in STEPS[STEPS.index(name) :]:
            self.record["steps"].pop(later, None)
        self.record["settings"] = self.settings.to_json()
        self._save()
        began, facts = time.perf_counter(), dict[str, Any]()
        yield facts
        seconds = round(time.perf_counter() - began, 3)
        self.record["steps"][name] = {"signature": signature, "seconds": seconds, **facts}
        self.record["peak_memory_bytes"] = peak_memory()
        self._save()

    def _save(self) -> None:
        write_json(self.path / RECORD, self.record)


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
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _difference(one: Settings, other: Settings) -> str | None:
    a, b = one.of("run"), other.of("run")
    return next((name for name in a if a[name] != b[name]), None)


def _show(value: object) -> str:
    return repr(list(value)) if isinstance(value, tuple) else repr(value)
