"""The surface of a region: each thread looks at one cube, or along one row of edges."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from hgpscale.kernels.cuda.jit import device, kernel, launch
from hgpscale.kernels.cuda.memory import empty, put, zeros

_ALONG = 3
"""Kinds of rows: of edges along x, along y and along z."""


def count_cubes(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count cubes by configuration: `hgpscale.kernels.surface.count_cubes` on the GPU."""
    z, y, x = (n - 1 for n in mask.shape)
    found = zeros((256, 4), np.int64)
    launch(_count_cubes, z * y * x, put(mask), found)
    counts = np.asarray(found.copy_to_host())
    return counts[:, 0].copy(), counts[:, 1:].copy()


def surface_points(mask: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Return the middles of the edges that the surface cuts: `hgpscale.kernels.surface.surface_points` on the GPU."""
    nz, ny, _ = mask.shape
    there = put(mask)
    n_row = _ALONG * (nz - 1) * (ny - 1)
    n_cut = empty((n_row,), np.int32)
    launch(_count_cuts, n_row, there, n_cut)
    # Rows one after the other: so points are in raster order.
    ends = np.cumsum(n_cut.copy_to_host(), dtype=np.int64)
    points = empty((max(int(ends[-1]), 1), 3), np.int16)
    launch(_write_cuts, n_row, there, put(np.concatenate([[0], ends])), points)
    return np.asarray(points.copy_to_host()[: ends[-1]])


@kernel
def _count_cubes(mask: NDArray[np.bool_], found: Any) -> None:
    thread = cuda.grid(1)
    ny, nx = mask.shape[1] - 1, mask.shape[2] - 1
    if thread >= (mask.shape[0] - 1) * ny * nx:
        return
    z, y, x = thread // nx // ny, thread // nx % ny, thread % nx
    lower = mask[z, y, x] | mask[z, y, x + 1] << 1 | mask[z, y + 1, x + 1] << 2 | mask[z, y + 1, x] << 3
    upper = mask[z + 1, y, x] | mask[z + 1, y, x + 1] << 1 | mask[z + 1, y + 1, x + 1] << 2 | mask[z + 1, y + 1, x] << 3
    code = lower | upper << 4
    if code != 0 and code != 255:
        cuda.atomic.add(found, (code, 0), 1)
        cuda.atomic.add(found, (code, 1), z)
        cuda.atomic.add(found, (code, 2), y)
        cuda.atomic.add(found, (code, 3), x)


@device
def _place(row: int, ny: int) -> tuple[int, int, int, int, int]:
    """Return where a row of edges begins, and what an edge leads to; in a plane rows along x and y take turns."""
    z, left = row // (_ALONG * ny), row % (_ALONG * ny)
    if left >= 2 * ny:
        return z, left - 2 * ny, 1, 0, 0
    if left % 2 == 1:
        return z, left // 2, 0, 1, 0
    return z, left // 2, 0, 0, 1


@kernel
def _count_cuts(mask: NDArray[np.bool_], n_cut: NDArray[np.int32]) -> None:
    row = cuda.grid(1)
    if row >= n_cut.size:
        return
    z, y, dz, dy, dx = _place(row, mask.shape[1] - 1)
    n = 0
    for x in range(mask.shape[2] - 1):
        if mask[z, y, x] != mask[z + dz, y + dy, x + dx]:
            n += 1
    n_cut[row] = n


@kernel
def _write_cuts(mask: NDArray[np.bool_], first: NDArray[np.int64], points: NDArray[np.int16]) -> None:
    row = cuda.grid(1)
    if row >= first.size - 1:
        return
    z, y, dz, dy, dx = _place(row, mask.shape[1] - 1)
    n = 0
    for x in range(mask.shape[2] - 1):
        if mask[z, y, x] != mask[z + dz, y + dy, x + dx]:
            point = first[row] + n
            points[point, 0] = 2 * z + dz
            points[point, 1] = 2 * y + dy
            points[point, 2] = 2 * x + dx
            n += 1
