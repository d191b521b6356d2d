"""Compile every kernel for a GPU to PTX and assemble it. Needs no GPU and no driver.

    make gpu-compile [CUDA=13]
    python benchmarks/gpu_compile.py [--capabilities 7.0 8.0 9.0]

Prints what each kernel takes; exits with 1 if one is never launched, cannot be compiled, spills registers, contracts
products and sums, or counts and has an instruction on floating point numbers: counts are integers. Needs numba-cuda
with CUDA's compiler, and ptxas.
"""

from __future__ import annotations

import argparse
import platform
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import gpu_launches
import gpu_ptxas
import numpy as np
from gpu_ptxas import Capability, Row
from numba import cuda, types
from numba.np.numpy_support import from_dtype

PACKAGES = ("numpy", "numba", "numba-cuda", "cuda-bindings", "nvidia-cuda-nvcc-cu12", "nvidia-nvvm", "nvidia-cuda-nvcc")
HEAD = "kernel | compute capability | registers | shared | stack | spill stores | spill loads | floating | f64 | fma"


def capability(text: str) -> Capability:
    """Read `8.0`."""
    major, minor = text.split(".")
    return int(major), int(minor)


def typed(name: str) -> Any:
    """Return numba's type of that name."""
    array = re.fullmatch(r"array\((\w+), (\d+)d, (\w)\)", name)
    if array:
        return types.Array(from_dtype(np.dtype(array[1])), int(array[2]), array[3])
    return from_dtype(np.dtype(name))


def compiled(kernel: Any, name: str, arguments: list[str], at: Capability) -> Row:
    """Compile and assemble one kernel."""
    try:
        ptx, _ = cuda.compile_ptx(kernel.py_func, tuple(map(typed, arguments)), cc=at, device=False)
        return Row(name, at, gpu_ptxas.assemble(gpu_ptxas.find(), ptx, at), gpu_ptxas.floating(ptx))
    except Exception as error:  # noqa: BLE001 (numba's, NVVM's or ptxas': it is told)
        return Row(name, at, error=f"cannot be compiled: {' '.join(str(error).split())[-500:]}")


def compiled_for(at: Capability, launches: gpu_launches.Launches) -> list[Row]:
    """Compile all kernels for one compute capability.

    Numba asks the GPU that is there which one it compiles device functions for, so this one is put in its place. It
    keeps them: hence a process for each.
    """
    with patch("numba.cuda.dispatcher.get_current_device", lambda: SimpleNamespace(compute_capability=at)):
        return [
            compiled(kernel, name, arguments, at)
            for name, kernel in gpu_launches.kernels().items()
            for arguments in launches.get(name, [])
        ]


def versions() -> str:
    """Name Python, the packages that there are, and ptxas."""
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join([*found, gpu_ptxas.version(gpu_ptxas.find())])


def main() -> int:
    """Compile and tell; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capabilities", type=capability, nargs="+", default=[(7, 0), (8, 0), (9, 0)])
    chosen = parser.parse_args()
    print(versions(), flush=True)
    launches = gpu_launches.in_the_simulator()
    with ProcessPoolExecutor(2, get_context("spawn"), max_tasks_per_child=1) as pool:
        found = pool.map(compiled_for, chosen.capabilities, [launches] * len(chosen.capabilities))
        rows = sorted((row for rows in found for row in rows), key=lambda row: row[:2])
    print(f"\n| {HEAD} |\n{'|---' * (HEAD.count('|') + 1)}|")
    for row in rows:
        print(row)
    names = gpu_launches.kernels()
    wrong = [f"{row.kernel} for {'{}.{}'.format(*row.capability)}: {row.wrong}" for row in rows if row.wrong]
    wrong += [
        f"{name}: none of benchmarks/gpu_kernels.py, gpu_filters.py and gpu_values.py launches it"
        for name in names
        if name not in launches
    ]
    for line in ["", *wrong]:
        print(line)
    print(f"gpu-compile: {len(names)} kernels, {len(chosen.capabilities)} compute capabilities, {len(wrong)} wrong")
    return int(bool(wrong) or not names)


if __name__ == "__main__":
    sys.exit(main())
