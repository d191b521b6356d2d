"""Arrays on the GPU, and what becomes of its errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from numba import config, cuda
from numpy.typing import DTypeLike, NDArray

from hgpscale.errors import GpuLostError, told
from hgpscale.kernels.cuda.jit import kernel, launch

_OUT_OF_MEMORY = 2
"""CUDA's own number for it, ``CUDA_ERROR_OUT_OF_MEMORY``."""

_CLEARED = 64
"""Numbers that one thread sets to zero."""


@contextmanager
def one_lesion() -> Iterator[None]:
    """Give errors of CUDA their Python names, and forget what numba keeps of arrays that are gone.

    Raises
    ------
    MemoryError
        The GPU's memory does not suffice.
    GpuLostError
        Any other error of CUDA.

    """
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("numba.cuda", "cuda.")):
            raise
        if getattr(error, "code", None) == _OUT_OF_MEMORY or "OUT_OF_MEMORY" in str(error):
            raise MemoryError("the GPU's memory ran out") from error
        raise GpuLostError(f"the GPU no longer answers: {told(error)}") from error
    finally:
        if not config.ENABLE_CUDASIM:
            # It remembers the shape of every array that there ever was: 1 kB each, some hundred a lesion.
            import_module("numba.cuda.cudadrv.dummyarray").Array.from_desc.cache_clear()


def free_bytes() -> float:
    """Return how many bytes of the GPU's memory nobody uses; infinite in numba's simulator."""
    context = cuda.current_context()
    if not config.ENABLE_CUDASIM:
        context.deallocations.clear()  # arrays that are gone, which numba frees some at a time
    return float(context.get_memory_info()[0])


def put(array: NDArray[Any], dtype: DTypeLike | None = None) -> Any:
    """Copy an array to the GPU, as another type if one is given."""
    return cuda.to_device(np.ascontiguousarray(array, dtype))


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> Any:
    """Return an array on the GPU with no meaning in it."""
    return cuda.device_array(shape, dtype=dtype)


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> Any:
    """Return an array of zeros on the GPU."""
    array = empty(shape, dtype)
    flat = array.reshape(-1)
    n_thread = -(-flat.size // _CLEARED)
    launch(_clear, n_thread, flat, n_thread)
    return array


@kernel
def _clear(flat: NDArray[Any], n_thread: int) -> None:
    thread = cuda.grid(1)
    if thread < n_thread:
        for k in range(thread, flat.size, n_thread):
            flat[k] = 0
