"""gapsel: choose, out of millions of documents, the few that move a model's data distribution toward a task.

`import gapsel` loads the small native module and nothing heavy; each public name is imported when it is first used.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING

try:
    from gapsel._native import DEBUG_BUILD, __version__
except ModuleNotFoundError as error:
    if error.name != "gapsel._native":
        raise
    _msg = "gapsel's native module is not built: run `make setup` in the source tree, or `pip install .` there"
    raise ImportError(_msg, name=error.name) from error

if TYPE_CHECKING:
    from gapsel.api import Selector, domain_weights, load
    from gapsel.config import Settings
    from gapsel.errors import (
        DataError,
        GapselError,
        MissingDependencyError,
        NotConvergedError,
        ResourceError,
        UsageError,
    )
    from gapsel.pipeline import evaluate, mix, run
    from gapsel.records import Cost
    from gapsel.stream import BatchEmbedder, BatchScorer

__all__ = [
    "BatchEmbedder",
    "BatchScorer",
    "Cost",
    "DataError",
    "GapselError",
    "MissingDependencyError",
    "NotConvergedError",
    "ResourceError",
    "Selector",
    "Settings",
    "UsageError",
    "__version__",
    "domain_weights",
    "evaluate",
    "load",
    "mix",
    "run",
]

_HOME = {
    "BatchEmbedder": "gapsel.stream",
    "BatchScorer": "gapsel.stream",
    "Cost": "gapsel.records",
    "DataError": "gapsel.errors",
    "GapselError": "gapsel.errors",
    "MissingDependencyError": "gapsel.errors",
    "NotConvergedError": "gapsel.errors",
    "ResourceError": "gapsel.errors",
    "Selector": "gapsel.api",
    "Settings": "gapsel.config",
    "UsageError": "gapsel.errors",
    "domain_weights": "gapsel.api",
    "evaluate": "gapsel.pipeline",
    "load": "gapsel.api",
    "mix": "gapsel.pipeline",
    "run": "gapsel.pipeline",
}

if DEBUG_BUILD:
    warnings.warn(
        "gapsel._native is a debug build, many times slower than it should be: "
        "run `make setup` or `maturin develop --release`",
        RuntimeWarning,
        stacklevel=2,
    )


def __getattr__(name: str) -> object:
    """Import a public name from its home on first use (PEP 562)."""
    if name not in _HOME:
        msg = f"module 'gapsel' has no attribute {name!r}"
        raise AttributeError(msg)
    value: object = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Name what is public, imported or not."""
    return sorted(__all__)
