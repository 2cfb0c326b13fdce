"""The documentation: links lead somewhere, commands are accepted, what is named is there, figures are the record's."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gapsel.cli import build_parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/README.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
SOURCES = "".join(file.read_text(encoding="utf-8") for file in sorted(ROOT.glob("python/gapsel/**/*.py")))
DEFINED = {name for pair in re.findall(r"\b(?:def|class) (\w+)|(\w+)(?:: | = )", SOURCES) for name in pair}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^    .*$", "", FENCED.sub("", text), flags=re.MULTILINE)


def spans(text: str) -> list[str]:
    """Return the code inside the lines of a page, line breaks as spaces."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(text))]


# ---- links


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    text = prose(read(name))
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for link in links:
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        there = (ROOT / name).parent / path if path else ROOT / name
        assert there.exists(), link
        assert not anchor or anchor in anchors(there.read_text(encoding="utf-8")), link


# ---- commands


def parsers() -> dict[str, argparse.ArgumentParser]:
    found = (one for one in build_parser()._actions if isinstance(one, argparse._SubParsersAction))
    return dict(next(found).choices)


def commands_in(text: str) -> list[str]:
    """Return what is to be typed of `gapsel` in blocks of code, without comments and redirections."""
    lines = re.findall(r"^ {2,4}(?:.*&& )?(gapsel [a-z].*)$", text, re.MULTILINE)
    lines += [line for _, block in FENCED.findall(text) for line in block.splitlines() if line.startswith("gapsel ")]
    return [re.split(r" {3,}| [<>] | && ", line)[0] for line in lines]


TEXTS = {name: read(name) for name in NAMES}
TEXTS |= {f"gapsel {name} --help": parser.description or "" for name, parser in parsers().items()}
TYPED = [(name, line) for name, text in TEXTS.items() for line in commands_in(text)]


@pytest.mark.parametrize(("where", "line"), TYPED)
def test_commands_are_accepted(where: str, line: str) -> None:
    given = build_parser().parse_args(shlex.split(line.replace("$I", "0"))[1:])
    assert callable(given.do), where


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    return {flag for action in parser._actions for flag in action.option_strings}


def flags_of_scripts() -> set[str]:
    """Return the flags of benches/, added one by one or in a loop over names."""
    scripts = "".join(file.read_text(encoding="utf-8") for file in sorted(ROOT.glob("benches/*.py")))
    loops = " ".join(re.findall(r"in \(([^\n]*)\):", scripts))
    return set(re.findall(r'"(--[a-z-]+)"', scripts)) | {f"--{name}" for name in re.findall(r'"([\w-]+)"', loops)}


@pytest.mark.parametrize("name", NAMES)
def test_flags_within_the_text_are_those_of_the_command(name: str) -> None:
    known = {command: flags_of(parser) for command, parser in parsers().items()}
    every = set[str]().union(*known.values()) | flags_of_scripts()
    for span in spans(read(name)):
        command = re.match(r"gapsel ([a-z]+)", span)
        assert not command or command[1] in known, span
        flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", span))
        assert flags <= (known[command[1]] if command else every), span


# ---- names


FILE = re.compile(r"[\w./-]+\.(py|rs|cuh?|svg|toml)|(benches|docs|examples|python|rust|cuda|tests)/[\w./-]*")
# Names with a dot that are files, and those that are of Python.
SUFFIXES = (
    "npy",
    "npz",
    "txt",
    "json",
    "jsonl",
    "html",
    "md",
    "safetensors",
    "parquet",
    "csv",
    "tsv",
    "arrow",
    "lock",
    "mm",
)


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_named_are_there(name: str) -> None:
    package = ROOT / "python" / "gapsel"
    for span in filter(FILE.fullmatch, spans(read(name).replace("NAME.py", "cpu.py"))):
        assert any((folder / span).exists() for folder in (ROOT, package, package / "potentials")), span


@pytest.mark.parametrize("name", NAMES)
def test_functions_that_are_named_are_there(name: str) -> None:
    for span in spans(read(name)):
        dotted = re.fullmatch(r"[A-Za-z_]+\.([A-Za-z_]+)", span)
        if dotted and dotted[1] not in SUFFIXES and not FILE.fullmatch(span):
            assert dotted[1] in DEFINED, span


def test_the_layout_names_every_room() -> None:
    layout = read("CONTRIBUTING.md").partition("## The commands")[0]
    rooms = {path.stem for path in (ROOT / "python" / "gapsel").iterdir() if path.name[0] not in "_."} - {"py"}
    assert {room for room in rooms if not re.search(rf"\b{room}\b", layout)} == set()


# ---- code and figures


def test_the_code_for_arrays_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [code for language, code in FENCED.findall(read("README.md")) if language == "python"]
    block = next(code for code in blocks if "Selector(" in code)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("pool.npy", rng.normal(size=(600, 8)).astype(np.float32))
    np.save("target.npy", rng.normal(size=(20, 8)).astype(np.float32))
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)  # noqa: S102 - it is our own documentation
    assert names["scores"].shape == (10,)
    assert len(names["chosen"].rows) == 200


@pytest.mark.parametrize("name", NAMES)
def test_code_in_python_compiles(name: str) -> None:
    for language, code in FENCED.findall(read(name)):
        if language == "python":
            compile(code, name, "exec")


def test_figures_of_speed_are_those_of_the_record() -> None:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "benches" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["readme"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for file, text in module.written(module.newest()).items():
        assert file.read_text(encoding="utf-8") == text, "run benches/readme.py"
    with pytest.raises(ValueError, match="no place for speed"):
        module.put("# gapsel", "speed", "")
