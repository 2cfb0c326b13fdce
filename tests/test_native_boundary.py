"""The seam between Python and Rust: the lock is released, the stub tells the truth, the build is a fast one."""

from __future__ import annotations

import ast
import inspect
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import gapsel
from gapsel import _native
from gapsel.backends.cpu import CpuBackend
from gapsel.records import Box, Cost, Query, Target

STUB = Path(gapsel.__file__).with_name("_native.pyi")


def test_other_threads_run_during_a_sweep() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20_000, 256), np.float32), rng.standard_normal((600, 256), np.float32)
    target = Target(y, np.full(600, 1 / 600))
    done, ticks = threading.Event(), 0

    def sweep() -> None:
        CpuBackend(1).sweep([x], Query(target, np.zeros(600), Box.fixed(1 / 20_000), 0.1, Cost()))
        done.set()

    worker = threading.Thread(target=sweep)
    worker.start()
    while not done.is_set():
        ticks += 1
        time.sleep(1e-4)
    worker.join()
    assert ticks > 10


def test_stub_agrees_with_the_module() -> None:
    """The same names; the same parameters, of the same kinds and with the same defaults."""
    tree = ast.parse(STUB.read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    annotated = [node.target for node in tree.body if isinstance(node, ast.AnnAssign) and node.value is None]
    constants = {name.id for name in annotated if isinstance(name, ast.Name)}
    public = {name for name in dir(_native) if not re.match(r"__(?!version__)", name)}
    assert public == functions.keys() | constants
    for name, node in functions.items():
        signature = inspect.signature(getattr(_native, name))
        stub = [arg.arg for arg in (*node.args.args, *node.args.kwonlyargs)]
        assert list(signature.parameters) == stub
        keyword_only = {arg.arg for arg in node.args.kwonlyargs}
        assert {n for n, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY} == keyword_only
        defaults = {
            arg.arg: ast.literal_eval(default)
            for arg, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            if default is not None
        }
        assert {n: p.default for n, p in signature.parameters.items() if p.default is not p.empty} == defaults


def test_constants() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", _native.__version__)
    assert isinstance(_native.DEBUG_BUILD, bool)
    assert _native.isas()[-1] == "portable"


def test_the_core_takes_borrowed_arrays_only() -> None:
    with pytest.raises(TypeError):
        _native.topk([1.0, 2.0], 1)  # type: ignore[arg-type]
