"""The cluster itself: joined by its address, or started here; what of it can be lost, and shared numbers."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from typing import Any, Generic, TypeVar

from gapsel.errors import MissingDependencyError, ResourceError

Value = TypeVar("Value")

# Seconds that an address may take to answer.
_PATIENCE = 10.0
# Read by Ray when it is imported: no statistics are sent, no advice about accelerators is printed.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
_HERE = ("", "local")


def join() -> None:
    """Join the cluster at RAY_ADDRESS, or start a Ray on this machine; once in a process.

    A Ray that was started here ends with the process. Raises ResourceError where there is none or it refuses,
    MissingDependencyError without Ray.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        msg = "the cluster needs Ray: install gapsel[ray], on this machine and on those of the cluster"
        raise MissingDependencyError(msg) from error
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS", "")
    _check_answers(address)
    alone: dict[str, Any] = {"include_dashboard": False} if address in _HERE else {}
    ended_by = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address or "local", logging_level=logging.ERROR, log_to_driver=False, **alone)
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreachable(address, str(error).strip().split("\n", 1)[0]) from error
    if callable(ended_by) and threading.current_thread() is threading.main_thread():
        # Ray puts a handler of its own in its place.
        signal.signal(signal.SIGTERM, ended_by)


def _check_answers(address: str) -> None:
    """Raise ResourceError where nobody listens: Ray itself would try for a minute, and then end the process."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, ValueError) as error:
        raise _unreachable(address, str(error)) from error


def _unreachable(address: str, why: str) -> ResourceError:
    if address in _HERE:
        return ResourceError(f"Ray does not start on this machine ({why}): free memory and disk, or go without --ray")
    return ResourceError(
        f"the Ray cluster at RAY_ADDRESS={address} cannot be reached ({why}): start it (ray start --head), correct the "
        "address, or unset it to use this machine"
    )


def has_gpus() -> bool:
    """Tell whether a machine of the cluster has a GPU."""
    import ray

    return bool(ray.cluster_resources().get("GPU", 0))


def is_loss(error: BaseException) -> bool:
    """Tell whether an error says that something Ray held is gone: an object, a process, a machine."""
    import ray

    return isinstance(error, ray.exceptions.RayError)


class Shared(Generic[Value]):
    """A value that all workers read: put into the object store once, and again if it is lost there."""

    def __init__(self, value: Value) -> None:
        self.value = value
        self._reference: list[Any] = []

    def reference(self) -> list[Any]:
        """Return the object's reference; in a list, so that Ray hands it over as it is."""
        if not self._reference:
            import ray

            self._reference = [ray.put(self.value)]
        return self._reference

    def forget(self) -> None:
        """Put it there anew the next time."""
        self._reference = []


def fetched(reference: list[Any]) -> Any:  # noqa: ANN401 - whatever was put there
    """Return the object of a reference."""
    import ray

    return ray.get(reference[0])
