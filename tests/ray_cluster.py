"""A cluster of several machines on this one, one processor each, and a plain Ray, for the tests that need one."""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Ray has no wheel for every Python that gapsel runs on.
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: it has no wheel for this Python")
_NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
_ATTEMPTS = 3


@contextmanager
def two_machines(**each: int) -> Iterator[Any]:
    """Start a head and one more node, with RAY_ADDRESS set to it, and stop them; ``each`` has things of Ray's."""
    os.environ |= _QUIET
    import ray

    with pytest.MonkeyPatch.context() as environment:
        # Workers find what tests share where the tests do.
        environment.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        nodes = _started(each)
        environment.setenv("RAY_ADDRESS", nodes.address)
        try:
            yield nodes
        finally:
            ray.shutdown()
            nodes.shutdown()


@contextmanager
def one_machine() -> Iterator[None]:
    """Start a Ray with two processors, and stop it; it begins sooner than two machines."""
    os.environ |= _QUIET
    import ray

    ray.init("local", num_cpus=2, object_store_memory=80 << 20, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def _started(each: Mapping[str, int]) -> Any:  # noqa: ANN401 - Ray's own
    """Start the nodes; on a machine with much else to do that may take longer than Ray waits."""
    from ray.cluster_utils import Cluster

    for attempt in range(_ATTEMPTS):
        nodes = Cluster()
        try:
            nodes.add_node(**_NODE, **each, include_dashboard=False)
            nodes.add_node(**_NODE, **each)
        except Exception as error:
            nodes.shutdown()
            if "timed out" not in str(error) or attempt == _ATTEMPTS - 1:
                raise
        else:
            return nodes
    raise AssertionError
