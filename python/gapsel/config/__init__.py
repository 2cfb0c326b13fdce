"""Settings: flat, frozen, validated here and nowhere else. Defaults live here alone.

settings.py   the fields; the command line's flags, run.json and the report are made from them
doors.py      what they speak of: steps, studies, methods, and which of them belong together
checks.py     what they must be; allowed.py: what the value of one may be
effect.py     which of them change nothing beside the others
parsing.py    settings that are written as texts
loose.py      values as people write them
"""

from gapsel.config.doors import BUDGET, METHODS, POOL_WEIGHTS, RULES, STEPS, STUDIES, WITHOUT_EFFECT
from gapsel.config.effect import in_effect
from gapsel.config.loose import SIDES, grouped
from gapsel.config.parsing import parse_count, parse_k, parse_masses, parse_quota, parse_size, rows_for
from gapsel.config.settings import Settings

__all__ = [
    "BUDGET",
    "METHODS",
    "POOL_WEIGHTS",
    "RULES",
    "SIDES",
    "STEPS",
    "STUDIES",
    "WITHOUT_EFFECT",
    "Settings",
    "grouped",
    "in_effect",
    "parse_count",
    "parse_k",
    "parse_masses",
    "parse_quota",
    "parse_size",
    "rows_for",
]
