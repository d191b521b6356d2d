"""Grey level run lengths, by direction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.cast import LevelGrid
from hgpscale.kernels.jit import kernel
from hgpscale.kernels.offsets import half_offsets


def count_runs(grid: LevelGrid) -> NDArray[np.int64]:
    """Count runs of voxels of one level by rank and length.

    Directions in which no two voxels of the region lie on one line count nothing, as in pyradiomics: every run
    would be a single voxel there.

    Returns
    -------
    ndarray
        int64, shape ``(13, n_levels, longest)``: runs of rank i + 1 and length j + 1 along each of the 13
        directions of `half_offsets`; `longest` is the box's longest side.

    """
    offsets = half_offsets((1,))
    longest = max(grid.shape) - 2
    reached, touching = _count_running(grid.flat, grid.voxels, grid.steps(offsets), grid.n_levels, longest)
    # A run of length L is counted once at every running length up to L.
    runs = reached[:, 1:, 1:-1] - reached[:, 1:, 2:]
    for d in np.flatnonzero(touching == 0):
        if not _two_on_a_line(grid, offsets[d]):
            runs[d] = 0
    return runs


def _two_on_a_line(grid: LevelGrid, offset: NDArray[np.int64]) -> bool:
    """Whether two voxels of the region, adjacent or not, lie on one line along `offset`."""
    points = np.stack(np.unravel_index(grid.voxels, grid.shape), axis=1)
    axis = int(np.flatnonzero(offset)[0])
    # Slide every voxel along its line to the plane where that axis is 0: voxels of one line meet there.
    feet = points - points[:, axis, None] * offset[axis] * offset
    return bool(np.unique(feet, axis=0).shape[0] < points.shape[0])


@kernel
def _count_running(
    flat: NDArray[np.uint16],
    voxels: NDArray[np.int64],
    steps: NDArray[np.int64],
    n_levels: int,
    longest: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count voxels by rank and by how long the run is when it reaches them; and voxels that touch a predecessor."""
    side = longest + 2
    reached = np.zeros((steps.size, n_levels + 1, side), dtype=np.int64)
    touching = np.zeros(steps.size, dtype=np.int64)
    running = np.zeros(flat.size, dtype=np.int32)
    for d in range(steps.size):
        step = steps[d]
        table = reached[d].reshape(-1)
        touched = 0
        for k in range(voxels.size):
            p = voxels[k]
            level = flat[p]
            before = flat[p - step]
            length = np.int32(running[p - step] * (before == level) + 1)
            running[p] = length
            touched += before != 0
            table[np.uint64(level) * np.uint64(side) + np.uint64(length)] += 1
        touching[d] = touched
    return reached, touching
