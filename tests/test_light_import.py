"""`import gapsel` and `gapsel --help` stay light, the public names resolve, and a missing or slow build says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gapsel
from gapsel import _native

HEAVY = {"cupy", "jinja2", "matplotlib", "numba", "ot", "pandas", "pyarrow", "ray", "scipy", "sklearn", "torch"}
HEAVY |= {"datasets", "sentence_transformers", "tokenizers", "transformers"}

IMPORT = "import gapsel"
HELP = """
import contextlib, io
from gapsel.cli import main
sys.argv = ["gapsel", "--help"]
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
    main()
assert "run" in out.getvalue(), out.getvalue()
"""
MISSING_BUILD = """
sys.modules["gapsel._native"] = None
try:
    import gapsel
except ImportError as error:
    print(error)
"""
DEBUG_BUILD = """
import types, warnings
sys.modules["gapsel._native"] = types.SimpleNamespace(DEBUG_BUILD=True, __version__="0")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import gapsel
print([(w.category.__name__, str(w.message)) for w in caught])
"""


def python(code: str) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-c", "import sys\n" + code], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("code", [IMPORT, HELP], ids=["import", "help"])
def test_nothing_heavy_is_imported(code: str) -> None:
    loaded = python(code + "\nprint(*sorted({name.partition('.')[0] for name in sys.modules}))").split()
    assert "gapsel" in loaded
    assert HEAVY.isdisjoint(loaded), sorted(HEAVY.intersection(loaded))


def test_rich_waits_for_the_command_line() -> None:
    assert "False" in python(IMPORT + "\nprint('rich' in sys.modules)")


@pytest.mark.parametrize("name", gapsel.__all__)
def test_public_name_resolves(name: str) -> None:
    assert getattr(gapsel, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'slector'"):
        _ = gapsel.slector


def test_dir_lists_the_public_names() -> None:
    assert set(dir(gapsel)) == set(gapsel.__all__)


def test_version_is_the_crates() -> None:
    assert gapsel.__version__ == _native.__version__


def test_missing_build_says_how_to_build() -> None:
    assert "make setup" in python(MISSING_BUILD)


def test_debug_build_warns_and_says_how_to_rebuild() -> None:
    out = python(DEBUG_BUILD)
    assert "RuntimeWarning" in out
    assert "--release" in out
