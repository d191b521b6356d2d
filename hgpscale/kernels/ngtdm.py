"""Grey tone difference: how far each voxel's level is from the mean of its neighbours'."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.cast import Box
from hgpscale.kernels.jit import kernel
from hgpscale.kernels.offsets import all_offsets


def sum_neighbours(
    flat: NDArray[np.int32], box: Box, distances: tuple[int, ...], across: int | None
) -> NDArray[np.int32]:
    """Return the sum of each voxel's neighbours.

    Parameters
    ----------
    flat
        Whole numbers in the padded, flattened box, 0 outside the region.
    box
        Where the region's voxels lie.
    distances
        Chebyshev distances of the neighbours.
    across
        The axis at right angles to the planes that neighbours lie in; None: in all directions.

    Returns
    -------
    ndarray
        int32, in the padded, flattened box; has no meaning outside the region.

    """
    total = np.zeros_like(flat)
    for distance in distances:
        # Voxels at a distance are a cube without the next smaller one.
        _add_cubes(flat, box.shape, _half_sides(distance, across), 1, total)
        _add_cubes(flat, box.shape, _half_sides(distance - 1, across), -1, total)
    return total


def _half_sides(distance: int, across: int | None) -> tuple[int, int, int]:
    z, y, x = (0 if axis == across else distance for axis in range(3))
    return z, y, x


def count_differences(
    bins: NDArray[np.int32],
    levels: NDArray[np.int64],
    box: Box,
    distances: tuple[int, ...],
    across: int | None,
    n_neighbour: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Add up differences between a voxel's level and its neighbours', by level and number of neighbours.

    Parameters
    ----------
    bins
        Grey level of each voxel of the region, int32, shape ``(n_voxel,)``.
    levels
        The levels found, ascending, shape ``(n_levels,)``.
    box
        Where the voxels lie.
    distances, across
        Which voxels are neighbours, as in `sum_neighbours`.
    n_neighbour
        `sum_neighbours` of 1 for each voxel: the number of neighbours in the region.

    Returns
    -------
    ndarray
        int64, shape ``(n_levels, most + 1)``, most being the number of neighbours that a voxel can have: sum of
        ``|n * level - sum of neighbours|`` over the voxels of the level with n neighbours; dividing by n gives the
        difference to their mean.

    """
    highest = int(levels[-1])
    rank_of = np.zeros(highest + 1, dtype=np.int64)
    rank_of[levels] = np.arange(levels.size)
    total = sum_neighbours(box.fill(bins, np.arange(highest + 1, dtype=np.int32)), box, distances, across)
    differences = np.zeros((levels.size, len(all_offsets(distances, across)) + 1), dtype=np.int64)
    _add_differences(differences, bins, rank_of, box.voxels, total, n_neighbour)
    return differences


@kernel
def _add_cubes(
    flat: NDArray[np.int32],
    shape: tuple[int, int, int],
    half: tuple[int, int, int],
    sign: int,
    total: NDArray[np.int32],
) -> None:
    """Add `sign` times the sum over a cube around each voxel, whose sides are twice `half` and one: axis by axis."""
    nz, ny, nx = shape
    plane = ny * nx
    along_x, along_xy = np.zeros(plane, dtype=np.int32), np.zeros(plane, dtype=np.int32)
    for z in range(nz):
        _add_up(flat[z * plane : (z + 1) * plane], 1, half[2], along_x)
        _add_up(along_x, nx, half[1], along_xy)
        for other in range(max(z - half[0], 0), min(z + half[0] + 1, nz)):
            there = total[other * plane : (other + 1) * plane]
            for k in range(plane):
                there[k] += sign * along_xy[k]


@kernel
def _add_up(values: NDArray[np.int32], step: int, half: int, sums: NDArray[np.int32]) -> None:
    """Sum each value with `half` ones before and after it, `step` apart; ends that lack some are left as they are."""
    n = values.size - 2 * half * step
    inner = sums[half * step : half * step + n]
    inner[:] = 0
    for i in range(2 * half + 1):
        part = values[i * step : i * step + n]
        for k in range(n):
            inner[k] += part[k]


@kernel
def _add_differences(
    differences: NDArray[np.int64],
    bins: NDArray[np.int32],
    rank_of: NDArray[np.int64],
    voxels: NDArray[np.int64],
    total: NDArray[np.int32],
    n_neighbour: NDArray[np.int32],
) -> None:
    table, width = differences.reshape(-1), differences.shape[1]
    for k in range(voxels.size):
        p = np.uint64(voxels[k])
        n = np.int64(n_neighbour[p])
        difference = abs(n * np.int64(bins[k]) - np.int64(total[p]))
        table[np.uint64(rank_of[np.uint64(bins[k])] * width + n)] += difference
