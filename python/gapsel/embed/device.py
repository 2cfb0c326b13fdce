"""Where a model runs and in which numbers, if nobody says so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gapsel.errors import UsageError

if TYPE_CHECKING:
    import torch

DType = Literal["auto", "float32", "bfloat16", "float16"]


def device_named(device: str) -> torch.device:
    """Return the device meant: "auto" is CUDA where there is one. Raises UsageError for one that is not there."""
    import torch

    available = torch.cuda.is_available()
    if device == "auto":
        return torch.device("cuda" if available else "cpu")
    try:
        where = torch.device(device)
    except RuntimeError as error:
        msg = f"device {device!r} is not one that torch knows: use auto, cpu or cuda:0"
        raise UsageError(msg) from error
    if where.type == "cuda" and (where.index or 0) >= torch.cuda.device_count():
        msg = f"device {device!r} is not there; torch sees {torch.cuda.device_count()} CUDA devices: use auto or cpu"
        raise UsageError(msg)
    return where


def dtype_named(dtype: DType, device: torch.device) -> torch.dtype:
    """Return the dtype meant: "auto" is bfloat16 where the device multiplies it natively, else float32."""
    import torch

    if dtype == "float16" and device.type != "cuda":
        msg = f"dtype float16 is for CUDA devices, and the device is {device}: use bfloat16 or float32"
        raise UsageError(msg)
    if dtype != "auto":
        named: torch.dtype = getattr(torch, dtype)
        return named
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bf16()
    return torch.bfloat16 if native and device.type in ("cuda", "cpu") else torch.float32


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware; emulated, it would be slower than float32."""
    import torch

    flags = ("avx512_bf16", "amx_bf16")
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(flag, False) for flag in flags)
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and any(flag in cpuinfo.read_text().split() for flag in flags)
