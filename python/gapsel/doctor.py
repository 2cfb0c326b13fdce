"""`gapsel doctor`: what can sweep a pool here, and whether each of it agrees with the float64 reference."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import __version__, _native
from gapsel.backends import selftest
from gapsel.backends.cpu import CpuBackend
from gapsel.errors import DeviceError, GapselError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gapsel.backends import Backend
    from gapsel.backends.gpu.device import Device

_PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "cupy", "torch", "transformers")


def examine(cases: Sequence[selftest.Case] = selftest.CASES) -> dict[str, Any]:
    """Return what there is and how it did, as plain JSON values.

    ``sound`` is False if something that is there disagrees with the reference or fails; a GPU that is not there is
    said in ``no_gpu`` and is no fault.
    """
    cpu = [_seen(isa, CpuBackend(isa=isa), cases) for isa in _native.isas()]
    gpus, no_gpu = _gpus(cases)
    return {
        "gapsel": __version__,
        "python": platform.python_version(),
        "packages": {"numpy": np.__version__, **_versions()},
        "cpu": cpu,
        "gpu": gpus,
        "no_gpu": no_gpu,
        "sound": all(one["agrees"] for one in [*cpu, *gpus]),
    }


def in_words(found: dict[str, Any]) -> str:
    """Say it for people."""
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    lines = [f"gapsel {found['gapsel']}, Python {found['python']}, {packages}", "", "cpu"]
    lines += [_line(one) for one in found["cpu"]]
    lines += ["gpu"]
    lines += [_line(one) for one in found["gpu"]] or [f"  none: {found['no_gpu']}"]
    verdict = "agrees with the reference" if found["sound"] else "DOES NOT AGREE with the reference"
    return "\n".join([*lines, "", f"All that is here {verdict}." if found["sound"] else f"Something here {verdict}."])


def _gpus(cases: Sequence[selftest.Case]) -> tuple[list[dict[str, Any]], str]:
    """Return how each GPU did, and why there is none."""
    from gapsel.backends.gpu import GpuBackend

    try:
        devices = GpuBackend().devices
    except GapselError as error:
        return [], str(error)
    found = []
    for device in devices:
        found.append(_seen(_named(device), GpuBackend([device], trusted=True, fused=False), cases))
        if device.fused is not None:
            name = f"{device.facts.name}, its own kernel"
            backend = GpuBackend([device], trusted=True)
            found.append(_seen(name, backend, selftest.FUSED_CASES, device.try_fused))
    return found, ""


def _named(device: Device) -> str:
    facts = device.facts
    capability = ".".join(map(str, facts.capability))
    return f"{facts.name}, compute capability {capability}, {facts.memory / 2**30:.0f} GiB, CUDA {facts.driver}"


def _seen(
    name: str, backend: Backend, cases: Sequence[selftest.Case], first: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Return how a backend did in the examination, if what comes ``first`` goes well."""
    try:
        first()
        worst = selftest.worst(selftest.findings(backend, cases))
    except (DeviceError, MemoryError) as error:
        return {"name": name, "agrees": False, "case": "", "quantity": "", "share": None, "failure": str(error)}
    share = worst.share if np.isfinite(worst.share) else None
    return {
        "name": name, "agrees": worst.agrees, "case": worst.case, "quantity": worst.quantity, "share": share,
        "failure": "",
    }  # fmt: skip


def _line(one: dict[str, Any]) -> str:
    if one["failure"]:
        return f"  {one['name']}: FAILS: {one['failure']}"
    share = "not a number" if one["share"] is None else f"{one['share']:.0%} of the allowed error"
    verdict = "agrees" if one["agrees"] else "DISAGREES"
    return f"  {one['name']}: {verdict}; worst is {one['quantity']} in {one['case']!r}, {share}"


def _versions() -> dict[str, str]:
    installed = {dist.name: dist.version for dist in metadata.distributions()}
    return {package: installed[package] for package in _PACKAGES if package in installed}
