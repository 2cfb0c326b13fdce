"""The first run of a GPU's own kernel, in a process of its own: a fault there, or a hang, ends that process alone.

In the process that sweeps, either would end the whole run, or never end. What passed is noted beside the compiled
kernels, so that a kernel is tried once on a machine.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from gapsel.backends.hopper.driver import keep
from gapsel.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Most of it is for the compiler.
SECONDS = 300.0
# With the path of this process, so that the same packages are found.
_CODE = "import sys; sys.path[:] = sys.argv[2:]; from gapsel.backends.gpu import trial; trial.examine(int(sys.argv[1]))"


def command(device: int) -> list[str]:
    """Return what examines a device in another process."""
    return [sys.executable or "python", "-c", _CODE, str(device), *sys.path]


def pass_once(mark: Path, command: Sequence[str], seconds: float = SECONDS) -> None:
    """Run a command, unless the file ``mark`` says that it went well before. Raises DeviceError if it does not."""
    if mark.exists():
        return
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        msg = f"its trial did not end within {seconds:g} seconds"
        raise DeviceError(msg) from None
    except OSError as error:
        msg = f"its trial cannot be started: {error}"
        raise DeviceError(msg) from None
    if done.returncode:
        last = "".join(done.stderr.strip().splitlines()[-1:])
        msg = f"its trial ended with {done.returncode}: {last or 'without a word'}"
        raise DeviceError(msg)
    keep(mark, b"")


def examine(index: int) -> None:
    """Hold a device's own kernel against the reference. Raises DeviceError if it disagrees, or is not there."""
    from gapsel.backends import selftest
    from gapsel.backends.gpu import GpuBackend
    from gapsel.backends.gpu.cupy_device import CupyDevice

    device = CupyDevice(index)
    if device.fused is None:
        msg = f"{device.facts.name} has no kernel of its own here"
        raise DeviceError(msg)
    selftest.examine(GpuBackend([device], trusted=True), selftest.FUSED_CASES)
