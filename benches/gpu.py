"""gapsel on a GPU, measured in under ten minutes, each figure after a look at the answer: `make bench-gpu`.

    machine   float16 product rate (the yardstick), copies on the device and to it
    doctor    every path of the kernels against the float64 reference
    portable  one sweep of a resident pool by the portable kernels, rough and exact; where its time goes
    hopper    the same by Hopper's own kernel
    stream    a sweep of a pool in host memory, few targets
    solve     potentials and the best 1 % of ten million rows, resident
    embed     documents a second beside sentence-transformers
    rivals    seconds to a marginal error beside other solvers, whichever run here (gpu_rivals.py)

Each part runs in a process of its own and has a time limit, since a kernel that hangs or faults takes its process with
it. What a part had found until then is kept, and the record is written after each; `--only` names parts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import gpu_parts

from gapsel import __version__
from gapsel.backends.gpu import GpuBackend
from gapsel.errors import GapselError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gapsel.backends.gpu.device import Facts

    Found = dict[str, Any]

HERE = Path(__file__).resolve().parent
PACKAGES = (
    "cupy-cuda13x", "torch", "triton", "flash-sinkhorn", "geomloss", "pykeops", "jax", "ott-jax",
    "sentence-transformers",
)  # fmt: skip
# Seconds that each part may take, in the order in which they are measured; and all of them.
LIMITS = {
    "machine": 60, "doctor": 180, "portable": 120, "hopper": 120, "stream": 90, "solve": 120, "embed": 90,
    "rivals": 400,
}  # fmt: skip
SECONDS = 570.0


def header(facts: Facts) -> Found:
    """Return what the figures are of."""
    installed = {one.name.lower(): one.version for one in metadata.distributions()}
    return {
        "date": datetime.now(timezone.utc).date().isoformat(), "device": facts.name, "gapsel": __version__,
        "capability": ".".join(map(str, facts.capability)), "memory_gib": round(facts.memory / 2**30),
        "cuda": facts.driver, "cores": os.cpu_count(), "python": sys.version.split()[0],
        "packages": {name: installed[name] for name in PACKAGES if name in installed}, "parts": {},
    }  # fmt: skip


def conduct(record: Found, parts: Sequence[str], file: Path, command: Callable[[str, float], list[str]]) -> None:
    """Measure the parts, each by its command, and write the record after each, whatever became of it."""
    end = time.monotonic() + SECONDS
    for name in parts:
        limit = min(float(LIMITS[name]), end - time.monotonic())
        began = time.monotonic()
        found, failed = measured(command(name, limit), limit) if limit > 0 else ([], "there was no time left for it")
        part = {"seconds": time.monotonic() - began, "found": found, **({"failed": failed} if failed else {})}
        record["parts"][name] = part
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(f"--- {name}, {part['seconds']:.0f} s\n{json.dumps(part, indent=1)}", flush=True)


def measured(command: Sequence[str], limit: float) -> tuple[list[Found], str]:
    """Run a command that prints its findings; return them, and how it ended if not well."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        # A session of its own, so that what it has started ends with it.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, start_new_session=True)  # noqa: S603
        try:
            code = process.wait(limit)
            failed = f"its process ended with {code}" if code else ""
        except subprocess.TimeoutExpired:
            failed = f"stopped after {limit:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        lines = list(said(out))
    found = [line["found"] for line in lines if "found" in line]
    return found, next((line["failed"] for line in lines if "failed" in line), failed)


def said(out: IO[str]) -> Iterator[Found]:
    """Yield what a part has printed; a line that was cut short, or that a library has printed, is none of it."""
    out.seek(0)
    for line in out:
        if line.startswith(('{"found": ', '{"failed": ')) and line.endswith("}\n"):
            yield json.loads(line)


def measure(name: str, record: Path, seconds: float) -> bool:
    """Measure one part here, and print each finding as it comes; whether all went well."""
    yardsticks: dict[str, float] = {}
    if record.exists():
        for found in json.loads(record.read_text(encoding="utf-8"))["parts"].get("machine", {}).get("found", ()):
            yardsticks |= found
    try:
        for found in gpu_parts.plan(yardsticks, seconds)[name]():
            print(json.dumps({"found": found}), flush=True)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is to be said)
        traceback.print_exc()
        print(json.dumps({"failed": f"{type(error).__name__}: {error}"[:500]}), flush=True)
        return False
    return True


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", metavar="PART", choices=LIMITS, help="parts to measure; the first is needed by some"
    )
    parser.add_argument(
        "--record", type=Path, default=HERE / "record" / "gpu", metavar="FOLDER", help="where the record goes"
    )
    parser.add_argument(
        "--part", nargs=3, metavar=("PART", "RECORD", "SECONDS"), help="measure one part in this process"
    )
    return parser.parse_args()


def main() -> None:
    """Measure all parts, or those named."""
    args = arguments()
    if args.part:
        name, file, seconds = args.part
        sys.exit(not measure(name, Path(file), float(seconds)))
    try:
        facts = GpuBackend().devices[0].facts
    except GapselError as error:
        sys.exit(str(error))
    record = header(facts)
    device = re.sub(r"[^a-z0-9]+", "-", record["device"].lower()).strip("-")
    file = args.record / f"{record['date']}-{device}.json"
    if file.exists():  # parts that are not measured anew stay
        record["parts"] = json.loads(file.read_text(encoding="utf-8"))["parts"]
    conduct(
        record, [name for name in LIMITS if name in (args.only or LIMITS)], file,
        lambda name, limit: [sys.executable, __file__, "--part", name, str(file), str(limit)],
    )  # fmt: skip


if __name__ == "__main__":
    main()
