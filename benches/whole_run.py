"""What a whole `gapsel run` of ready-made vectors takes: seconds of each step, and memory beyond mapped files.

    python benches/whole_run.py --pool pool.npy --target target.npy -- -k 1% --mass 0.5 --memory 1.5GB

What follows -- goes to gapsel. It runs in a process of its own, whose RssAnon is looked at every 20 ms: what it holds
beyond the pages of mapped files, which the kernel keeps or drops as it likes. Linux only. The run folder is temporary,
beside the pool.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def anonymous_bytes(process: int) -> int:
    """Return what a process holds beyond mapped files, 0 when it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    held = status.partition("RssAnon:")[2].split()
    return 1024 * int(held[0]) if held else 0


def watched(command: list[str]) -> int:
    """Run a command to its end, and return the most that it held."""
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603 - this interpreter
        while process.poll() is None:
            peak = max(peak, anonymous_bytes(process.pid))
            time.sleep(0.02)
    assert process.returncode == 0, f"gapsel ended with {process.returncode}"
    return peak


def main() -> None:
    """Run, and print a line for each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("more", nargs="*", metavar="FLAG", help="flags of gapsel, after --")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.pool.parent) as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-c", "import sys; from gapsel.cli import main; sys.exit(main())", "run", "--quiet"]
        command += ["--pool-vectors", str(args.pool), "--target-vectors", str(args.target), "-o", str(out), *args.more]
        began = time.perf_counter()
        peak = watched(command)
        seconds = time.perf_counter() - began
        record = json.loads((out / "run.json").read_text(encoding="utf-8"))
        for step, facts in record["steps"].items():
            print(f"{step:8} {facts['seconds']:8.1f} s")
        print(f"in all   {seconds:8.1f} s, at most {peak / 1e6:,.0f} MB beyond mapped files")


if __name__ == "__main__":
    main()
