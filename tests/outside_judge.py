"""POT, the outside judge of transport: `from outside_judge import ot`."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its docstrings, when Python compiles it for the first time
    import ot

__all__ = ["ot"]
