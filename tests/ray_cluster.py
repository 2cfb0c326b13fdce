"""A cluster of two machines on this one, one processor each, for the tests that need one."""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# Ray has no wheel for every Python that gapsel runs on.
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: it has no wheel for this Python")
_NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
_ATTEMPTS = 3


@contextmanager
def two_machines() -> Iterator[Any]:
    """Start a head and one more node, with RAY_ADDRESS set to it, and stop them."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    import ray

    nodes = _started()
    os.environ["RAY_ADDRESS"] = nodes.address
    try:
        yield nodes
    finally:
        del os.environ["RAY_ADDRESS"]
        ray.shutdown()
        nodes.shutdown()


def _started() -> Any:  # noqa: ANN401 - Ray's own
    """Start the nodes; on a machine with much else to do that may take longer than Ray waits."""
    from ray.cluster_utils import Cluster

    for attempt in range(_ATTEMPTS):
        nodes = Cluster()
        try:
            nodes.add_node(**_NODE, include_dashboard=False)
            nodes.add_node(**_NODE)
        except Exception as error:
            nodes.shutdown()
            if "timed out" not in str(error) or attempt == _ATTEMPTS - 1:
                raise
        else:
            return nodes
    raise AssertionError
