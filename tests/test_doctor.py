"""`gapsel doctor`: what it finds, what it says, and how it ends when something is wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gapsel import _native, doctor
from gapsel.backends import selftest
from gapsel.backends.reference import ReferenceBackend
from gapsel.cli import main
from gapsel.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.records import Query, Sweep

FEW = selftest.CASES[:1]


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = doctor.examine
    monkeypatch.setattr(doctor, "examine", lambda: whole(FEW))


class Wrong(ReferenceBackend):
    """The reference, but for one thing."""

    def __init__(self, **changes: float) -> None:
        self.changes = changes

    def sweep(self, shards: Sequence[NDArray[np.floating]], query: Query) -> Sweep:
        swept = super().sweep(shards, query)
        for name, factor in self.changes.items():
            object.__setattr__(swept, name, factor * getattr(swept, name))
        return swept


def test_every_instruction_set_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for isa in _native.isas():
        assert f"  {isa}: agrees; worst is " in said
    assert "All that is here agrees with the reference." in said


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sound"] is True
    assert [one["name"] for one in found["cpu"]] == _native.isas()
    assert all(0 <= one["share"] <= 1 for one in found["cpu"])
    assert found["gpu"] or found["no_gpu"]


@pytest.mark.parametrize("case", selftest.CASES, ids=lambda case: case.name)
def test_the_reference_agrees_with_itself(case: selftest.Case) -> None:
    # What float32 outputs round off.
    assert selftest.worst(selftest.findings(ReferenceBackend(), (case,))).share < 0.1


@pytest.mark.parametrize(("name", "factor"), [("q", 1.001), ("value", 1.001), ("hard", 0.999), ("entropy", 1.5)])
def test_an_error_of_each_kind_is_found(name: str, factor: float) -> None:
    worst = selftest.worst(selftest.findings(Wrong(**{name: factor}), FEW))
    assert not worst.agrees
    assert worst.quantity == {"hard": "hard bound"}.get(name, name)


def test_nan_is_never_near(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CpuBackend", lambda isa: Wrong(entropy=np.nan))  # noqa: ARG005
    assert main(["doctor"]) == DeviceError.exit_code
    said = capsys.readouterr().out
    assert "DISAGREES; worst is entropy in 'rows to 128 columns', not a number" in said
    assert "Something here DOES NOT AGREE" in said


def test_a_backend_that_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(ReferenceBackend):
        def sweep(self, shards: Sequence[NDArray[np.floating]], query: Query) -> Sweep:  # noqa: ARG002
            msg = "the GPU is gone"
            raise DeviceError(msg)

    def failing(isa: str) -> Backend:  # noqa: ARG001
        return Failing()

    monkeypatch.setattr(doctor, "CpuBackend", failing)
    assert main(["doctor", "--json"]) == DeviceError.exit_code
    found = json.loads(capsys.readouterr().out)
    assert found["cpu"][0]["failure"] == "the GPU is gone"
    assert main(["doctor"]) == DeviceError.exit_code
    assert "FAILS: the GPU is gone" in capsys.readouterr().out
