"""The one place that says how kernels are compiled for a GPU, and launched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import cuda

Function = TypeVar("Function", bound=Callable[..., object])

_THREADS = 128


def kernel(function: Callable[..., None]) -> Any:
    """Compile `function` for the GPU when it is first launched; its parameters' types are those of that launch."""
    return cuda.jit(function)


def device(function: Function) -> Function:
    """Compile `function` for calls from kernels."""
    return cast(Function, cuda.jit(device=True)(function))


def launch(compiled: Any, n: int, *arguments: Any) -> None:
    """Run a kernel with at least `n` threads, which must look at their own number."""
    compiled[-(-n // _THREADS), _THREADS](*arguments)
