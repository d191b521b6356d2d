"""Which kernels there are for a GPU, and with which types they are launched.

    NUMBA_ENABLE_CUDASIM=1 python benchmarks/gpu_launches.py

Runs every call of `gpu_kernels.py`, `gpu_filters.py` and `gpu_values.py` on something small in numba's simulator and
prints, as JSON, the arguments' types of each launch by kernel: so they are those of real launches, and a kernel that
nobody launches is noticed.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import warnings
from types import ModuleType
from typing import Any

import gpu_filters
import gpu_kernels
import gpu_values
import numba
import numpy as np

import hgpscale.kernels.cuda
from hgpscale.kernels.cuda import jit

Launches = dict[str, list[list[str]]]


def modules() -> list[ModuleType]:
    """Import all modules of the kernels for a GPU."""
    package = hgpscale.kernels.cuda
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [importlib.import_module(module.name) for module in found]


def name_of(function: Any) -> str:
    """Name a kernel by its module and itself."""
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def kernels() -> dict[str, Any]:
    """Find all kernels, as what `cuda.jit` returned, by name. Not in the simulator."""
    values = [value for module in modules() for value in vars(module).values() if hasattr(value, "py_func")]
    # Modules also hold device functions, and functions for the CPU that they call.
    here = [value for value in values if value.py_func.__module__.startswith(hgpscale.kernels.cuda.__name__)]
    return {name_of(value.py_func): value for value in here if not value.targetoptions.get("device")}


def recorded() -> Launches:
    """Launch all kernels in the simulator and return the types of their arguments, each list of them once."""
    launches: Launches = {}

    def launch(compiled: Any, n: int, *arguments: Any) -> None:
        types = [str(numba.typeof(getattr(argument, "_ary", argument))) for argument in arguments]
        seen = launches.setdefault(name_of(compiled.fn), [])
        if types not in seen:
            seen.append(types)
        jit.launch(compiled, n, *arguments)

    for module in modules():
        if module is not jit and hasattr(module, "launch"):
            vars(module)["launch"] = launch
    region = gpu_kernels.lay(np.ones((2, 2, 2), bool), [np.array([1, 2] * 4, np.int32)] * 2, 1)
    for follow in (True, False):
        for kernel in gpu_kernels.kernels(region, (1,), None, follow, 0):
            kernel.on_gpu()
            if kernel.resident:
                kernel.resident()
    rng = np.random.default_rng(0)
    for kernel in [*gpu_filters.kernels((6, 6, 6), rng), *gpu_values.kernels(*gpu_values.ball(5, 2, rng))]:
        kernel.on_gpu()
    return launches


def in_the_simulator() -> Launches:
    """Return `recorded` of a process of its own: whether numba simulates is settled when it is imported."""
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, __file__], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    launches: Launches = json.loads(done.stdout)
    return launches


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*[Gg]rid size")
    json.dump(recorded(), sys.stdout, indent=1)
