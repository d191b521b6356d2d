"""Grey tone difference: how far each voxel's level is from the mean of its neighbours'."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.cast import Box
from hgpscale.kernels.jit import kernel


def sum_neighbours(flat: NDArray[np.int32], box: Box, offsets: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the sum of each voxel's neighbours.

    Parameters
    ----------
    flat
        Whole numbers in the padded, flattened box, 0 outside the region.
    box
        Where the region's voxels lie.
    offsets
        The neighbours ``(dz, dy, dx)``, shape ``(n_offset, 3)``.

    Returns
    -------
    ndarray
        int32, in the padded, flattened box; has no meaning outside the region.

    """
    return _sum_neighbours(flat, box.spans, box.steps(offsets))


def count_differences(
    bins: NDArray[np.int32],
    levels: NDArray[np.int64],
    box: Box,
    offsets: NDArray[np.int64],
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
    offsets
        The neighbours ``(dz, dy, dx)``, shape ``(n_offset, 3)``.
    n_neighbour
        `sum_neighbours` of 1 for each voxel: the number of neighbours in the region.

    Returns
    -------
    ndarray
        int64, shape ``(n_levels, n_offset + 1)``: sum of ``|n * level - sum of neighbours|`` over the voxels of the
        level with n neighbours; dividing by n gives the difference to their mean.

    """
    highest = int(levels[-1])
    rank_of = np.zeros(highest + 1, dtype=np.int64)
    rank_of[levels] = np.arange(levels.size)
    total = sum_neighbours(box.fill(bins, np.arange(highest + 1, dtype=np.int32)), box, offsets)
    differences = np.zeros((levels.size, len(offsets) + 1), dtype=np.int64)
    _add_differences(differences, bins, rank_of, box.voxels, total, n_neighbour)
    return differences


@kernel
def _sum_neighbours(flat: NDArray[np.int32], spans: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.int32]:
    total = np.zeros(flat.size, dtype=np.int32)
    for s in range(spans.shape[0]):
        first = np.uint64(spans[s, 0])
        length = np.uint64(spans[s, 1])
        for d in range(steps.size):
            there = np.uint64(spans[s, 0] + steps[d])
            for k in range(length):
                total[first + k] += flat[there + k]
    return total


@kernel
def _add_differences(
    differences: NDArray[np.int64],
    bins: NDArray[np.int32],
    rank_of: NDArray[np.int64],
    voxels: NDArray[np.int64],
    total: NDArray[np.int32],
    n_neighbour: NDArray[np.int32],
) -> None:
    for k in range(voxels.size):
        p = voxels[k]
        n = np.int64(n_neighbour[p])
        differences[rank_of[bins[k]], n] += abs(n * np.int64(bins[k]) - np.int64(total[p]))
