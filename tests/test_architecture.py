"""Who may import whom, and where what is dangerous or heavy lives: read from the sources, run by no one's goodwill.

The corridor is texts -> corpus -> embed -> store -> potentials -> model -> selection -> corpus.write | report. A room
is a file or folder of python/gapsel; the floor is what every room stands on.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "gapsel"
RUST = ROOT / "rust"

# A heavy or single-purpose package and the only homes, files or folders of python/gapsel, that may name it.
HOME = {
    "cupy": {"backends/gpu"},
    "datasets": set[str](),
    "fsspec": {"remote"},
    "jinja2": {"report"},
    "geomloss": {"bench/engines"},
    "jax": {"bench/engines"},
    "matplotlib": set[str](),
    "ot": {"bench/engines"},
    "ott": {"bench/engines"},
    "pandas": set[str](),
    "plotly": set[str](),
    "ray": {"backends/ray"},
    "rensa": {"rules/copies"},
    "rich": {"cli", "progress"},
    "scipy": set[str](),
    "sentence_transformers": set[str](),
    "sklearn": {"mixture/clusters"},
    "threadpoolctl": {"blas", "mixture/clusters"},
    "tokenizers": {"evaluation"},
    "torch": {"embed", "evaluation", "bench/engines"},
    "transformers": {"embed", "evaluation"},
}
# Imported inside functions only, so that the rooms can be entered without paying for them.
LAZY = set(HOME) - {"rich"}
NO_ONE = {"pickle", "cPickle", "dill", "joblib"}

FLOOR = {
    *("_native", "blas", "calibration", "errors", "records", "findings", "config", "cost", "files", "memory"),
    *("primal", "progress", "remote", "wording"),
}
FRONT = {"__init__", "__main__", "api", "bench", "cli", "pipeline", "plan", "stream"}
# What a room may import of gapsel, where that is an exact list.
ONLY = {
    "errors": set[str](),
    "records": {"errors", "wording"},
    "findings": set[str](),
    "calibration": {"errors"},
    "config": {"config", "errors", "records", "remote", "wording"},
    "blas": set[str](),
    "cost": {"blas", "errors", "records"},
    "files": {"errors"},
    "memory": {"errors"},
    "primal": {"backends", "records"},
    "progress": {"errors"},
    "remote": {"errors"},
    "wording": set[str](),
    "backends": {"_native", "backends", "cost", "errors", "records"},
}
# What a room may not import of gapsel, on top of the rules for all.
NEVER = {
    "embed": {"potentials", "model", "selection", "report", "pipeline", "api"},
    "store": {"potentials", "model", "selection", "report", "pipeline", "api"},
    "corpus": {"embed", "potentials", "model", "selection", "report", "pipeline", "api"},
    "potentials": {"corpus", "embed", "distance", "selection", "report", "pipeline", "api"},
    "mixture": {"corpus", "embed", "distance", "model", "selection", "report", "pipeline", "api"},
    "distance": {"corpus", "embed", "selection", "report", "pipeline", "api"},
    "model": {"corpus", "selection", "report", "pipeline", "api"},
    "selection": {"corpus", "embed", "report", "pipeline", "api"},
    "rules": {"embed", "model", "selection", "report", "pipeline", "api"},
    "evaluation": {"store", "potentials", "model", "selection", "report", "pipeline", "api"},
    "baselines": {"corpus", "report", "pipeline", "api"},
    "report": {"embed", "pipeline", "api"},
    "pipeline": {"api", "bench", "plan"},
    "plan": {"api", "bench"},
    "stream": {"report", "selection", "potentials", "bench", "plan", "api"},
    "bench": {"pipeline", "report", "api"},
}

# The rooms of the pipeline from the floor up: which others of them a room may use while the program runs.
PIPELINE = {"folder": set[str](), "vectors": {"folder"}, "inputs": {"folder", "vectors"}}


@dataclass(frozen=True)
class Import:
    """One imported module, and whether the import runs when the file is imported, or only for the type checker."""

    module: str
    line: int
    top: bool
    typing: bool


def imports(path: Path) -> list[Import]:
    """Return every import of a file, those through importlib.import_module("...") included."""
    found: list[Import] = []

    def visit(node: ast.AST, *, top: bool, typing: bool) -> None:
        found.extend(Import(name, getattr(node, "lineno", 0), top, typing) for name in _modules(node, path))
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for field, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child, top=top and not inside, typing=typing or (guarded and field == "body"))

    visit(ast.parse(path.read_text(encoding="utf-8")), top=True, typing=False)
    return found


def _modules(node: ast.AST, path: Path) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = _absolute(node, path)
        return [f"{base}.{alias.name}" for alias in node.names] if base == "gapsel" else [base]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
        return [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return []


def _absolute(node: ast.ImportFrom, path: Path) -> str:
    if not node.level:
        return node.module or ""
    package = ["gapsel", *path.relative_to(PACKAGE).parent.parts]
    return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


def room(path: Path) -> str:
    """Return the room a file belongs to: its folder in python/gapsel, or its own name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def rooms_used(path: Path, *, typing: bool = True) -> set[str]:
    """Return the rooms of gapsel that a file imports; without ``typing``, those of the running program only."""
    names = [i.module.split(".") for i in imports(path) if typing or not i.typing]
    return {parts[1] if len(parts) > 1 else "__init__" for parts in names if parts[0] == "gapsel"}


FILES = sorted(PACKAGE.rglob("*.py"))
RUST_FILES = sorted(RUST.rglob("*.rs"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
each_rust_file = pytest.mark.parametrize("path", RUST_FILES, ids=lambda p: p.relative_to(RUST).as_posix())


@each_file
def test_heavy_packages_live_in_their_home(path: Path) -> None:
    here = path.relative_to(PACKAGE).as_posix()
    for used in imports(path):
        name = used.module.partition(".")[0]
        assert name not in NO_ONE, f"{here}:{used.line} imports {name}: gapsel reads and writes no pickles"
        if name in HOME:
            at_home = any(here == f"{home}.py" or here.startswith(f"{home}/") for home in HOME[name])
            assert at_home, f"{here}:{used.line} imports {name}: its home is {HOME[name] or 'nowhere'}"


@each_file
def test_heavy_packages_are_imported_inside_functions(path: Path) -> None:
    for used in imports(path):
        at_import = used.top and not used.typing
        assert not (at_import and used.module.partition(".")[0] in LAZY), f"{path.name}:{used.line} {used.module}"


@each_file
def test_no_room_imports_the_command_line(path: Path) -> None:
    assert "cli" not in rooms_used(path) - {room(path)} or room(path) == "__main__"


@each_file
def test_the_corridor_runs_one_way(path: Path) -> None:
    here, used = room(path), rooms_used(path) - {room(path)}
    if here in ONLY:
        assert used <= ONLY[here], f"{here} may import {sorted(ONLY[here])}, not {sorted(used - ONLY[here])}"
    assert used.isdisjoint(NEVER.get(here, ())), f"{here} may not import {sorted(used & NEVER[here])}"


@pytest.mark.parametrize("here", PIPELINE)
def test_what_the_steps_stand_on_knows_no_step(here: str) -> None:
    for path in sorted((PACKAGE / "pipeline" / here).glob("*.py")):
        names = [i.module.split(".") for i in imports(path) if not i.typing]
        used = {parts[2] for parts in names if parts[:2] == ["gapsel", "pipeline"] and len(parts) > 2}
        assert used <= {here} | PIPELINE[here], f"pipeline/{here}/{path.name} uses {sorted(used)}"


@each_file
def test_only_the_front_joins_several_rooms(path: Path) -> None:
    here = room(path)
    joined = rooms_used(path, typing=False) - FLOOR - {here, "__init__", "backends"}
    assert here in FRONT or len(joined) <= 1, f"{here} joins {sorted(joined)}: that is the work of the pipeline"


@each_rust_file
def test_unsafe_lives_in_the_kernels(path: Path) -> None:
    if path.relative_to(RUST).parts[0] not in {"kernel", "kernel.rs"}:
        lines = rust_lines_naming(path, "unsafe")
        assert not lines, f"{path.name}: unsafe in lines {lines}"


@each_rust_file
def test_pyo3_is_named_in_the_binding_alone(path: Path) -> None:
    if path.relative_to(RUST).as_posix() not in {"py.rs", "py/arrays.rs", "lib.rs"}:
        assert not rust_lines_naming(path, "pyo3")


def rust_lines_naming(path: Path, word: str) -> list[int]:
    """Return the lines whose code, comments and string literals aside, holds the word."""
    code = re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"', _blank, path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [number for number, line in enumerate(code.splitlines(), 1) if re.search(rf"\b{word}\b", line)]


def _blank(match: re.Match[str]) -> str:
    return "\n" * match.group().count("\n")


def test_the_readers_of_this_file_see_what_they_should(tmp_path: Path) -> None:
    source = tmp_path / "x.py"
    source.write_text(
        "import torch.nn\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ray\nelse:\n    import ot\n"
        "def f():\n    import cupy\n    importlib.import_module('jinja2')\nfrom gapsel import cli\n",
        encoding="utf-8",
    )
    seen = {i.module: (i.top, i.typing) for i in imports(source)}
    assert seen == {
        "torch.nn": (True, False),
        "typing": (True, False),
        "ray": (True, True),
        "ot": (True, False),
        "cupy": (False, False),
        "jinja2": (False, False),
        "gapsel.cli": (True, False),
    }
    rust = tmp_path / "x.rs"
    rust.write_text(
        '#![deny(unsafe_code)] // unsafe\nlet s = "unsafe";\n/* unsafe\n*/ unsafe { f() }\n', encoding="utf-8"
    )
    assert rust_lines_naming(rust, "unsafe") == [4]
