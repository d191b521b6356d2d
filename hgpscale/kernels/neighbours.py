"""Neighbours of each voxel: dependence (GLDM) and difference to their mean (NGTDM), in one sweep."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.cast import LevelGrid
from hgpscale.kernels.jit import kernel
from hgpscale.kernels.offsets import all_offsets


class NeighbourCounts(NamedTuple):
    """What the sweep counts, by rank - 1 along the first axis.

    Attributes
    ----------
    dependence
        int64, shape ``(n_levels, n_offset + 1)``: voxels with j dependent neighbours.
    voxels
        int64, shape ``(n_levels,)``: voxels.
    difference
        int64, shape ``(n_levels, n_offset + 1)``: sum of ``|n * level - sum of neighbours|`` over the voxels with
        n neighbours; dividing by n gives NGTDM's difference.

    """

    dependence: NDArray[np.int64]
    voxels: NDArray[np.int64]
    difference: NDArray[np.int64]


def count_neighbours(
    grid: LevelGrid, levels: NDArray[np.int64], distances: tuple[int, ...], alpha: int
) -> NeighbourCounts:
    """Count over all neighbours, in both directions, at the given distances.

    Parameters
    ----------
    grid
        The region.
    levels
        Grey level of each rank, shape ``(n_levels,)``.
    distances
        Chebyshev distances in voxels.
    alpha
        Largest difference of level at which a neighbour is dependent (pyradiomics' ``gldm_a``).

    """
    steps = grid.steps(all_offsets(distances))
    values = np.concatenate([[0], levels]).astype(np.int64)
    dependence, difference = _count_neighbours(grid.flat, grid.voxels, steps, values, alpha)
    return NeighbourCounts(dependence[1:], dependence[1:].sum(axis=1), difference[1:])


@kernel
def _count_neighbours(
    flat: NDArray[np.uint16],
    voxels: NDArray[np.int64],
    steps: NDArray[np.int64],
    values: NDArray[np.int64],
    alpha: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    dependence = np.zeros((values.size, steps.size + 1), dtype=np.int64)
    difference = np.zeros((values.size, steps.size + 1), dtype=np.int64)
    for k in range(voxels.size):
        p = voxels[k]
        rank = flat[p]
        level = int(values[rank])
        number = 0
        total = 0
        dependent = 0
        for d in range(steps.size):
            other = flat[p + steps[d]]
            inside = int(other != 0)
            value = int(values[other])
            number += inside
            total += value
            dependent += inside & int(abs(level - value) <= alpha)
        dependence[rank, dependent] += 1
        difference[rank, number] += abs(number * level - total)
    return dependence, difference
