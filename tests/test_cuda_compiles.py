"""Every kernel compiled for every architecture that it is for, and what it takes of a multiprocessor kept in bounds."""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from cuda_compiler import CUDA, TABLE, CompileError, compiled

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NVRTC comes for Linux")

PORTABLE = ("75", "80", "90", "90a", "100")
# Of a block, without asking for more.
SHARED = 48 << 10


@dataclass(frozen=True)
class Build:
    """What a source is compiled for, with which settings, and the bytes a thread of it may spill."""

    architectures: tuple[str, ...] = PORTABLE
    settings: tuple[tuple[str, ...], ...] = ((),)
    spilled: int = 0


# Sources that are not compiled as all others are. A row's logits live in registers in the portable sweep, and the few
# words that the compiler cannot keep there are written and read outside its loops. Hopper's own is compiled for nothing
# else, and once for each of its settings.
BUILDS: dict[str, Build] = {
    "sweep.cu": Build(spilled=128),
    "sweep_sm90.cu": Build(
        architectures=("90a",),
        settings=tuple(
            (f"-DGAPSEL_COLUMNS={columns}", f"-DGAPSEL_EXACT={exact}", f"-DGAPSEL_NEAREST={nearest}")
            for columns, exact, nearest in itertools.product((128, 256), (0, 1), (0, 1))
        ),
    ),
}


def build(path: Path) -> Build:
    return BUILDS.get(path.name, Build())


CASES = [
    pytest.param(path, architecture, settings, id=" ".join([path.name, architecture, *settings]))
    for path in sorted(CUDA.glob("*.cu"))
    for architecture, settings in itertools.product(build(path).architectures, build(path).settings)
]


@pytest.mark.parametrize(("path", "architecture", "settings"), CASES)
def test_each_kernel_fits(
    path: Path, architecture: str, settings: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    found = compiled(path, architecture, settings)
    table = request.config.stash.setdefault(TABLE, {})
    shown = [setting.removeprefix("-DGAPSEL_") for setting in settings]
    table.setdefault(" ".join([path.name, *shown]), {})[architecture] = found.kernels
    assert not found.remarks
    assert found.kernels
    for kernel in found.kernels:
        # The launch bounds hold registers down to what a block can have; what they cost is spilled.
        assert kernel.spilled <= build(path).spilled, kernel
        assert kernel.stack <= build(path).spilled, kernel
        assert kernel.shared <= SHARED, kernel


def test_every_kernel_says_how_many_threads_it_allows() -> None:
    """Without, the compiler takes registers for 1,024 threads or for few, as it likes."""
    for path in CUDA.glob("*.cu*"):
        text = path.read_text(encoding="utf-8")
        assert text.count("__global__") == text.count("__launch_bounds__"), path.name


# The readers of the log


def test_what_the_assembler_says_is_read(tmp_path: Path) -> None:
    source = tmp_path / "greedy.cu"
    source.write_text(
        'extern "C" __global__ void __launch_bounds__(1024, 2) greedy(float* x, int n) {\n'
        "    __shared__ float tile[100];\n    float all[64];\n"
        "#pragma unroll\n    for (int i = 0; i < 64; i++) all[i] = x[i * n + threadIdx.x];\n"
        "    tile[threadIdx.x % 100] = all[0];\n    __syncthreads();\n"
        "#pragma unroll\n    for (int i = 0; i < 64; i++) x[i * n] = all[i] * tile[i] + all[63 - i];\n}\n",
        encoding="utf-8",
    )
    (kernel,) = compiled(source, "80").kernels
    assert (kernel.kernel, kernel.shared) == ("greedy", 400)
    assert kernel.registers <= 32
    assert kernel.spilled > 0


def test_what_does_not_compile(tmp_path: Path) -> None:
    source = tmp_path / "broken.cu"
    source.write_text('extern "C" __global__ void broken(float* x) { *x = nonsense; }\n', encoding="utf-8")
    with pytest.raises(CompileError, match="nonsense"):
        compiled(source, "80")
