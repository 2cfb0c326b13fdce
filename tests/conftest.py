"""What all tests share: the hypothesis profiles, and a header that says what this run can and cannot see.

Nothing is set behind a test's back: the number of threads is pinned by the Makefile and shown in the header.
"""

from __future__ import annotations

import importlib.util
import os

import pytest
from hypothesis import settings

import gapsel
from cuda_compiler import TABLE, table_lines
from gapsel import _native

THREAD_VARIABLES = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")
OPTIONAL = ("torch", "transformers", "ot", "cupy", "ray")

# They bring runs on real text, the stores that tests read by URL, the streams that they score, and the backends that
# they run on.
pytest_plugins = ["corridor", "http_store", "streams", "sweeps"]

# What the files that tests share assert is explained as well as what the tests do.
pytest.register_assert_rewrite("faults", "sample_run", "texts")

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_report_header() -> list[str]:
    present = [name for name in OPTIONAL if importlib.util.find_spec(name)]
    missing = [name for name in OPTIONAL if name not in present]
    threads = " ".join(f"{name}={os.environ.get(name, 'unset')}" for name in THREAD_VARIABLES)
    return [
        f"gapsel {gapsel.__version__}, instruction sets: {', '.join(_native.isas())}",
        f"optional packages: {', '.join(present) or 'none'}; missing: {', '.join(missing) or 'none'}",
        f"threads: {threads}",
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    table = terminalreporter.config.stash.get(TABLE, None)
    if table:
        terminalreporter.section("CUDA kernels: registers of a thread, on each architecture")
        terminalreporter.write("".join(f"{line}\n" for line in table_lines(table)))
