"""The one place that says how kernels are compiled for a GPU, and launched."""

from __future__ import annotations

import operator
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar, cast

import numpy as np
from numba import config, cuda

# A lesion is small for a GPU: numba would say so at most of the launches.
vars(config)["CUDA_LOW_OCCUPANCY_WARNINGS"] = 0

Function = TypeVar("Function", bound=Callable[..., object])

_WARP, _THREADS = 32, 128
"""Threads that a GPU runs in step, and those of a block, where there is work for so many."""

# The simulator has none of the GPU's own functions.
_multiply: Any = operator.mul if config.ENABLE_CUDASIM else import_module("numba.cuda.libdevice").dmul_rn


def kernel(function: Callable[..., None]) -> Any:
    """Compile `function` for the GPU when it is first launched, with the types of that launch; cached on disk."""
    return cuda.jit(cache=True)(function)


def device(function: Function) -> Function:
    """Compile `function` for calls from kernels."""
    return cast(Function, cuda.jit(device=True)(function))


def launch(compiled: Any, n: int, *arguments: Any) -> None:
    """Run a kernel with at least `n` threads, which must look at their own number."""
    threads = min(_THREADS, -(-n // _WARP) * _WARP)
    compiled[-(-n // threads), threads](*arguments)


@device
def product(a: float, b: float) -> float:
    """Return the product of two numbers, as doubles, rounded before anything is added to it.

    Of a plain product and a sum compilers make one operation, which rounds once where the CPU's kernels round twice.
    One that names its rounding is left alone. A product of two single precision numbers is exact here.
    """
    return _multiply(np.float64(a), np.float64(b))
