"""Arrays on the GPU: where its memory does not suffice, Python's own `MemoryError` says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import DTypeLike, NDArray

from hgpscale.kernels.cuda.jit import kernel, launch

_OUT_OF_MEMORY = 2
"""CUDA's own number for it, ``CUDA_ERROR_OUT_OF_MEMORY``."""

_CLEARED = 64
"""Numbers that one thread sets to zero."""


def free_bytes() -> float:
    """Return how many bytes of the GPU's memory nobody uses; infinite in numba's simulator."""
    return float(cuda.current_context().get_memory_info()[0])


def put(array: NDArray[Any], dtype: DTypeLike | None = None) -> Any:
    """Copy an array to the GPU, as another type if one is given."""
    whole = np.ascontiguousarray(array, dtype)
    with _shortage_told(whole.nbytes):
        return cuda.to_device(whole)


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> Any:
    """Return an array on the GPU with no meaning in it."""
    with _shortage_told(int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize):
        return cuda.device_array(shape, dtype=dtype)


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> Any:
    """Return an array of zeros on the GPU."""
    array = empty(shape, dtype)
    flat = array.reshape(-1)
    n_thread = -(-flat.size // _CLEARED)
    launch(_clear, n_thread, flat, n_thread)
    return array


@contextmanager
def _shortage_told(n_byte: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if getattr(error, "code", None) != _OUT_OF_MEMORY:
            raise
        raise MemoryError(f"the GPU has no room for another {n_byte} bytes") from error


@kernel
def _clear(flat: NDArray[Any], n_thread: int) -> None:
    thread = cuda.grid(1)
    if thread < n_thread:
        for k in range(thread, flat.size, n_thread):
            flat[k] = 0
