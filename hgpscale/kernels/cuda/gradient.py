"""Magnitude of the gradient, in ITK's order of operations: each thread computes one voxel's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from hgpscale.kernels.cuda.jit import device, kernel, launch, product


def gradient_magnitude(voxels: Any, z: float, y: float, x: float, out: Any) -> None:
    """Compute the magnitude: `hgpscale.kernels.gradient.gradient_magnitude` of arrays that are on the GPU."""
    launch(_magnitude, out.size, voxels, z, y, x, out)


@kernel
def _magnitude(voxels: NDArray[Any], z: float, y: float, x: float, out: NDArray[np.float32]) -> None:
    thread = cuda.grid(1)
    if thread >= out.size:
        return
    ny, nx = out.shape[1], out.shape[2]
    i, j, k = thread // nx // ny, thread // nx % ny, thread % nx
    gx = _difference(voxels[i + 1, j + 1, k + 2], voxels[i + 1, j + 1, k], x)
    gy = _difference(voxels[i + 1, j + 2, k + 1], voxels[i + 1, j, k + 1], y)
    gz = _difference(voxels[i + 2, j + 1, k + 1], voxels[i, j + 1, k + 1], z)
    out[i, j, k] = np.float32(math.sqrt(product(gx, gx) + product(gy, gy) + product(gz, gz)))


@device
def _difference(after: float, before: float, weight: float) -> float:
    return product(after, weight) - product(before, weight)
