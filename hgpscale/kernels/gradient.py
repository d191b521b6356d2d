"""Magnitude of the gradient by central differences, in ``itk::GradientMagnitudeImageFilter``'s order of operations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.jit import kernel


@kernel
def gradient_magnitude(voxels: NDArray[Any], z: float, y: float, x: float, out: NDArray[np.float32]) -> None:
    """Compute the magnitude at each voxel but the outermost, in double, rounded to single precision.

    Parameters
    ----------
    voxels
        Any type, shape ``(nz + 2, ny + 2, nx + 2)``.
    z, y, x
        What a difference of two neighbours counts along each axis: half of one over the spacing.
    out
        float32, shape ``(nz, ny, nx)``; overwritten.

    """
    nz, ny, nx = out.shape
    for i in range(nz):
        for j in range(ny):
            here, there = voxels[i + 1, j + 1], out[i, j]
            below, above, before, after = voxels[i, j + 1], voxels[i + 2, j + 1], voxels[i + 1, j], voxels[i + 1, j + 2]
            for k in range(nx):
                gx = np.float64(here[k + 2]) * x - np.float64(here[k]) * x
                gy = np.float64(after[k + 1]) * y - np.float64(before[k + 1]) * y
                gz = np.float64(above[k + 1]) * z - np.float64(below[k + 1]) * z
                there[k] = np.float32(np.sqrt(gx * gx + gy * gy + gz * gz))
