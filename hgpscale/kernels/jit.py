"""The one place that says how kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def kernel(function: Function) -> Function:
    """Compile `function` for the CPU: serial, without the GIL, cached on disk.

    No fast-math: results must be the same bits as those of the reference, on every machine.
    """
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
