"""The machines of a plan: this one, from what was measured on it, and others, from stated constants.

No GPU has been measured for this model. What one does is its data sheet's figure times a share that is assumed; the
rest of such a machine (disks, network, memory) is assumed outright. All of it stands here and in docs/scale.md.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gapsel.plan.cost import ON_DEVICES, Machine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gapsel.plan.cost import Kind

# NVIDIA H200 SXM, data sheet: 1,979 TFLOP/s of float16 with sparsity, which is half of that without; 141 GB; PCIe 5
# x16, 128 GB/s in both directions together.
GPU_NAME = "NVIDIA H200"
GPU_FLOP, GPU_MEMORY, GPU_STREAM = 989e12, 141e9, 64e9
# Assumed: the share of that rate that a look, a Gram and the encoder reach; that an exact look takes three products,
# as float32 in two parts of float16 does; the share of memory that the pool may have.
SWEEP_SHARE, ENCODER_SHARE, PRODUCTS, POOL_SHARE = 0.4, 0.3, 3, 0.85
# Assumed of a node: memory for the page cache, what its disks give, its network (100 Gbit/s), Newton steps on its
# cores: products of a matrix with a vector, at 200 GB/s of memory.
NODE_MEMORY, NODE_DISK, NODE_NETWORK, NODE_SOLVE = 1e12, 5e9, 12.5e9, 5e10


def here(rates: Mapping[Kind, float], threads: int, name: str) -> Machine:
    """Return this machine."""
    return Machine(name=name, rates=rates, threads=threads)


def gpus(each: int, nodes: int, host: Mapping[Kind, float], token_flop: float, loss_flop: float = 0.0) -> Machine:
    """Return ``nodes`` machines of ``each`` GPUs; ``host`` has the rates of what a host does by itself.

    ``token_flop`` are those of a token of the encoder, ``loss_flop`` of the model that says losses.
    """
    sweep = SWEEP_SHARE * GPU_FLOP
    rates: dict[Kind, float] = dict(host)
    rates |= {"exact": sweep / PRODUCTS, "rough": sweep, "gram": sweep, "solve": NODE_SOLVE}
    rates["token"], rates["loss"] = (
        ENCODER_SHARE * GPU_FLOP / flop if flop else float("inf") for flop in (token_flop, loss_flop)
    )
    return Machine(
        name=f"{nodes} x {each} {GPU_NAME}" if nodes > 1 else f"{each} {GPU_NAME}",
        rates=rates,
        stated=ON_DEVICES | {"solve"},
        devices=each * nodes,
        nodes=nodes,
        device_memory=POOL_SHARE * GPU_MEMORY,
        host_memory=NODE_MEMORY,
        stream=GPU_STREAM,
        disk=NODE_DISK,
        network=NODE_NETWORK if nodes > 1 else 0.0,
    )


def token_flop(layers: int, hidden: int, intermediate: int, width: float) -> float:
    """Return the FLOP of a token: 2 for each weight of the layers' products, and attention over a text of ``width``."""
    return layers * (2.0 * (4 * hidden**2 + 2 * hidden * intermediate) + 4.0 * hidden * width)


@dataclass(frozen=True, slots=True)
class Room:
    """What there is: bytes of memory that are free, bytes free where the run folder would lie."""

    memory: float
    disk: float


def room(folder: str, limit: float = float("inf")) -> Room:
    """Return what there is here; a run may hold no more memory than ``limit``."""
    stats = os.statvfs(folder)
    return Room(min(_free_memory(), limit), float(stats.f_bavail) * stats.f_frsize)


def _free_memory() -> float:
    """Return the memory that can be had without swapping; all of it where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 - no path of a user
            found = dict(line.split(":", 1) for line in file)
        return 1024.0 * int(found["MemAvailable"].split()[0])
    except (OSError, KeyError):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def held() -> float:
    """Return the memory that this process holds beyond mapped files, in bytes."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123 - no path of a user
            found = dict(line.split(":", 1) for line in file)
        return 1024.0 * int(found["RssAnon"].split()[0])
    except (OSError, KeyError):
        import resource

        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024
