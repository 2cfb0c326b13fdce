"""`gapsel bench`: gapsel and other solvers on the same problems."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapsel.cli.words import in_json
from gapsel.config import parse_size

if TYPE_CHECKING:
    from gapsel.cli.flags import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    about = "gapsel and other solvers on the same problems: time and memory"
    command = commands.add_parser("bench", help=about, description=f"Measure {about}.", allow_abbrev=False)
    command.set_defaults(do=_bench)
    command.add_argument("--case", dest="cases", nargs="+", default=[], metavar="NAME", help="cases to measure (all)")
    command.add_argument("--engine", dest="engines", nargs="+", default=[], metavar="NAME", help="and solvers (all)")
    command.add_argument("--pool", type=Path, metavar="FILE", help="your own vectors (.npy) instead of the demo's")
    command.add_argument("--target", type=Path, metavar="FILE", help="and those of a target")
    command.add_argument("--threads", type=int, default=0, metavar="N", help="threads for all alike (all cores)")
    command.add_argument(
        "--memory", type=parse_size, default=0, metavar="SIZE", help="memory for each, like 8GB (80%%)"
    )
    command.add_argument("--record", type=Path, metavar="FOLDER", help="keep the results in the day's record there")
    command.add_argument("--check", action="store_true", help="only check, in seconds, that every solver is right")
    command.add_argument("--json", action="store_true", help="print the record as JSON")


def _bench(*, json: bool, check: bool, record: Path | None, **given: Any) -> int:  # noqa: ANN401 - a plan
    from gapsel import bench

    plan = bench.Plan(**given)
    if check:
        print("\n".join(bench.check(plan)))
        return 0
    keep = (lambda _: None) if record is None else (lambda found: bench.save(record, found))
    found = bench.run(plan, lambda said: print(said, file=sys.stderr, flush=True), keep)
    print(in_json(found) if json else bench.in_words(found), flush=True)
    return 0
