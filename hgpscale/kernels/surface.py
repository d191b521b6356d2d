"""Where a region is: its rows, the cubes that its surface cuts, and points on that surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.jit import kernel


@kernel
def row_sums(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Sum over the voxels of each row.

    Parameters
    ----------
    mask
        bool, shape ``(n_row, x)``.

    Returns
    -------
    ndarray
        int64, shape ``(3, n_row)``: number of voxels, sum of their x, and of its square.

    """
    n_row, nx = mask.shape
    sums = np.zeros((3, n_row), dtype=np.int64)
    for row in range(n_row):
        count, first, second = np.int64(0), np.int64(0), np.int64(0)
        for x in range(nx):
            inside = np.int64(mask[row, x])
            count += inside
            first += inside * x
            second += inside * x * x
        sums[0, row], sums[1, row], sums[2, row] = count, first, second
    return sums


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
    codes = np.empty(nx - 1, dtype=np.uint8)
    for z in range(nz - 1):
        for y in range(ny - 1):
            _code_row(mask[z, y], mask[z, y + 1], mask[z + 1, y], mask[z + 1, y + 1], codes)
            for x in range(nx - 1):
                code = codes[x]
                if code != 0 and code != 255:
                    counts[code] += 1
                    positions[code, 0] += z
                    positions[code, 1] += y
                    positions[code, 2] += x
    return counts, positions


@kernel
def _code_row(
    near: NDArray[np.bool_],
    far: NDArray[np.bool_],
    near_above: NDArray[np.bool_],
    far_above: NDArray[np.bool_],
    codes: NDArray[np.uint8],
) -> None:
    """Write the configurations of a row of cubes between four rows of voxels, at y and y + 1, z and z + 1."""
    for x in range(codes.size):
        lower = near[x] | near[x + 1] << 1 | far[x + 1] << 2 | far[x] << 3
        upper = near_above[x] << 4 | near_above[x + 1] << 5 | far_above[x + 1] << 6 | far_above[x] << 7
        codes[x] = lower | upper


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
    places = points[:, axis]
    ends = np.cumsum(np.bincount(places))
    u, v = (other for other in range(3) if other != axis)
    return _hull_corners(points, np.argsort(places, kind="stable"), ends, u, v)


@kernel
def _hull_corners(
    points: NDArray[np.int16], order: NDArray[np.int64], ends: NDArray[np.int64], u: int, v: int
) -> NDArray[np.int64]:
    """Andrew's monotone chain in each plane: `order` lists the points plane by plane, in each by u, then v."""
    corners = np.empty(order.size, dtype=np.int64)
    is_corner = np.zeros(order.size, dtype=np.bool_)
    chain = np.empty(order.size, dtype=np.int64)
    n_corner = 0
    first = 0
    for end in ends:
        for backwards in (False, True):
            n = 0
            for k in range(end - first):
                p = order[end - 1 - k if backwards else first + k]
                while n >= 2 and not _turns_left(points, u, v, chain[n - 2], chain[n - 1], p):
                    n -= 1
                chain[n] = p
                n += 1
            for k in range(n):
                is_corner[chain[k]] = True
        for k in range(first, end):
            if is_corner[order[k]]:
                corners[n_corner] = order[k]
                n_corner += 1
        first = end
    return corners[:n_corner]


@kernel
def _turns_left(points: NDArray[np.int16], u: int, v: int, a: int, b: int, c: int) -> bool:
    au, av = np.int64(points[a, u]), np.int64(points[a, v])
    bu, bv = np.int64(points[b, u]), np.int64(points[b, v])
    cu, cv = np.int64(points[c, u]), np.int64(points[c, v])
    return bool((bu - au) * (cv - av) - (bv - av) * (cu - au) > 0)
