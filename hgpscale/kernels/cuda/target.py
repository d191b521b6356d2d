"""A GPU as a place where images are made."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import DTypeLike, NDArray

from hgpscale.kernels.cuda import bspline, recursive_gaussian, wavelet
from hgpscale.kernels.cuda.stack import zeros
from hgpscale.kernels.target import Target


def _put(array: NDArray[Any], dtype: DTypeLike) -> Any:
    return cuda.to_device(np.ascontiguousarray(array, dtype))


def _empty(shape: tuple[int, ...], dtype: DTypeLike) -> Any:
    return cuda.device_array(shape, dtype)


GPU = Target(
    _put,
    _empty,
    zeros,
    wavelet.cut,
    wavelet.convolve,
    recursive_gaussian.filter_lines,
    recursive_gaussian.add_scaled,
    bspline.spline_coefficients,
    bspline.interpolate_box,
)
"""The GPU that numba has chosen for this process."""
