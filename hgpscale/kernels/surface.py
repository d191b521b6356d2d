"""The surface between a region and what is outside: cubes that it cuts, and points on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.jit import kernel


@kernel
def count_cubes(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count cubes of eight voxel centres by which of them belong to the region.

    Parameters
    ----------
    mask
        bool, shape ``(z, y, x)``, False on every side.

    Returns
    -------
    counts
        int64, shape ``(256,)``: cubes by configuration, see `features.mesh_table`; those wholly in or out are not
        counted.
    positions
        int64, shape ``(256, 3)``: the sum of their positions ``(z, y, x)``.

    """
    counts = np.zeros(256, dtype=np.int64)
    positions = np.zeros((256, 3), dtype=np.int64)
    nz, ny, nx = mask.shape
    for z in range(nz - 1):
        for y in range(ny - 1):
            for x in range(nx - 1):
                lower = mask[z, y, x] | mask[z, y, x + 1] << 1 | mask[z, y + 1, x + 1] << 2 | mask[z, y + 1, x] << 3
                upper = (
                    mask[z + 1, y, x] << 4
                    | mask[z + 1, y, x + 1] << 5
                    | mask[z + 1, y + 1, x + 1] << 6
                    | mask[z + 1, y + 1, x] << 7
                )
                code = lower | upper
                if code not in (0, 255):
                    counts[code] += 1
                    positions[code, 0] += z
                    positions[code, 1] += y
                    positions[code, 2] += x
    return counts, positions


def surface_points(mask: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Return the middles between each two neighbours of which one is in the region.

    Parameters
    ----------
    mask
        bool, shape ``(z, y, x)``, False on every side.

    Returns
    -------
    ndarray
        int16, shape ``(n, 3)``: ``(z, y, x)`` in half voxels, in raster order.

    """
    return _surface_points(mask, 6 * int(np.count_nonzero(mask)))


@kernel
def _surface_points(mask: NDArray[np.bool_], most: int) -> NDArray[np.int16]:
    nz, ny, nx = mask.shape
    found = np.empty((most, 3), dtype=np.int16)
    n = 0
    for z in range(nz - 1):
        for y in range(ny - 1):
            for x in range(nx - 1):
                if mask[z, y, x] != mask[z, y, x + 1]:
                    found[n, 0] = 2 * z
                    found[n, 1] = 2 * y
                    found[n, 2] = 2 * x + 1
                    n += 1
            for x in range(nx - 1):
                if mask[z, y, x] != mask[z, y + 1, x]:
                    found[n, 0] = 2 * z
                    found[n, 1] = 2 * y + 1
                    found[n, 2] = 2 * x
                    n += 1
        for y in range(ny - 1):
            for x in range(nx - 1):
                if mask[z, y, x] != mask[z + 1, y, x]:
                    found[n, 0] = 2 * z + 1
                    found[n, 1] = 2 * y
                    found[n, 2] = 2 * x
                    n += 1
    return found[:n]


def corners_by_plane(points: NDArray[np.int16], axis: int) -> NDArray[np.int64]:
    """Return which points are corners of the convex hull of those in their plane across `axis`.

    Only they can be ends of a longest distance. Exact: the points are whole numbers, and scaling an axis keeps a
    hull's corners.

    Parameters
    ----------
    points
        int16, shape ``(n, 3)``, in raster order.
    axis
        0, 1 or 2.

    Returns
    -------
    ndarray
        Indices of the corners, int64, plane by plane.

    """
    order = np.argsort(points[:, axis], kind="stable")
    plane = points[order, axis]
    u, v = (points[order, other].astype(np.int64) for other in range(3) if other != axis)
    ends = np.flatnonzero(np.append(plane[1:] != plane[:-1], True)) + 1
    return order[_hull_corners(u, v, ends)]


@kernel
def _hull_corners(u: NDArray[np.int64], v: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Andrew's monotone chain for each plane: points are sorted by u, then v."""
    corner = np.zeros(u.size, dtype=np.bool_)
    chain = np.empty(u.size, dtype=np.int64)
    first = 0
    for end in ends:
        for backwards in (False, True):
            n = 0
            for k in range(end - first):
                p = end - 1 - k if backwards else first + k
                while n >= 2 and not _turns_left(u, v, chain[n - 2], chain[n - 1], p):
                    n -= 1
                chain[n] = p
                n += 1
            for k in range(n):
                corner[chain[k]] = True
        first = end
    return np.flatnonzero(corner)


@kernel
def _turns_left(u: NDArray[np.int64], v: NDArray[np.int64], a: int, b: int, c: int) -> bool:
    return (u[b] - u[a]) * (v[c] - v[a]) - (v[b] - v[a]) * (u[c] - u[a]) > 0
